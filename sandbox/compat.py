"""The differences between Python 2.7 and 3.x that more than one module meets. Nothing else lives here."""

import _codecs
import errno
import os
import sys
import time

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

PY2 = sys.version_info[0] == 2

if PY2:
    import __builtin__ as builtins

    text_type = unicode  # noqa: F821
    string_types = (str, unicode)  # noqa: F821
    integer_types = (int, long)  # noqa: F821
else:
    import builtins

    text_type = str
    string_types = (str,)
    integer_types = (int,)


def hold_builtins(module):
    # type: (Any) -> None
    """Let *module* find the builtins among its own globals, which come first: a function may patch or empty them."""
    for name, value in vars(builtins).items():
        vars(module).setdefault(name, value)


# 2.7 holds the last exception until the function that handled it returns: its finalizers would run too late.
forget_exception = sys.exc_clear if PY2 else lambda: None  # type: Any


def to_text(value, _decode=_codecs.utf_8_decode):
    # type: (Any, Any) -> str
    """Decode *value* when it is bytes of Python 2 text; other strings are returned as they are."""
    if isinstance(value, bytes):
        # Not value.decode(): 2.7 runs Python code of the codecs for that, which a function may have patched.
        return _decode(value, "replace", True)[0]
    return value


def as_native(value):
    # type: (Any) -> Any
    """*value* from JSON with the ``str`` of this interpreter all through.

    On 2.7 that is UTF-8 bytes: names, paths, variables and keys are bytes there, as on the platform.
    """
    if not PY2:
        return value
    if isinstance(value, text_type):
        return value.encode("utf-8")
    if isinstance(value, dict):
        return {as_native(key): as_native(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_native(each) for each in value]
    return value


def read_some(fd, size, _read=os.read, _eintr=errno.EINTR):
    # type: (int, int, Any, int) -> bytes
    """``os.read`` that goes on after a signal, as 3.x does by itself (PEP 475)."""
    while True:
        try:
            return _read(fd, size)
        except OSError as error:
            if error.errno != _eintr:
                raise


def write_all(fd, data, _write=os.write, _eintr=errno.EINTR):
    # type: (int, bytes, Any, int) -> None
    """Write every byte of *data*, however often the pipe is full or a signal arrives."""
    view = memoryview(data)
    while view:
        try:
            view = view[_write(fd, view) :]
        except OSError as error:
            if error.errno != _eintr:
                raise


if PY2:
    # 2.7 has no monotonic clock. CLOCK_MONOTONIC through libc is the one that the engine's deadlines are
    # given in; os.times() counts the same time in steps of 10 ms, too coarse for a remaining time.
    import ctypes

    class _Timespec(ctypes.Structure):
        _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]  # noqa: RUF012

    _CLOCK_MONOTONIC = 1
    _clock_gettime = ctypes.CDLL(None, use_errno=True).clock_gettime

    def monotonic_ns(_timespec=_Timespec, _gettime=_clock_gettime, _byref=ctypes.byref, _clock=_CLOCK_MONOTONIC):
        # type: (Any, Any, Any, int) -> int
        """CLOCK_MONOTONIC in nanoseconds."""
        now = _timespec()
        _gettime(_clock, _byref(now))
        return now.seconds * 1000000000 + now.nanoseconds

else:

    def monotonic_ns(_monotonic=time.monotonic):
        # type: (Any) -> int
        """CLOCK_MONOTONIC in nanoseconds (a float of seconds is exact to a microsecond for centuries)."""
        return int(_monotonic() * 1e9)
