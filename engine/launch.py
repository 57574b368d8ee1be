"""Start methods: an instance forked from a zygote, or an interpreter of its own started by one.

Theory of operation
-------------------
One zygote process for each runtime is the parent of all its instances, so the host program never is: it gets
no SIGCHLD for them, and its own waitpid(-1) cannot take their status. (The zygote itself is a child of the
host. Whoever reaps it, its pidfd tells that it ended.)

The zygote is given a pidfd of this process and kills everything when that becomes readable; the end of the
control socket is a second sign, and the only one needed when an engine is closed. See ``sandbox/zygote.py``.

The zygote makes an instance's pipes, and sends our ends of them with its answer (``engine/control.py``).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final

from engine import proc, protocol
from engine.channel import Channel
from engine.clock import NS_PER_S
from engine.control import Control, close_all
from engine.errors import InstanceStartError, InvalidFunctionError, ProtocolError
from engine.isolation import Container, unavailable
from engine.platform import BARE_ENVIRONMENT
from engine.readiness import is_ready
from engine.runtimes import Interpreter

START_TIMEOUT_NS: Final = 30 * NS_PER_S
"""How long an interpreter may take until it speaks: a thousand times what it takes on an idle machine."""

_PIPE_ENDS: Final = 4  # request to write and to read, reply, log

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
        peak_bytes: Peak of resident memory since it was last reset, of the instance or of a process that it waited for
            at any time in its life. (It carries the peak of who started it across exec; a zygote is a small one.)
    """

    status: int
    peak_bytes: int

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
        self._is_ready = False
        self._is_retired = False
        self._living: set[int] = set()
        self._stderr_fd = os.memfd_create("fgengine-zygote", os.MFD_CLOEXEC)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control = Control(ours, self._story, self._nudge)
        with ExitStack() as on_failure:
            on_failure.callback(self._release)
            with theirs:
                self._process = self._start_process(theirs)
            self.pid = self._process.pid
            self._pidfd = os.pidfd_open(self.pid)
            on_failure.callback(os.close, self._pidfd)
            on_failure.callback(self._kill)
            self._await_ready()
            self._is_ready = True
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
        # Nothing of a function goes through the zygote: what is left of it in that memory is there in every instance
        # that is forked later, for its function to read. Who is forked is told all of it with the settings.
        own = protocol.encode({"environment": dict(environment), "place": place}) if method == "spawn" else b""
        command = {"type": "start", "method": method, "ahead": ahead}
        self._check_open()
        answer = self._control.command(command, START_TIMEOUT_NS)
        with ExitStack() as ours:
            ours.callback(close_all, answer.fds)
            if answer.header.get("type") == "failed":
                raise InstanceStartError(f"the system refused a new instance: {answer.header.get('error')}")
            if answer.header.get("type") != "started":
                raise ProtocolError(self._story(f"an unexpected frame from the zygote: {answer.header!r}"))
            channel = self._channel(int(answer.header["pid"]), answer.fds, log_bytes)
            ours.pop_all()
        if own:
            channel.send(own)
        return Process(int(answer.header["pid"]), channel)

    def wait_exit(self, pid: int) -> ExitReport:
        """Wait until instance *pid* was reaped and nothing that it started is alive.

        Raises:
            InstanceStartError: The zygote is gone; its instances died with it.
        """
        self._check_open()
        header = self._control.wait_exit(pid, START_TIMEOUT_NS)
        self._living.discard(pid)
        return ExitReport(header["status"], header["peak_kb"] * 1024)

    def is_unused(self) -> bool:
        """Whether no instance of it is known to live; none does when it is dead."""
        return not self._living or not self.is_alive()

    def is_alive(self) -> bool:
        """Whether the zygote's process runs."""
        return not self._closed and not is_ready(self._pidfd, select.POLLIN, 0)

    def can_start(self) -> bool:
        """Whether to start more from it: not from one that was retired, or whose socket was cut within a command."""
        return not self._is_retired and not self._control.is_garbled and self.is_alive()

    def retire(self) -> None:
        """Have nothing more started from it, but by who decided on that before; what it started lives on."""
        self._is_retired = True

    def close(self) -> None:
        """End the zygote with everything below it, and wait until all is gone. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._control.shut_down()
            if not is_ready(self._pidfd, select.POLLIN, START_TIMEOUT_NS):
                self._kill()
            self._process.wait()
            self._release()
            os.close(self._pidfd)

    def abandon(self) -> None:
        """Forget the zygote in a forked copy of the host: close our copies of its descriptors, touch nothing else."""
        self._process.returncode = 0  # else Popen would warn of a child that is not even ours
        self._release()
        os.close(self._pidfd)

    def _nudge(self) -> None:
        """Have the zygote look for strays: it is not told of the end of a traced instance.

        One that is traced (ptrace(2)) by what it started itself cannot be reaped before that is dead too.
        """
        if self._is_ready:  # what an interpreter does with the signal while it starts is not known
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGCHLD)

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

    def _channel(self, pid: int, fds: list[int], log_bytes: int) -> Channel:
        """Return the channel to the instance *pid*, which must be this zygote's still; *fds* are our ends."""
        self._living.add(pid)
        if len(fds) != _PIPE_ENDS:  # the kernel leaves out what would be over the limit of this process
            raise InstanceStartError(f"instance {pid} has no pipes: this process has too many open files")
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            raise InstanceStartError(f"instance {pid} cannot be reached: {error}") from error
        with ExitStack() as on_failure:
            on_failure.callback(os.close, pidfd)
            if proc.parent(pid) != self.pid:  # reaped already, and its number given to somebody else
                raise InstanceStartError(f"instance {pid} ended before it was reached")
            request_fd, request_read_fd, reply_fd, log_fd = fds
            channel = Channel(
                pidfd=pidfd,
                request_fd=request_fd,
                request_read_fd=request_read_fd,
                reply_fd=reply_fd,
                log_fd=log_fd,
                log_bytes=log_bytes,
            )
            on_failure.pop_all()
        return channel

    def _await_ready(self) -> None:
        header = self._control.first_word(START_TIMEOUT_NS)
        if header.get("type") == "unavailable":
            raise unavailable(str(header.get("what")), str(header.get("error")))
        if header.get("type") == "unloadable":
            raise InvalidFunctionError("preload", header.get("module"), f"cannot be imported: {header.get('error')}")
        if header.get("type") != "ready":
            raise ProtocolError(self._story(f"an unexpected frame from the zygote: {header!r}"))

    def _story(self, what: str) -> str:
        """Return *what* with the interpreter, what it had to import, and the last words of the zygote."""
        words = os.pread(self._stderr_fd, 4096, max(0, os.fstat(self._stderr_fd).st_size - 4096))
        said = words.decode("utf-8", "replace").strip()
        interpreter = f"{self.interpreter.runtime} ({self.interpreter.executable})"
        preload = f"; preload: {', '.join(self.spec.preload)}" if self.spec.preload else ""
        return f"{what}; interpreter: {interpreter}{preload}" + (f"; it said:\n{said}" if said else "")

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._process.wait()

    def _release(self) -> None:
        self._control.close()
        os.close(self._stderr_fd)


def _sandbox_program() -> str:
    """Return the main program of the sandbox package, which is for other interpreters and never imported here."""
    main = os.path.join(_SANDBOX_FOLDER, "__main__.py")
    if not os.path.isfile(main):
        raise InstanceStartError(f"the package 'sandbox' that belongs to the engine is not in {_SANDBOX_FOLDER}")
    return main
