"""Descriptors 0, 1 and 2 belong to the function; the wire's descriptors are moved out of its way."""

import fcntl
import io
import os
import sys

from sandbox.compat import PY2

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

PRIVATE_FD_FLOOR = 64
"""Above what a function opens in its daily life, far below the limit of 2048 descriptors."""


def claim_fd(fd):
    # type: (int) -> int
    """Move *fd* out of the handler's way and out of its children's reach."""
    # 2.7's subprocess leaves descriptors open, so a daemon started by the handler would hold the reply
    # pipe and the engine would never see EOF after the instance died.
    private = fcntl.fcntl(fd, fcntl.F_DUPFD, PRIVATE_FD_FLOOR)
    os.close(fd)
    set_close_on_exec(private)
    return private


def set_close_on_exec(fd):
    # type: (int) -> None
    """Keep *fd* from programs that this process starts (2.7 has no other way to say so)."""
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.fcntl(fd, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


def give_output_to(log_fd):
    # type: (int) -> None
    """Make *log_fd* standard output and standard error, below every library that writes to them."""
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    if log_fd not in (1, 2):
        os.close(log_fd)


def duplicate_log():
    # type: () -> int
    """A private duplicate of the log: a function may close or redirect 1 and 2."""
    private = fcntl.fcntl(2, fcntl.F_DUPFD, PRIVATE_FD_FLOOR)
    set_close_on_exec(private)
    return private


def open_streams():
    # type: () -> tuple[Any, Any]
    """Set ``sys.stdout`` and ``sys.stderr``, both UTF-8 and unbuffered, and return them.

    Unbuffered, because the log keeps the order in which things were written: a ``print``, then an
    ``os.write``, then a line of a subprocess. ``-u`` gives that on 2.7 and from 3.7 on; 3.6 would still
    hold back text until the end of a line. Characters that UTF-8 cannot carry are written as escapes.
    """
    if not PY2:
        for name, fd in (("stdout", 1), ("stderr", 2)):
            raw = io.open(fd, "wb", 0, closefd=False)  # noqa: SIM115  # the stream's own, for good
            stream = io.TextIOWrapper(raw, "utf-8", "backslashreplace", newline="\n", write_through=True)
            stream.mode = "w"  # type: ignore[misc]  # as the interpreter's own streams have it
            setattr(sys, name, stream)
            setattr(sys, "__%s__" % name, stream)
    return sys.stdout, sys.stderr


def flush(streams):
    # type: (tuple[Any, Any]) -> None
    """Flush what a function put in the place of its standard streams; ours hold nothing back."""
    current = getattr(sys, "stdout", None), getattr(sys, "stderr", None)  # type: tuple[Any, Any]
    if current[0] is streams[0] and current[1] is streams[1]:
        return
    for stream, ours in zip(current, streams):
        if stream is not ours:
            try:
                stream.flush()
            except BaseException:  # noqa: BLE001, S110  # the function's own object: anything may come out of it
                pass
