"""The engine's end of a zygote's control socket: commands go out, answers, descriptors and reports of exits come in.

Theory of operation
-------------------
Many threads ask and wait at once, each for its own answer or for one exit. Whoever waits while nobody reads becomes
the reader: it reads without holding the lock, puts down what has come for everybody, and wakes the others. So a thread
that waits for a slow death keeps nobody from a start.

Descriptors come with single bytes: a frame announces how many, the bytes follow, and the answer that they belong to is
the next frame. The kernel gives the bytes up to one that has a descriptor, and then that, so the place in the stream
tells which descriptor it is, also when another one was left out because this process has too many.
"""

from __future__ import annotations

import array
import itertools
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from engine import protocol
from engine.clock import NS_PER_MS, NS_PER_S, monotonic_ns
from engine.errors import InstanceStartError, ProtocolError
from engine.readiness import is_ready

_SILENCE_NS: Final = 20 * NS_PER_MS
"""An instance that was killed is reported in 2 ms; one that is traced only when the zygote is asked to look again."""

_MAX_HEADER_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 64 * 1024
_ROOM_FOR_ONE: Final = socket.CMSG_LEN(array.array("i").itemsize)


@dataclass
class Answer:
    """What a zygote answered: the header of its frame, and the descriptors before it."""

    header: dict[str, Any]
    fds: list[int] = field(default_factory=list)


class Control:
    """One connection to a zygote. Thread-safe. Owns its socket; close() gives it back.

    Args:
        end: Our end of the socket.
        story: Makes what is told of a trouble out of its first words.
        nudge: Called again and again while somebody waits and nothing comes.
    """

    def __init__(self, end: socket.socket, story: Callable[[str], str], nudge: Callable[[], None]) -> None:
        self._socket = end
        self._socket.settimeout(0)
        self._story = story
        self._nudge = nudge
        self._sending = threading.Lock()
        self._serials = itertools.count(1)
        self._garbled = False
        self._lock = threading.RLock()  # see pool.py for why nothing enters the condition itself
        self._changed = threading.Condition(self._lock)
        self._is_read = False
        self._awaited = {0}  # serials; 0 is the first word of a zygote
        self._answers: dict[int, Answer] = {}
        self._exits: dict[int, dict[str, Any]] = {}
        self._stream = _Stream()

    @property
    def is_garbled(self) -> bool:
        """Whether it was cut in the middle of a command: what would follow is misread."""
        return self._garbled

    def first_word(self, timeout_ns: int) -> dict[str, Any]:
        """Return the header that a zygote begins with.

        Raises:
            InstanceStartError: It died, or stayed silent.
            ProtocolError: It sent something that is no frame.
        """
        return self._answer(0, timeout_ns).header

    def command(self, header: Mapping[str, Any], timeout_ns: int) -> Answer:
        """Send *header* and return the answer. A process that it tells of is new: no exit of it was told before.

        Raises:
            InstanceStartError: The zygote is gone, or stayed silent.
            ProtocolError: It sent something that is no frame.
        """
        serial = next(self._serials)
        frame = protocol.encode({**header, "serial": serial})  # before anything is sent: it raises for what is no JSON
        with self._lock:
            self._awaited.add(serial)
        try:
            self._send(frame)
            return self._answer(serial, timeout_ns)
        finally:
            # Interrupted, perhaps: then the answer comes late and is nobody's, and its instance finds its pipes closed.
            self._forget(serial)

    def wait_exit(self, pid: int, timeout_ns: int) -> dict[str, Any]:
        """Return the header that tells how *pid* ended.

        Raises:
            InstanceStartError: The zygote is gone, or stayed silent.
            ProtocolError: It sent something that is no frame.
        """
        with self._lock:
            self._wait(lambda: pid in self._exits, timeout_ns)
            return self._exits.pop(pid)

    def shut_down(self) -> None:
        """Let the zygote read the end of the stream."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket, and every descriptor that came and was not asked for."""
        close_all([*self._stream.fds(), *(fd for answer in self._answers.values() for fd in answer.fds)])
        self._answers.clear()
        self._socket.close()

    def _send(self, frame: bytes) -> None:
        with self._sending:
            unsent = memoryview(frame)
            try:
                while unsent:
                    try:
                        unsent = unsent[self._socket.send(unsent, socket.MSG_NOSIGNAL) :]
                    except BlockingIOError:
                        is_ready(self._socket.fileno(), select.POLLOUT, NS_PER_S)
            except BaseException as error:
                # A KeyboardInterrupt in between leaves half a command in the socket, and everything behind it misread.
                self._garbled = True
                if isinstance(error, OSError):
                    raise InstanceStartError(self._story(f"the zygote cannot be reached: {error}")) from error
                raise

    def _answer(self, serial: int, timeout_ns: int) -> Answer:
        with self._lock:
            self._wait(lambda: serial in self._answers, timeout_ns)
            return self._answers.pop(serial)

    def _forget(self, serial: int) -> None:
        with self._lock:
            self._awaited.discard(serial)
            answer = self._answers.pop(serial, None)
        if answer is not None:
            close_all(answer.fds)

    def _wait(self, has_come: Callable[[], bool], timeout_ns: int) -> None:
        """Wait until *has_come*; called with the lock, which is not held while this thread reads."""
        deadline_ns = monotonic_ns() + timeout_ns
        while not has_come():
            if self._is_read:
                if not self._changed.wait(max(0, deadline_ns - monotonic_ns()) / NS_PER_S) and not has_come():
                    raise InstanceStartError(self._story("the zygote stayed silent"))
                continue
            self._is_read = True
            answers: list[Answer] = []
            try:
                self._lock.release()
                answers = self._read(deadline_ns)
            finally:
                self._lock.acquire()
                self._is_read = False
                for answer in answers:  # first of all: nobody tells it twice, and who waits for an exit would for 30 s
                    self._put_down(answer)
                self._changed.notify_all()  # also when this thread was interrupted, or the zygote died

    def _read(self, deadline_ns: int) -> list[Answer]:
        while not is_ready(self._socket.fileno(), select.POLLIN, min(_SILENCE_NS, deadline_ns - monotonic_ns())):
            if monotonic_ns() >= deadline_ns:
                raise InstanceStartError(self._story("the zygote stayed silent"))
            self._nudge()
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_READ_BYTES, _ROOM_FOR_ONE, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            data, ancillary = b"", []
        if not data:
            raise InstanceStartError(self._story("the zygote died"))
        try:
            return self._stream.feed(data, [array.array("i", rights)[0] for _, _, rights in ancillary])
        except ValueError as error:
            raise ProtocolError(self._story(str(error))) from None

    def _put_down(self, answer: Answer) -> None:
        header = answer.header
        if header.get("type") == "exited":
            self._exits[header["pid"]] = header
        elif header.get("serial") in self._awaited:
            self._exits.pop(header.get("pid", 0), None)  # of an earlier owner of the number, whom nobody asked for
            self._answers[header["serial"]] = answer
        else:
            close_all(answer.fds)


