"""Frames and JSON, the child's end of the wire.

A frame is two big-endian 32-bit lengths, a header and the payload's JSON bytes as they are::

    +----------------+-----------------+-----------------+------------------+
    | header length  | payload length  | header          | payload (JSON)   |
    +----------------+-----------------+-----------------+------------------+

A header is a JSON object, but for the one that comes with every invocation (``CALL``): there a JSON parser would
take a tenth of the time that the whole invocation does. A reply's header is JSON that needs no encoder.

JSON comes from the C scanner and encoder of ``_json`` alone where they exist: ``import json`` is half of a
bare cold start because of its ``re``, and a function that patches the ``json`` module patches its own copy.
The options are those of ``json.loads`` and ``json.dumps``, except that NaN and Infinity are refused.
"""

import fcntl
import struct

from sandbox.compat import PY2, read_some, write_all

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

LENGTHS = struct.Struct(">II")
CALL = struct.Struct(">c16sq")
"""The header of an invocation: a kind, the token, a time in nanoseconds; behind it the request id in UTF-8."""
CALL_KIND = b"I"
"""Its time is the deadline on the monotonic clock. No JSON object begins like this."""
AHEAD_KIND = b"A"
"""Written while others run: its time is how long it may run, and its reply tells how long it ran.

Before that reply the token goes into the log, between two NUL: there its output ends and that of the next begins.
"""
_LENGTHS_BYTES = 8
_READ_BYTES = 65536  # one pipe full
_F_SETPIPE_SZ = 1031  # linux/fcntl.h; the fcntl module has it from 3.10 on
_class_name = type.__dict__["__name__"].__get__  # past a metaclass of the function's own
_LARGE_PIPE_BYTES = 1 << 20  # the most that a process without privileges may ask for (pipe(7))


def _refuse_constant(name):
    # type: (str) -> float
    raise ValueError("%s is not JSON" % name)


def _refuse_object(value):
    # type: (Any) -> Any
    raise TypeError("Object of type %s is not JSON serializable" % _class_name(type(value)))


class _ScannerOptions(object):
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)
    encoding = "utf-8"  # read by 2.7 alone


try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    _options = _ScannerOptions()  # type: Any
    _scan_once = make_scanner(_options)  # type: Any

    def loads(data):
        # type: (bytes) -> Any
        """What ``json.loads`` makes of UTF-8 *data* without white space around it."""
        return _scan_once(data if PY2 else data.decode("utf-8"), 0)[0]

    def dumps(value):
        # type: (Any) -> str
        """The text that ``json.dumps(value, allow_nan=False)`` makes."""
        encode = make_encoder({}, _refuse_object, encode_basestring_ascii, None, ": ", ", ", False, False, False)
        return "".join(encode(value, 0))

    # An interpreter whose _json has other signatures must be found out here, not at the first reply.
    _probe = {"a": [1, 0.5, "b", None]}
    if loads(dumps(_probe).encode("ascii")) != _probe or dumps(_probe) != '{"a": [1, 0.5, "b", null]}':
        raise ImportError("_json answers in a way that is not known here")  # noqa: TRY301  # it ends as a missing one does
except (ImportError, AttributeError, TypeError, ValueError):
    import json

    def loads(data):
        # type: (bytes) -> Any
        """What ``json.loads`` makes of UTF-8 *data*."""
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)

    def dumps(value):
        # type: (Any) -> str
        """The text that ``json.dumps(value, allow_nan=False)`` makes."""
        return json.dumps(value, allow_nan=False, default=_refuse_object)


class FrameReader(object):
    """Reads whole frames from one descriptor; bytes of the next frame that came along are kept."""

    def __init__(self, fd):
        # type: (int) -> None
        self._fd = fd
        self._buffer = b""
        self.has_waited = True  # whether the last frame was not there already when it was asked for

    def read(self, _unpack=LENGTHS.unpack_from, _read=read_some):
        # type: (Any, Any) -> tuple[bytes, bytes] | None
        """The next frame as (header, payload), or None at the end of the stream."""
        buffer = self._buffer
        self.has_waited = False
        while len(buffer) < _LENGTHS_BYTES:
            self.has_waited = True
            data = _read(self._fd, _READ_BYTES)
            if not data:
                return None
            buffer += data
        header_bytes, payload_bytes = _unpack(buffer)
        start = _LENGTHS_BYTES + header_bytes
        end = start + payload_bytes
        if len(buffer) < end:
            self.has_waited = True
            # A list, not +=: a 6 MiB event arrives in a hundred pieces.
            pieces, missing = [buffer], end - len(buffer)
            while missing > 0:
                data = _read(self._fd, max(_READ_BYTES, min(missing, 1 << 20)))
                if not data:
                    return None
                pieces.append(data)
                missing -= len(data)
            buffer = b"".join(pieces)
        self._buffer = buffer[end:]
        return buffer[_LENGTHS_BYTES:start], buffer[start:end]


def _enlarge_pipe(fd, _fcntl=fcntl.fcntl):
    # type: (int, Any) -> None
    """Let more than 64 KiB into the pipe at once: a hundred switches between two processes otherwise for 6 MiB."""
    try:
        _fcntl(fd, _F_SETPIPE_SZ, _LARGE_PIPE_BYTES)
    except (IOError, OSError):
        pass  # EPERM: the pipes of this user have all the memory that they may have


def write_frame(fd, header, _dumps=dumps):
    # type: (int, dict[str, Any], Any) -> None
    """Write one frame without a payload."""
    _write_frame(fd, _dumps(header).encode("ascii"), b"")


def write_reply(fd, kind, token, payload):
    # type: (int, str, str, bytes) -> None
    """Write the frame of a reply; *payload* is JSON already. *kind* and *token* are words that need no encoder."""
    _write_frame(fd, ('{"type":"%s","token":"%s"}' % (kind, token)).encode("ascii"), payload)


def write_reply_with_duration(fd, kind, token, payload, duration_ns):
    # type: (int, str, str, bytes, int) -> None
    """Write the frame of a reply to what was written ahead."""
    head = '{"type":"%s","token":"%s","duration_ns":%d}' % (kind, token, duration_ns)
    _write_frame(fd, head.encode("ascii"), payload)


def _write_frame(fd, head, payload, _pack=LENGTHS.pack, _write=write_all):
    # type: (int, bytes, bytes, Any, Any) -> None
    if len(payload) > _READ_BYTES:
        _enlarge_pipe(fd)
    _write(fd, _pack(len(head), len(payload)) + head + payload)
