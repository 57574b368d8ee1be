"""One child interpreter that serves one function, from its start to its death.

An instance belongs to one thread at a time: the pool hands it out and takes it back. It is killed and reaped
by that thread; others may only signal it (see ``Instance.doom``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine import isolation, platform, proc, protocol
from engine.ahead import Ahead
from engine.blank import Blank
from engine.channel import EXIT, REPLY
from engine.clock import NS_PER_US, monotonic_ns, ns_from_seconds
from engine.enforcement import describe
from engine.errors import EngineError, ProtocolError
from engine.guard import Guard
from engine.launch import ExitReport
from engine.lifecycle import Event, State, next_state
from engine.logring import LogTail
from engine.memory import BYTES_PER_MB
from engine.model import Credentials, Function, Isolation
from engine.names import tokens
from engine.staging import StagedFunction
from engine.supervisor import judged, watch
from engine.timeline import Timeline
from engine.verdict import Ended, Verdict

_TOKENS_AT_ONCE: Final = 64
_IDLE: Final = State.IDLE
_BUSY: Final = next_state(_IDLE, Event.INVOKE)
_REPLIED: Final = Ended.REPLIED

_REST_NS: Final = 100 * NS_PER_US
"""Who was idle for longer may have been hit by the kernel; a kill for memory takes longer than that."""


class Instance:
    """A started interpreter with its pipes and its memory meter. Not thread-safe.

    Attributes:
        pid: Its process.
        function: What it serves.
        staged: The code it was started with.
        state: Where it is in its life; only the transition table moves it.
        idle_since_ns: When it was last used, on the monotonic clock.
        memory_enforcement: Who keeps its memory limit.
        isolation: How much of the machine it sees.
        timeout_ns: How long the handler may run.
    """

    def __init__(
        self,
        function: Function,
        staged: StagedFunction,
        blank: Blank,
        seen: isolation.Surroundings,
        *,
        environment: Mapping[str, str],
    ) -> None:
        """Tell a started interpreter what it serves; nothing of the function runs yet.

        Args:
            function: What it will serve.
            staged: Where its code is.
            blank: The interpreter, which is this instance's from now on.
            seen: Where it finds its files.
            environment: Its variables.
        """
        self.function = function
        self.staged = staged
        self.pid = blank.process.pid
        self.state = State.STARTING
        self.idle_since_ns = 0
        self._tokens: list[str] = []
        self.memory_enforcement: Final = describe(blank.group)
        self.isolation: Final[Isolation] = "process" if blank.zygote.spec.container is None else "container"
        self.timeout_ns: Final = ns_from_seconds(function.timeout_s)
        self._blank = blank
        self._channel = blank.process.channel
        self._guard = Guard(blank.threads, blank.limits, blank.meter, blank.scratch, group=blank.group)
        self._has_served = False
        self._channel.send(protocol.encode(_settings(function, seen, environment)))

    def load(self, request_id: str, timeout_ns: int) -> Verdict:
        """Import the handler's module."""
        return self._call("load", request_id, timeout_ns)

    def initialize(self, request_id: str, timeout_ns: int) -> Verdict:
        """Run the initializer."""
        return self._call("initialize", request_id, timeout_ns)

    def open_for_requests(self) -> None:
        """Count the start as finished: load, and the initializer if there is one, have answered well."""
        self.state = next_state(self.state, Event.READY)

    def invoke(self, request_id: str, event: bytes, timeout_ns: int, timeline: Timeline | None = None) -> Verdict:
        """Run the handler once with the JSON text *event*, and draw its memory into *timeline*."""
        # Enum look-ups and a table of tables, only for who is not idle: that is an error.
        self.state = _BUSY if self.state is _IDLE else next_state(self.state, Event.INVOKE)
        guard, channel = self._guard, self._channel
        token = self._new_token()
        guard.start(monotonic_ns(), timeline, channel.is_unread if self._has_served else None)
        started_ns = monotonic_ns()
        deadline_ns = started_ns + timeout_ns
        request = protocol.encode_call(token, deadline_ns, request_id, event)
        try:
            frame = channel.exchange(request, token, min(timeout_ns, guard.next_interval_ns()))
        except ProtocolError as error:
            return judged(guard, Ended.BROKE_PROTOCOL, monotonic_ns() - started_ns, None, str(error))
        if frame is None:
            verdict = watch(channel, guard, token=token, started_ns=started_ns, deadline_ns=deadline_ns)
        else:
            verdict = judged(guard, _REPLIED, monotonic_ns() - started_ns, frame)
        if verdict.ended is _REPLIED:
            self.state = _IDLE if self.state is _BUSY else next_state(self.state, Event.REPLY)
            self._has_served = True
        elif self._has_served and self._has_not_begun(verdict.ended):
            return Verdict(Ended.NOT_BEGUN, verdict.duration_ns, verdict.peak_bytes)
        return verdict

    def open_ahead(self) -> Ahead:
        """Begin to serve requests that are written ahead; nothing else may be asked of it until close_ahead()."""
        self.state = next_state(self.state, Event.INVOKE)
        return Ahead(self._channel, self._guard, self.pid, self.timeout_ns)

    def close_ahead(self, ahead: Ahead) -> None:
        """End that, with nothing in flight or with the instance dead."""
        ahead.close()
        if self.state is _BUSY:
            self.state = next_state(self.state, Event.REPLY)

    def is_usable(self) -> bool:
        """Whether an idle instance can take a request; output that nobody waited for is forgotten.

        One that has something to say while nobody asked it has broken the protocol, and is of no more use.
        """
        if self._channel.poll_now(0):
            if self._channel.wait(0) & (EXIT | REPLY):
                return False
            self._channel.discard_output()
        # For who comes right after the last one, the kernel had no time to run out of memory; they pay no question.
        return monotonic_ns() - self.idle_since_ns <= _REST_NS or not self._guard.was_hit_while_idle()

    def inspect_idle(self) -> Ended | None:
        """Look at what it left behind, for half a millisecond; return which limit that is over, or None."""
        return self._guard.inspect_idle()

    def has_more_to_see(self) -> bool:
        """Whether the last look was too short to see everything."""
        return self._guard.has_more_to_see()

    def take_log(self) -> LogTail:
        """Return the newest output up to now, and start over."""
        return self._channel.take_pending_log()

    def doom(self) -> None:
        """Send SIGKILL to it, and its zygote kills what it started; its own thread finds it dead. For any thread."""
        self._channel.kill()

    def kill(self) -> ExitReport | None:
        """Kill it with all that it started, and reap it. Returns once nothing of it is alive.

        What it started becomes the zygote's when it dies, and the zygote kills that before it reports the death: it
        knows its own children by one short read and can send them a signal without a pidfd for each.

        Returns:
            How it ended, or None when that is known already, or its zygote is gone and nobody knows.
        """
        if self.state is State.REAPED:
            return None
        self.state = next_state(self.state, Event.KILL)
        self.doom()
        try:
            report = self._blank.zygote.wait_exit(self.pid)
        except EngineError:
            report = None
        self.state = next_state(self.state, Event.EXIT)
        return report

    def close(self) -> None:
        """Give the descriptors of a reaped instance back, and have its group and its temporary files removed."""
        self._guard.close()
        self._blank.forget()

    def _has_not_begun(self, ended: Ended) -> bool:
        """Whether an invocation *ended* like this because of what happened before its request was taken."""
        if ended is Ended.BROKE_PROTOCOL or not self._channel.is_unread():
            return False
        # One that runs and did not come to its request in time is slow, or has other things to do.
        return ended is not Ended.TIMED_OUT or proc.is_stopped(self.pid)

    def _new_token(self) -> str:
        if not self._tokens:
            self._tokens = tokens(_TOKENS_AT_ONCE)
        return self._tokens.pop()

    def _call(self, phase: str, request_id: str, timeout_ns: int) -> Verdict:
        token = self._new_token()
        self._guard.start(monotonic_ns())
        started_ns = monotonic_ns()
        deadline_ns = started_ns + timeout_ns
        header = {"type": phase, "token": token, "request_id": request_id, "deadline_ns": deadline_ns}
        self._channel.send(protocol.encode(header))
        return watch(self._channel, self._guard, token=token, started_ns=started_ns, deadline_ns=deadline_ns)


