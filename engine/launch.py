"""Start methods: an instance forked from a zygote, or an interpreter of its own started by one.

Theory of operation
-------------------
One zygote process for each runtime is the parent of all its instances, so the host program never is: it gets
no SIGCHLD for them, and its own waitpid(-1) cannot take their status. (The zygote itself is a child of the
host. Whoever reaps it, its pidfd tells that it ended.)

The zygote is given a pidfd of this process and kills everything when that becomes readable; the end of the
control socket is a second sign, and the only one needed when an engine is closed. See ``sandbox/zygote.py``.

The control socket is used by one thread at a time. A command's answer may come behind reports of exits; those
are kept for whoever asks for them.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson

from engine import proc, protocol
from engine.channel import Channel
from engine.clock import NS_PER_MS, NS_PER_S, monotonic_ns
from engine.errors import InstanceStartError, InvalidFunctionError, ProtocolError
from engine.isolation import Container, unavailable
from engine.platform import BARE_ENVIRONMENT
from engine.runtimes import Interpreter

START_TIMEOUT_NS: Final = 30 * NS_PER_S
"""How long an interpreter may take until it speaks: a thousand times what it takes on an idle machine."""

_MAX_CONTROL_HEADER_BYTES: Final = 64 * 1024

_SANDBOX_FOLDER: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sandbox")
"""By its place and not by its name: a host may have a package 'sandbox' of its own, or change its import path."""

_ZYGOTE_ENVIRONMENT: Final = {
    **BARE_ENVIRONMENT,
    "PYTHONIOENCODING": "utf-8:backslashreplace",  # 2.7 has no other way to a standard output of UTF-8
}
"""Only what an interpreter needs to start; a function's own variables come with its first frame."""


@dataclass(frozen=True)
class ExitReport:
    """How an instance ended, from the process that reaped it. Nothing it started is alive by then.

    Attributes:
        status: As from wait(2): ``os.waitstatus_to_exitcode`` reads it.
        cpu_us: Processor time of the instance and of what it waited for, in microseconds.
    """

    status: int
    cpu_us: int

    def describe(self) -> str:
        """Name the exit status or the signal."""
        code = os.waitstatus_to_exitcode(self.status)
        if code >= 0:
            return f"exit status {code}"
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"


@dataclass(frozen=True)
class ZygoteSpec:
    """What the instances of one zygote have in common.

    Attributes:
        interpreter: The Python that they run on.
        preload: Modules that the zygote has imported already.
        search_path: Where these are looked for before the interpreter's own packages.
        container: What their containers have in common, when each of them is in one.
    """

    interpreter: Interpreter
    preload: tuple[str, ...] = ()
    search_path: tuple[str, ...] = ()
    container: Container | None = None


@dataclass(frozen=True)
class Process:
    """An instance's process: its number, and its pipes."""

    pid: int
    channel: Channel


