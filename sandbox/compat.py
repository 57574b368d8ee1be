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

    text_type = builtins.unicode
    string_types = (str, builtins.unicode)
    integer_types = (int, builtins.long)
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
    try:
        written = _write(fd, data)
    except OSError as error:
        if error.errno != _eintr:
            raise
        written = 0
    if written == len(data):
        return  # nearly always
    view = memoryview(data)[written:]
    while view:
        try:
            view = view[_write(fd, view) :]
        except OSError as error:
            if error.errno != _eintr:
                raise


_path_at_start = sys.path[:]


def import_later(name, _import=__import__, _modules=sys.modules, _path=_path_at_start):
    # type: (str, Any, dict[str, Any], list[str]) -> Any
    """Import a module of the standard library when a function runs already, from where it was at the start.

    For what takes milliseconds to import and few functions need; whoever forks instances imports it ahead.
    """
    known = _modules.get(name)
    if known is None:
        present, sys.path[:] = sys.path[:], _path
        try:
            _import(name)
        finally:
            sys.path[:] = present
        known = _modules[name]
    return known


if PY2:
    # 2.7 has no monotonic clock. CLOCK_MONOTONIC through libc is the one that the engine's deadlines are
    # given in; os.times() counts the same time in steps of 10 ms, too coarse for a remaining time.
    _CLOCK_MONOTONIC = 1
    _clock = []  # type: list[Any]  # once there is one

    def prepare_clock(_import=import_later, _clock=_clock, _constant=_CLOCK_MONOTONIC):
        # type: (Any, list[Any], int) -> None
        """Have the clock ready; it costs 5 ms, in a fresh interpreter, which few functions need to spend."""
        ctypes = _import("ctypes")

        class Timespec(ctypes.Structure):  # type: ignore[misc,name-defined]  # imported late, so it is Any
            _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

        gettime, byref = ctypes.CDLL(None, use_errno=True).clock_gettime, ctypes.byref

        def read():
            # type: () -> int
            now = Timespec()
            gettime(_constant, byref(now))
            return now.seconds * 1000000000 + now.nanoseconds

        _clock.append(read)

    def monotonic_ns(_clock=_clock, _prepare=prepare_clock):
        # type: (list[Any], Any) -> int
        """CLOCK_MONOTONIC in nanoseconds."""
        if not _clock:
            _prepare()
        return _clock[0]()

else:

    def prepare_clock():
        # type: () -> None
        """Nothing: the interpreter has the clock."""

    def monotonic_ns(_monotonic=time.monotonic):
        # type: (Any) -> int
        """CLOCK_MONOTONIC in nanoseconds (a float of seconds is exact to a microsecond for centuries)."""
        return int(_monotonic() * 1e9)
