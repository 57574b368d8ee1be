"""The engine's ends of an instance's pipes: one place to send, to wait and to read, for one thread at a time.

Theory of operation
-------------------
Four things can happen while an invocation runs, and one poll() waits for all of them: a reply comes, output
comes, the process ends (its pidfd becomes readable), or time passes. All descriptors do not block.

Somebody who prints a line at a time would have the engine woken for each. So output that keeps coming is not polled
for: the pipe gets all the room that it can have, and is emptied once a millisecond (``_stop_listening``).

The engine keeps a read end of the request pipe open itself. So a write to an instance that died goes nowhere
instead of raising SIGPIPE, which would end a host that has the signal at its default.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import termios
from contextlib import suppress
from typing import Final

from engine.clock import NS_PER_MS, NS_PER_S
from engine.errors import ProtocolError
from engine.logring import EMPTY, LogCutter, LogRing, LogTail
from engine.protocol import Decoder, Frame, result_in

REPLY: Final = 1
OUTPUT: Final = 2
EXIT: Final = 4
WRITABLE: Final = 8

_READ_BYTES: Final = 65536  # one pipe full
_LARGE_PIPE_BYTES: Final = 1 << 20  # the most that a process without privileges may ask for (pipe(7))
_NONE: Final = bytes(4)
_CHATTY_READS: Final = 16
"""A function whose output was read so often in one invocation is asked for the rest once a millisecond."""
_TICK_NS: Final = NS_PER_MS
_SELECT_FDS: Final = 1024  # FD_SETSIZE: select() takes no descriptor from here on


class Channel:
    """The pipes of one instance. Owns its descriptors; close() gives them back."""

    def __init__(
        self, *, pidfd: int, request_fd: int, request_read_fd: int, reply_fd: int, log_fd: int, log_bytes: int
    ) -> None:
        self.pidfd = pidfd
        self._request_fd = request_fd
        self._request_read_fd = request_read_fd
        self._reply_fd = reply_fd
        self._log_fd = log_fd
        for fd in (request_fd, reply_fd, log_fd):
            os.set_blocking(fd, False)
        self._flags = {reply_fd: REPLY, log_fd: OUTPUT, pidfd: EXIT, request_fd: WRITABLE}
        self._poll = select.poll()
        for fd in (reply_fd, log_fd, pidfd):
            self._poll.register(fd, select.POLLIN)
        # Beyond select()'s range a reply that comes in the last part of a millisecond is found at its end.
        fds = [reply_fd, log_fd, pidfd]
        self._selectable = fds if max(fds) < _SELECT_FDS else []
        self.poll_now: Final = self._poll.poll  # with 0: what has happened, without a word on what it means
        self._decoder = Decoder()
        self._was_fed = False
        self._unsent: bytes | memoryview = b""
        self._sent_bytes = 0
        self._available = bytearray(4)
        self.log_bytes: Final = log_bytes
        self._output_reads = 0
        self._is_listening = True  # whether output wakes us
        self._buffer = bytearray()  # for output that keeps coming
        self.log: LogRing | LogCutter = LogRing(log_bytes)

    def exchange(self, request: bytes, token: str, timeout_ns: int) -> Frame | None:
        """Send *request*, wait once, and read once: what nearly every warm invocation comes down to.

        Flat, because the engine's code is cold whenever the child has run: what is not run costs nothing.

        Returns:
            The reply with *token*; None when it is not there yet, and wait() and receive() have to go on.

        Raises:
            ProtocolError: Something came that is no frame.
        """
        self.send(request)
        if self._unsent:
            return None
        ready = self._poll.poll(timeout_ns // NS_PER_MS)
        if not ready or ready[0][0] != self._reply_fd:  # in the order of registration: the reply comes first
            return None
        data = os.read(self._reply_fd, _READ_BYTES)
        payload = result_in(data, token)
        if payload is not None:
            return Frame("result", token, payload)
        if not data:
            self._ignore(self._reply_fd)
        self._was_fed = True
        for frame in self._decoder.feed(data):
            if frame.token == token:
                return frame
        return None

    def send(self, data: bytes) -> None:
        """Write *data*, now as far as it fits, the rest while wait() is called; in the order it was sent."""
        self._sent_bytes = len(data)
        # What came before a request is no part of its reply: half a frame behind the last one would swallow this one.
        if self._was_fed:
            self._was_fed = False
            self._decoder.forget()
        # A pipe holds 64 KiB, and the settings of a new instance may be longer: the request behind them must wait.
        self._unsent = memoryview(bytes(self._unsent) + data) if self._unsent else data
        self._write()
        if self._unsent:
            _enlarge(self._request_fd)  # 64 KiB at a time is a hundred switches between two processes for 6 MiB
            self._poll.register(self._request_fd, select.POLLOUT)

    def is_unread(self) -> bool:
        """Whether nothing of what was sent last has been read, if all that was sent before it has been."""
        return self._bytes_in(self._request_read_fd) + len(self._unsent) == self._sent_bytes

    def wait(self, timeout_ns: int) -> int:
        """Wait for something to happen, at most *timeout_ns*; return REPLY, OUTPUT, EXIT and WRITABLE as flags."""
        if not self._is_listening:
            return self._wait_for_all_but_output(timeout_ns)
        return self._wait(timeout_ns)

    def _wait(self, timeout_ns: int) -> int:
        if 0 < timeout_ns < NS_PER_MS:
            # poll() counts in milliseconds and rounds up; select() takes the last part of one exactly.
            select.select(self._selectable, (), (), timeout_ns / NS_PER_S)
        ready = 0
        for fd, _ in self._poll.poll(timeout_ns // NS_PER_MS if timeout_ns > 0 else 0):
            ready |= self._flags[fd]
        if ready & WRITABLE:
            self._write()
            if not self._unsent:
                self._poll.unregister(self._request_fd)
            ready &= ~WRITABLE
        return ready

    def receive(self) -> list[Frame]:
        """Return the frames that have come: all that is in the pipe, and no more than a pipe can hold.

        Raises:
            ProtocolError: Something came that is no frame.
        """
        frames: list[Frame] = []
        self._was_fed = True
        for _ in range(_LARGE_PIPE_BYTES // _READ_BYTES):  # an endless flood must not keep us from the clock
            try:
                data = os.read(self._reply_fd, _READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                self._ignore(self._reply_fd)
                break
            if len(data) < _READ_BYTES:
                return frames + self._decoder.feed(data) if frames else self._decoder.feed(data)
            frames += self._decoder.feed(data)
        return frames

    def read_output(self) -> None:
        """Take one pipe full of output into the log."""
        if not self._is_listening:
            with suppress(BlockingIOError), memoryview(self._buffer) as view:
                self.log.feed(view[: os.readv(self._log_fd, [self._buffer])])
            return
        try:
            data = os.read(self._log_fd, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._ignore(self._log_fd)  # closed by everybody who had it: nothing more will come
            return
        self.log.feed(data)
        self._output_reads += 1
        if self._output_reads >= _CHATTY_READS:
            self._stop_listening()

    def read_pending_output(self) -> None:
        """Take all output that was written before now, and not what a helper goes on writing meanwhile."""
        pending = self._bytes_in(self._log_fd)
        while pending > 0:
            try:
                data = os.read(self._log_fd, min(pending, _READ_BYTES))
            except BlockingIOError:
                return
            if not data:
                return
            self.log.feed(data)
            pending -= len(data)

    def discard_output(self) -> None:
        """Forget what was written while nobody asked: it belongs to no invocation."""
        self.read_pending_output()
        self.log.clear()

    def take_pending_log(self) -> LogTail:
        """Return the newest output up to now, and start over. One system call where nothing was written."""
        self.listen()
        fcntl.ioctl(self._log_fd, termios.FIONREAD, self._available)
        if self._available == _NONE and not self.log.fed_bytes:
            return EMPTY
        self.read_pending_output()
        return self.log.take()

    def listen(self) -> None:
        """Be woken by output again."""
        self._output_reads = 0
        if not self._is_listening:
            self._is_listening = True
            self._buffer = bytearray()
            self._poll.register(self._log_fd, select.POLLIN)

    def kill(self) -> None:
        """Send SIGKILL to the process at the other end; it may be gone already."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Give every descriptor back."""
        for fd in (self.pidfd, self._request_fd, self._request_read_fd, self._reply_fd, self._log_fd):
            os.close(fd)

    def widen(self) -> None:
        """Let more than 64 KiB into the pipes to and from the instance, as far as the system allows it."""
        for fd in (self._request_fd, self._reply_fd):
            _enlarge(fd)

    def send_behind(self, data: bytes) -> None:
        """Write *data* behind requests whose replies are still to come; else as send()."""
        self._was_fed = False
        self.send(data)

    def receive_all(self) -> tuple[list[Frame], ProtocolError | None]:
        """Return the frames that have come, also those before something that is no frame, and that trouble."""
        frames: list[Frame] = []
        self._was_fed = True
        try:
            for _ in range(_LARGE_PIPE_BYTES // _READ_BYTES):
                data = os.read(self._reply_fd, _READ_BYTES)
                if not data:
                    self._ignore(self._reply_fd)
                    break
                self._decoder.feed_into(frames, data)
                if len(data) < _READ_BYTES:
                    break
        except BlockingIOError:
            pass
        except ProtocolError as error:
            return frames, error
        return frames, None

    def _stop_listening(self) -> None:
        _enlarge(self._log_fd)
        self._is_listening = False
        self._buffer = bytearray(fcntl.fcntl(self._log_fd, fcntl.F_GETPIPE_SZ))
        self._poll.unregister(self._log_fd)

    def _wait_for_all_but_output(self, timeout_ns: int) -> int:
        """Wait at most a tick, and look for output then; be woken by it again when there is none."""
        ready = 0
        # A pipe that is more than half full fills up before the next tick: whoever prints would have to wait.
        if 2 * self._bytes_in(self._log_fd) < len(self._buffer):
            ready = self._wait(min(timeout_ns, _TICK_NS))
            if not self._bytes_in(self._log_fd):
                self.listen()
                return ready
        return ready | OUTPUT

    def _write(self) -> None:
        try:
            while True:
                written = os.write(self._request_fd, self._unsent)
                if written == len(self._unsent):
                    self._unsent = b""
                    return
                self._unsent = memoryview(self._unsent)[written:]
        except BlockingIOError:
            pass

    def _bytes_in(self, fd: int) -> int:
        fcntl.ioctl(fd, termios.FIONREAD, self._available)
        return int.from_bytes(self._available, sys.byteorder)

    def _ignore(self, fd: int) -> None:
        # A pipe at its end is readable for ever: poll() would return at once again and again.
        if self._flags.pop(fd, None) is not None:
            self._poll.unregister(fd)
            if fd in self._selectable:
                self._selectable.remove(fd)


def _enlarge(pipe_fd: int) -> None:
    """Give the pipe all the room that it can have."""
    with suppress(OSError):  # EPERM: the pipes of this user have all the memory that they may have
        fcntl.fcntl(pipe_fd, fcntl.F_SETPIPE_SZ, _LARGE_PIPE_BYTES)
