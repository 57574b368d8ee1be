"""The pipes between an instance and the engine, made by the zygote, and how the engine gets its ends of them."""

import array
import errno
import os
import socket

from sandbox import stdio
from sandbox.compat import PY2

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

if PY2:
    import _multiprocessing
elif MYPY:
    _multiprocessing = None  # type: Any


class Pipes(object):
    """An instance's three pipes, by whose ends they are; those of both are closed in programs that either starts."""

    def __init__(self):
        # type: () -> None
        self.instances = []  # type: list[int]  # request, reply, log
        self.engines = []  # type: list[int]  # request to write and to read, reply, log

    def open(self):
        # type: () -> None
        """Make them.

        Raises:
            OSError: There are too many descriptors; close() is needed all the same.
        """
        for is_request in (True, False, False):
            reader, writer = os.pipe()
            stdio.set_close_on_exec(reader)
            stdio.set_close_on_exec(writer)
            self.instances.append(reader if is_request else writer)
            self.engines += [writer] if is_request else [reader]
        self.engines.insert(1, os.dup(self.instances[0]))  # why the engine wants it is in engine/channel.py
        stdio.set_close_on_exec(self.engines[1])

    def close(self, fds):
        # type: (list[int]) -> None
        """Close these ends."""
        for fd in fds:
            os.close(fd)


def send_descriptor(control, fd):
    # type: (socket.socket, int) -> None
    """Send one descriptor along with a single byte."""
    if not PY2:
        control.sendmsg([b"d"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    else:
        _send_descriptor_on_2(control.fileno(), fd)


def _send_descriptor_on_2(control_fd, fd):
    # type: (int, int) -> None
    while True:
        try:
            _multiprocessing.sendfd(control_fd, fd)  # no sendmsg before 3.3
        except (OSError, IOError) as error:
            if error.errno != errno.EINTR:  # the SIGCHLD of an instance that ended meanwhile
                raise
        else:
            return