def _settings(function: Function, seen: isolation.Surroundings, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the first frame: all that an instance must know before it loads anything."""
    return {
        "type": "start",
        "handler": function.handler,
        "initializer": function.initializer,
        "main_thread": function.main_thread,
        "code_root": seen.code_root,
        "import_path": [seen.code_root, *seen.dependencies],
        "working_directory": seen.home,
        "place": seen.place,
        "environment": environment,
        "limits": _resource_limits(function),
        "name": function.name,
        "package": function.package,
        "version": function.version,
        "alias": function.alias,
        "project_id": function.project_id,
        "memory_mb": function.memory_mb,
        "cpu_millicores": platform.cpu_millicores(function.memory_mb),
        "timeout_s": function.timeout_s,
        "user_data": dict(function.user_data),
        # Over the pipe and nowhere else: an environment or a command line can be read by others.
        "credentials": _secrets(function.credentials),
    }


def _resource_limits(function: Function) -> dict[str, int]:
    """Return what the instance sets on itself by setrlimit(2), by the names that the resource module has for it."""
    limits = {"nofile": function.max_open_files, "core": 0}
    if function.address_space_mb is not None:
        limits["as"] = function.address_space_mb * BYTES_PER_MB
    return limits


def _secrets(credentials: Credentials) -> dict[str, str]:
    return {name: value for name, value in vars(credentials).items() if value}