class Zygote:
    """A warmed interpreter that forks instances. Thread-safe.

    Raises:
        InstanceStartError: The interpreter died or stayed silent before its first frame.
        InvalidFunctionError: A module that it should preload cannot be imported.
        IsolationUnavailableError: The kernel refused something that containers are made of.
    """

    def __init__(self, spec: ZygoteSpec) -> None:
        self.spec = spec
        self.interpreter = spec.interpreter
        self._lock = threading.Lock()
        self._closed = False
        self._garbled = False
        self._serials = itertools.count(1)
        self._exits: dict[int, ExitReport] = {}
        self._living: set[int] = set()
        self._decoder_buffer = b""
        self._stderr_fd = os.memfd_create("fgengine-zygote", os.MFD_CLOEXEC)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ExitStack() as on_failure:
            on_failure.callback(self._release)
            with theirs:
                self._process = self._start_process(theirs)
            self.pid = self._process.pid
            self._pidfd = os.pidfd_open(self.pid)
            on_failure.callback(os.close, self._pidfd)
            on_failure.callback(self._kill)
            self._control.settimeout(0)
            self._await_ready()
            on_failure.pop_all()

    def start(
        self,
        method: str,
        environment: Mapping[str, str],
        log_bytes: int,
        *,
        ahead: bool = False,
        place: Mapping[str, Any] | None = None,
    ) -> Process:
        """Start an instance by *method*, ``fork`` or ``spawn``, and return it with its pipes open.

        One that is started *ahead* of its use takes its time to be quick when it is needed. One in a container that
        is given its *place* moves in before its interpreter starts; another one does so when it knows its function.

        Raises:
            InstanceStartError: The zygote is gone, or the system refused.
        """
        with ExitStack() as theirs, ExitStack() as ours:
            request_read, request_write = _pipe(theirs, ours)
            reply_read, reply_write = _pipe(ours, theirs)
            log_read, log_write = _pipe(ours, theirs)
            with self._lock:
                self._check_open()
                header = {"method": method, "environment": dict(environment), "ahead": ahead, "place": place}
                pid = self._command(header, (request_read, reply_write, log_write))
                try:
                    pidfd = os.pidfd_open(pid)
                except OSError as error:
                    raise InstanceStartError(f"instance {pid} ended before it was reached: {error}") from error
                ours.callback(os.close, pidfd)
                if proc.parent(pid) != self.pid:  # reaped already, and its number given to somebody else
                    raise InstanceStartError(f"instance {pid} ended before it was reached")
            kept_request_read = os.dup(request_read)
            ours.callback(os.close, kept_request_read)
            channel = Channel(
                pidfd=pidfd,
                request_fd=request_write,
                request_read_fd=kept_request_read,
                reply_fd=reply_read,
                log_fd=log_read,
                log_bytes=log_bytes,
            )
            ours.pop_all()
        return Process(pid, channel)

    def wait_exit(self, pid: int) -> ExitReport:
        """Wait until instance *pid* was reaped and nothing that it started is alive.

        Raises:
            InstanceStartError: The zygote is gone; its instances died with it.
        """
        with self._lock:
            self._check_open()
            deadline_ns = monotonic_ns() + START_TIMEOUT_NS
            while pid not in self._exits:
                header = self._next_frame(deadline_ns)
                if header.get("type") == "exited":  # else a late answer, see _await_frame
                    self._keep_exit(header)
            return self._exits.pop(pid)

    def is_unused(self) -> bool:
        """Whether no instance of it is known to live; none does when it is dead."""
        return not self._living or not self.is_alive()

    def is_alive(self) -> bool:
        """Whether the zygote's process runs."""
        return not self._closed and not _is_readable(self._pidfd, 0)

    def can_start(self) -> bool:
        """Whether it can start instances: one whose control socket was cut in the middle of a command cannot."""
        return not self._garbled and self.is_alive()

    def close(self) -> None:
        """End the zygote with everything below it, and wait until all is gone. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
            if not _is_readable(self._pidfd, START_TIMEOUT_NS):
                self._kill()
            self._process.wait()
            self._release()
            os.close(self._pidfd)

    def abandon(self) -> None:
        """Forget the zygote in a forked copy of the host: close our copies of its descriptors, touch nothing else."""
        self._process.returncode = 0  # else Popen would warn of a child that is not even ours
        self._release()
        os.close(self._pidfd)

    def _check_open(self) -> None:
        # Another thread may have found it dead and closed it, while this one was on its way.
        if self._closed:
            raise InstanceStartError(f"the zygote of {self.interpreter.runtime} was closed")

    def _start_process(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        with ExitStack() as closing:
            engine_pidfd = os.pidfd_open(os.getpid())
            closing.callback(os.close, engine_pidfd)
            program = _sandbox_program()
            descriptors = (theirs.fileno(), engine_pidfd)
            options: dict[str, Any] = {"preload": self.spec.preload, "search_path": self.spec.search_path}
            role = "zygote"
            if self.spec.container is not None:
                role, options["house"] = "house", self.spec.container.wishes()
            arguments = [role, *map(str, descriptors), str(os.getpid()), json.dumps(options)]
            try:
                return subprocess.Popen(
                    [self.interpreter.executable, "-s", "-u", program, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr_fd,
                    pass_fds=descriptors,
                    cwd="/",
                    env=_ZYGOTE_ENVIRONMENT,
                    start_new_session=True,
                )
            except OSError as error:
                raise InstanceStartError(f"{self.interpreter.executable} cannot be run: {error}") from error

    def _command(self, start: Mapping[str, Any], descriptors: tuple[int, ...]) -> int:
        serial = next(self._serials)
        header = {"type": "start", "serial": serial, "seed": int.from_bytes(os.urandom(6), "big"), **start}
        command = protocol.encode(header)  # before anything is sent: it raises for what JSON cannot express
        try:
            self._control.settimeout(None)
            for fd in descriptors:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))]
                self._control.sendmsg([b"d"], rights, socket.MSG_NOSIGNAL)
            self._control.sendall(command, socket.MSG_NOSIGNAL)
        except BaseException as error:
            # A KeyboardInterrupt in between leaves half a command in the socket, and everything behind it misread.
            self._garbled = True
            if isinstance(error, OSError):
                raise InstanceStartError(self._story(f"the zygote cannot be reached: {error}")) from error
            raise
        finally:
            self._control.settimeout(0)
        answer = self._await_frame("started", serial, monotonic_ns() + START_TIMEOUT_NS)
        pid = int(answer["pid"])
        self._exits.pop(pid, None)  # of an earlier owner of the number, whose start was interrupted
        self._living.add(pid)
        return pid

    def _await_ready(self) -> None:
        header = self._next_frame(monotonic_ns() + START_TIMEOUT_NS)
        if header.get("type") == "unavailable":
            raise unavailable(str(header.get("what")), str(header.get("error")))
        if header.get("type") == "unloadable":
            raise InvalidFunctionError("preload", header.get("module"), f"cannot be imported: {header.get('error')}")
        if header.get("type") != "ready":
            raise ProtocolError(self._story(f"an unexpected frame from the zygote: {header!r}"))

    def _await_frame(self, kind: str, serial: int, deadline_ns: int) -> dict[str, Any]:
        """Return the frame of *kind* that answers the command *serial*, keeping the exits that come before it.

        The answer to a command whose caller was interrupted comes late, and is nobody's: that instance finds its
        pipes closed, and ends.
        """
        while True:
            header = self._next_frame(deadline_ns)
            if header.get("type") == "exited":
                self._keep_exit(header)
            elif header.get("serial") != serial:
                continue
            elif header.get("type") == kind:
                return header
            elif header.get("type") == "failed":
                raise InstanceStartError(f"the system refused a new instance: {header.get('error')}")
            else:
                raise ProtocolError(self._story(f"an unexpected frame from the zygote: {header!r}"))

    def _keep_exit(self, header: dict[str, Any]) -> None:
        self._exits[header["pid"]] = ExitReport(header["status"], header["cpu_us"])
        self._living.discard(header["pid"])

    def _next_frame(self, deadline_ns: int) -> dict[str, Any]:
        """Return the next frame's header; frames of a zygote have no payload."""
        prefix = protocol.PREFIX_BYTES
        while True:
            buffer = self._decoder_buffer
            if len(buffer) >= prefix:
                size = prefix + int.from_bytes(buffer[:4], "big")
                if size > _MAX_CONTROL_HEADER_BYTES:
                    raise ProtocolError(self._story(f"a frame of {size} bytes from the zygote"))
                if len(buffer) >= size:
                    self._decoder_buffer = buffer[size:]
                    return self._header(buffer[prefix:size])
            if not _is_readable(self._control.fileno(), deadline_ns - monotonic_ns()):
                raise InstanceStartError(self._story("the zygote stayed silent"))
            try:
                data = self._control.recv(65536)
            except OSError:
                data = b""
            if not data:
                raise InstanceStartError(self._story("the zygote died"))
            self._decoder_buffer += data

    def _header(self, text: bytes) -> dict[str, Any]:
        try:
            header = orjson.loads(text)
        except ValueError:
            header = None
        if not isinstance(header, dict):
            raise ProtocolError(self._story(f"a frame that is no JSON object from the zygote: {text[:80]!r}"))
        return header

    def _story(self, what: str) -> str:
        """Return *what* with the interpreter and the last words of the zygote."""
        words = os.pread(self._stderr_fd, 4096, max(0, os.fstat(self._stderr_fd).st_size - 4096))
        said = words.decode("utf-8", "replace").strip()
        interpreter = f"{self.interpreter.runtime} ({self.interpreter.executable})"
        return f"{what}; interpreter: {interpreter}" + (f"; it said:\n{said}" if said else "")

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._process.wait()

    def _release(self) -> None:
        self._control.close()
        os.close(self._stderr_fd)


def _pipe(read_end: ExitStack, write_end: ExitStack) -> tuple[int, int]:
    """Open a pipe whose ends are closed by the two stacks."""
    reader, writer = os.pipe()
    read_end.callback(os.close, reader)
    write_end.callback(os.close, writer)
    return reader, writer


def _is_readable(fd: int, timeout_ns: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0, -(-timeout_ns // NS_PER_MS))))


def _sandbox_program() -> str:
    """Return the main program of the sandbox package, which is for other interpreters and never imported here."""
    main = os.path.join(_SANDBOX_FOLDER, "__main__.py")
    if not os.path.isfile(main):
        raise InstanceStartError(f"the package 'sandbox' that belongs to the engine is not in {_SANDBOX_FOLDER}")
    return main
