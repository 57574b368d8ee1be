"""The log: standard output and standard error as one, below every library, the newest 4096 bytes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine import Engine, Status

if TYPE_CHECKING:
    from tests.conftest import FunctionMaker, Invoker


def _total_bytes(log: str, dropped_bytes: int) -> int:
    return len(log.encode("utf-8")) + dropped_bytes


def test_log_keeps_the_order_of_writing_across_all_ways_to_write(invoke: Invoker) -> None:
    """print, sys.stderr, descriptors, shells, subprocesses and C code are one stream; partial lines stay partial."""
    source = """
        from __future__ import print_function
        import ctypes
        import os
        import subprocess
        import sys

        libc = ctypes.CDLL(None)

        def handler(event, context):
            print("1 print")
            sys.stderr.write("2 stderr\\n")
            os.write(1, b"3 descriptor 1\\n")
            print("4 partial", end="")
            sys.stderr.write("|5 stderr")
            os.write(2, b"|6 descriptor 2|")
            os.system("echo 7 system")
            sys.stdout.write("8 stdout|")
            subprocess.call(["sh", "-c", "echo 9 subprocess; echo 10 its stderr >&2"])
            libc.puts(b"11 C code")
            libc.fflush(None)
            print("12 end", file=sys.stderr)
    """
    expected = (
        "1 print\n2 stderr\n3 descriptor 1\n4 partial|5 stderr|6 descriptor 2|7 system\n"
        "8 stdout|9 subprocess\n10 its stderr\n11 C code\n12 end\n"
    )
    assert expected == invoke(source).log


def test_log_is_empty_when_nothing_was_written(invoke: Invoker) -> None:
    """The engine adds nothing of its own."""
    result = invoke("def handler(event, context):\n    return 1\n")

    assert ("", 0) == (result.log, result.log_dropped_bytes)


def test_log_has_what_loading_and_initializing_wrote(engine: Engine, make_function: FunctionMaker) -> None:
    """On a cold start the log begins with the import; on a warm one none of that comes again."""
    function = make_function(
        """
        print("loading")

        def initializer(context):
            print("initializing")

        def handler(event, context):
            print("handling %d" % event)
        """,
        initializer="index.initializer",
    )

    assert "loading\ninitializing\nhandling 1\n" == engine.invoke(function, 1).log
    assert "handling 2\n" == engine.invoke(function, 2).log


def test_log_takes_text_beyond_ascii_from_print(invoke: Invoker) -> None:
    """Whatever the host's locale is; most functions of this platform print Chinese."""
    source = """
        # -*- coding: utf-8 -*-
        import sys

        def handler(event, context):
            print(u"\\u4f60\\u597d")
            print("你好")
            print(event)
            sys.stderr.write(u"\\U0001f389\\n")
            return sys.stdout.encoding.upper()
    """
    result = invoke(source, "grüß")

    assert "你好\n你好\ngrüß\n🎉\n" == result.log
    assert "UTF-8" == result.value


def test_log_replaces_what_is_not_utf8(invoke: Invoker) -> None:
    """Bytes of other encodings and of none do no harm to the text around them."""
    source = """
        import os

        def handler(event, context):
            os.write(1, b"before \\xff\\xfe\\x80 after\\n")
            os.write(1, b"\\x00\\x1b[31mred\\n")
            return "done"
    """
    result = invoke(source)

    assert "done" == result.value
    before, after = result.log.splitlines()
    assert before.startswith("before \ufffd")
    assert before.endswith(" after")
    assert "\x00\x1b[31mred" == after


