"""The child's end of the wire: its JSON is json's to the letter, and its frames are the engine's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine import protocol
from engine.protocol import Decoder, Frame

if TYPE_CHECKING:
    from tests.sandbox.conftest import Trial

HOW = {"c": "", "python": "sys.modules['_json'] = None\n"}
"""With the interpreter's own C code, and where it has none that is known."""

VALUES = """
import collections

class Text(str): pass
class Whole(int): pass
class Broken(float): pass
class Items(list): pass
class Pairs(dict): pass
Point = collections.namedtuple(str("Point"), str("x y"))

VALUES = [
    None, True, False, 0, -1, 2**53 + 1, 2**63, -2**64, 10**400, Whole(7),
    0.0, -0.0, 0.1, 1e16, 1e22, 5e-324, 1.7976931348623157e308, 1e-7, 123456789.123456789, Broken(1.5),
    "", "text", "é界", "\\U0001f600", "\\ud800", "\\udc00\\ud83d", "\\0\\x1f\\x7f\\u2028",
    '"\\\\/', Text("t"), b"bytes".decode(),
    [], {}, (), [[]], [{}], {"": {}}, (1, (2,)), Items([1]), Pairs(a=1), Point(1, 2),
    collections.OrderedDict([("b", 1)]),
    {"k": [1, 2.5, "x", None, {"n": True}]}, {1: 1}, {1.5: 1}, {None: 1}, {True: 1}, {Text("t"): Whole(1)},
    "x" * 100000, list(range(1000)),
]
nested = 0
for _ in range(200):
    nested = {"n": [nested]}
VALUES.append(nested)
"""


@pytest.mark.parametrize("how", HOW)
def test_dumps_is_the_functions_own_json(trial: Trial, how: str) -> None:
    """Separators, escapes, digits, keys and subclasses: the text that json.dumps makes in the same interpreter."""
    trial(
        HOW[how]
        + VALUES
        + """
if PY2:
    VALUES += [b"bytes", "é".encode("utf-8"), {b"k": b"v"}, 2**63 - 1]
else:
    import enum
    VALUES += [enum.IntEnum("Number", "one two").one]
from sandbox.wire import dumps
for value in VALUES:
    assert dumps(value) == json.dumps(value, allow_nan=False), repr(value)[:200]
"""
    )


def test_dumps_refuses_what_json_refuses(trial: Trial) -> None:
    """With an exception of the same class, and in the words of the newer versions on every one."""
    trial(
        """
        from sandbox.wire import dumps
        circle = []
        circle.append(circle)
        deep = []
        for _ in range(100000):
            deep = [deep]
        refused = [
            float("nan"), float("inf"), -float("inf"), [{"k": float("nan")}], {float("nan"): 1},
            set(), object(), 1j, len, [object()], {(1, 2): 3}, circle, deep, b"\\xff" if PY2 else b"bytes",
        ]
        for value in refused:
            ours, theirs = raised(dumps, value), raised(lambda: json.dumps(value, allow_nan=False))
            assert type(ours) is type(theirs), (type(value), ours, theirs)
        assert "Object of type set is not JSON serializable" == str(raised(dumps, [set()]))
        assert str(raised(dumps, float("nan"))).startswith("Out of range float values are not JSON compliant")
        assert "Circular reference detected" == str(raised(dumps, circle))
        """
    )


@pytest.mark.parametrize("how", HOW)
def test_loads_is_the_functions_own_json(trial: Trial, how: str) -> None:
    """Values and their types, on 2.7 unicode and long among them; NaN and Infinity, which are no JSON, are refused."""
    trial(
        HOW[how]
        + VALUES
        + """
from sandbox.wire import loads
texts = [json.dumps(value) for value in VALUES]
texts += ['"é界"', '"\U0001f600"', '{"a":1,"a":2}', "1E400", "-0", "1e5", '"\\\\u00e9\\\\ud800"', "[ 1 ,\\n2 ]"]
for text in texts:
    ours, theirs = loads(text.encode("utf-8")), json.loads(text)
    assert (ours, repr(ours)) == (theirs, repr(theirs)), text[:200]
for text in (b"NaN", b"[Infinity]", b"-Infinity", b"[1,]", b"{'a': 1}", b'"\\n"'):
    raised(loads, text)
"""
    )


def test_frames_are_the_engines(trial: Trial) -> None:
    """Written there and read here: header, payload, and a payload that takes many writes."""
    program = """
        from sandbox.wire import write_frame, write_reply
        write_reply(1, "result", "one", b"[1]")
        write_frame(1, {"token": "two", "type": "done"})
        write_reply(1, "result", "three", b"x" * 3000000)
    """

    assert [
        Frame("result", "one", b"[1]"),
        Frame("done", "two", b""),
        Frame("result", "three", b"x" * 3_000_000),
    ] == Decoder().feed(trial(program))


def test_frames_of_the_engine_are_read(trial: Trial) -> None:
    """However the pipe cuts them; the end of the stream is None, in the middle of a frame as well."""
    frames = protocol.encode({"type": "load", "deadline_ns": 2**60}, b'"\xc3\xa9"') + protocol.encode({"n": [1]})
    program = """
        import binascii
        from sandbox.wire import FrameReader, loads
        stream = binascii.unhexlify(sys.argv[2])
        for size in (1, 7, 8, 9, 50, len(stream)):
            given, taken = os.pipe()
            if os.fork() == 0:
                for at in range(0, len(stream), size):
                    os.write(taken, stream[at:at + size])
                os.write(taken, stream[:20])
                os._exit(0)
            os.close(taken)
            reader = FrameReader(given)
            header, payload = reader.read()
            assert (loads(header), payload) == ({"type": "load", "deadline_ns": 2**60}, '"é"'.encode("utf-8"))
            assert reader.read() == (b'{"n":[1]}', b"")
            assert [reader.read(), reader.read()] == [None, None]
    """
    trial(program, frames.hex())


def test_call_of_the_engine_is_read(trial: Trial) -> None:
    """The header of an invocation is packed there and unpacked here: kind, token, deadline, and a name of any text."""
    frame = protocol.encode_call("0123456789abcdef", 2**62, "request é界", b"[1]")
    program = """
        import binascii
        from sandbox.wire import CALL, CALL_KIND, FrameReader
        given, taken = os.pipe()
        os.write(taken, binascii.unhexlify(sys.argv[2]))
        header, payload = FrameReader(given).read()
        assert CALL.unpack_from(header) == (CALL_KIND, b"0123456789abcdef", 2**62)
        assert header[CALL.size:].decode("utf-8") == "request é界"
        assert payload == b"[1]"
    """
    trial(program, frame.hex())


def test_reply_is_the_frame_that_the_engine_looks_for_first(trial: Trial) -> None:
    """Byte for byte: a reply that were spelt otherwise would be found too, but later."""
    program = """
        from sandbox.wire import write_reply
        write_reply(1, str("result"), str("0123456789abcdef"), b"[1]")
    """
    data = trial(program)

    assert b"[1]" == protocol.result_in(data, "0123456789abcdef")
    assert [Frame("result", "0123456789abcdef", b"[1]")] == Decoder().feed(data)