class _Stream:
    """Bytes and descriptors in, answers out."""

    def __init__(self) -> None:
        self._buffer = b""
        self._passed_bytes = 0
        self._fd_at: dict[int, int] = {}
        self._announced = 0
        self._collected: list[int] = []

    def feed(self, data: bytes, fds: list[int]) -> list[Answer]:
        """Return the answers that are complete with *data*, whose last byte came with *fds*, one or none.

        Raises:
            ValueError: The bytes are no frames.
        """
        self._buffer += data
        for fd in fds:
            self._fd_at[self._passed_bytes + len(self._buffer) - 1] = fd
        answers = []
        while (header := self._next_header()) is not None:
            if header.get("type") == "descriptors":
                self._announced = int(header["count"])
            else:
                answers.append(Answer(header, self._collected))
                self._collected = []
        return answers

    def fds(self) -> list[int]:
        """Return the descriptors that belong to no answer yet."""
        return [*self._collected, *self._fd_at.values()]

    def _next_header(self) -> dict[str, Any] | None:
        while self._announced and self._buffer:
            fd = self._fd_at.pop(self._passed_bytes, None)
            self._collected += [] if fd is None else [fd]
            self._announced -= 1
            self._pass(1)
        prefix = protocol.PREFIX_BYTES
        if self._announced or len(self._buffer) < prefix:
            return None
        size = prefix + int.from_bytes(self._buffer[:4], "big")  # frames of a zygote have no payload
        if size > _MAX_HEADER_BYTES:
            raise ValueError(f"a frame of {size} bytes from the zygote")
        if len(self._buffer) < size:
            return None
        text = self._buffer[prefix:size]
        self._pass(size)
        try:
            header = orjson.loads(text)
        except ValueError:
            header = None
        if isinstance(header, dict):
            return header
        raise ValueError(f"a frame that is no JSON object from the zygote: {text[:80]!r}")

    def _pass(self, count: int) -> None:
        self._passed_bytes += count
        self._buffer = self._buffer[count:]


def close_all(fds: list[int]) -> None:
    """Close every one of *fds*."""
    for fd in fds:
        os.close(fd)