@pytest.mark.parametrize(("character", "count"), [("x", 5000), ("ü", 2500), ("你", 2000), ("🎉", 1500)])
@pytest.mark.parametrize("tail", ["", "1", "12", "123"])
def test_log_is_cut_at_a_character(invoke: Invoker, character: str, count: int, tail: str) -> None:
    """The newest 4096 bytes, less the rest of a character that the cut would split; nothing is lost unsaid."""
    source = """
        import os

        def handler(event, context):
            os.write(1, event.encode("utf-8"))
    """
    text = character * count + tail
    result = invoke(source, text)

    size = len(character.encode("utf-8"))
    assert text[-((4096 - len(tail)) // size + len(tail)) :] == result.log
    assert len(text.encode("utf-8")) == _total_bytes(result.log, result.log_dropped_bytes)


def test_log_at_exactly_its_size_drops_nothing(invoke: Invoker) -> None:
    """4096 bytes fit; the next one pushes the first one out."""
    source = "import os\n\ndef handler(event, context):\n    os.write(1, b'a' + b'b' * event)\n"

    full, over = invoke(source, 4095), invoke(source, 4096)

    assert ("a" + "b" * 4095, 0) == (full.log, full.log_dropped_bytes)
    assert ("b" * 4096, 1) == (over.log, over.log_dropped_bytes)


def test_log_size_is_the_engines_choice(make_function: FunctionMaker) -> None:
    """log_bytes=10 keeps ten."""
    function = make_function("def handler(event, context):\n    print('0123456789abcdef')\n")
    with Engine(log_bytes=10) as engine:
        result = engine.invoke(function, None)

    assert ("789abcdef\n", 7) == (result.log, result.log_dropped_bytes)


@pytest.mark.slow
def test_log_of_a_hundred_megabytes_ends_with_its_last_line(invoke: Invoker) -> None:
    """Output is read while the function runs: it ends, and its last words are there."""
    source = """
        import sys

        def handler(event, context):
            line = "x" * 1023 + "\\n"
            block = line * 1024
            for _ in range(100):
                sys.stdout.write(block)
            print("the last line")
            return "done"
    """
    result = invoke(source, timeout_s=60.0)

    last = "the last line\n"
    assert "done" == result.value
    assert result.log.endswith("x\n" + last)
    assert 100 * 1024 * 1024 + len(last) - 4096 == result.log_dropped_bytes


def test_log_keeps_what_came_before_a_failure(invoke: Invoker) -> None:
    """Words first, traceback after them."""
    result = invoke("def handler(event, context):\n    print('working')\n    raise ValueError('bad')\n")

    assert result.log.startswith("working\nTraceback (most recent call last):\n")
    assert result.log.endswith("ValueError: bad\n")


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("os._exit(1)", Status.EXITED),
        ("os.kill(os.getpid(), 9)", Status.EXITED),
        pytest.param("time.sleep(30)", Status.TIMEOUT, marks=pytest.mark.slow),
    ],
)
def test_log_keeps_what_came_before_a_death(invoke: Invoker, ending: str, status: Status) -> None:
    """What was in the pipe when the process ended is read to the end."""
    source = f"""
        import os
        import sys
        import time

        def handler(event, context):
            print("x" * 60000)
            sys.stdout.write("last words")
            {ending}
    """
    result = invoke(source, timeout_s=1.0 if status is Status.TIMEOUT else 30.0)  # to write it takes a moment

    assert status is result.status
    assert result.log.endswith("x\nlast words")


def test_log_shows_nothing_of_an_earlier_invocation(engine: Engine, make_function: FunctionMaker) -> None:
    """Also when that one ended without a line end, in an error, or with more than fits."""
    function = make_function(
        """
        import sys

        def handler(event, context):
            sys.stdout.write(event["write"])
            if event.get("fail"):
                raise ValueError("old")
        """
    )
    engine.invoke(function, {"write": "no line end"})
    second = engine.invoke(function, {"write": "y" * 10_000})
    third = engine.invoke(function, {"write": "failing", "fail": True})
    fourth = engine.invoke(function, {"write": "new"})

    assert [False] * 3 == [each.cold_start for each in (second, third, fourth)]
    assert "y" * 4096 == second.log
    assert third.log.startswith("failing")
    assert ("new", 0) == (fourth.log, fourth.log_dropped_bytes)


def test_log_is_complete_when_the_reply_arrives(engine: Engine, make_function: FunctionMaker) -> None:
    """The last line before return belongs to this invocation, every time, although it takes another pipe."""
    function = make_function("def handler(event, context):\n    print('%d' % event * 400)\n    print(event)\n")

    logs = [engine.invoke(function, n).log.splitlines()[-1] for n in range(200)]

    assert [str(n) for n in range(200)] == logs


def test_output_that_the_function_buffers_itself_arrives(engine: Engine, make_function: FunctionMaker) -> None:
    """A replaced sys.stdout is flushed at the end of the invocation that wrote to it."""
    function = make_function(
        """
        import io
        import os
        import sys

        def handler(event, context):
            sys.stdout = io.open(os.dup(1), "w", encoding="utf-8")
            sys.stdout.write(u"kept back %d" % event)
        """
    )

    assert ["kept back 1", "kept back 2"] == [engine.invoke(function, n).log for n in (1, 2)]
