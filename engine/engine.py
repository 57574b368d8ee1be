"""The facade: everything that a host program does with an engine.

Theory of operation
-------------------
The thread that calls invoke() takes an idle instance from the function's pool, or starts one, and waits itself.
submit() does the same on a thread of a pool. One more thread, the janitor, starts with the first invocation: it
kills instances that nobody used for a while, and starts ahead what the next cold start needs. No other thread runs,
no signal handler is installed.

An engine belongs to the process that made it. A forked copy of it refuses every use and touches nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, get_args

from engine.clock import NS_PER_S, monotonic_ns, ns_from_seconds
from engine.enforcement import Enforcement, MemoryEnforcement
from engine.errors import EngineClosedError, InvalidFunctionError, UnsupportedPlatformError
from engine.events import EventLog
from engine.instance import Instance
from engine.invocation import Invocation
from engine.janitor import Janitor
from engine.model import Function, Isolation, StartMethod, normal_runtime
from engine.names import request_ids
from engine.payload import checked_request_id, encode_event
from engine.pool import Pool, PoolRetiredError
from engine.result import Result
from engine.runtimes import Runtimes
from engine.staging import StagedFunction, Staging
from engine.starter import Starter
from engine.stream import Lender, Loan, Stream
from engine.timeline import Timeline
from engine.workspace import Workspace

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from typing_extensions import Self  # 3.10 has none; mypy brings it

_REQUEST_IDS_AT_ONCE: Final = 128
"""Fewer than one call in a hundred draws new ones: the others' 99th percentile has nothing of it."""

_SUBMIT_THREADS: Final = 32
_IDLE_LOOK_NS: Final = NS_PER_S
"""What a function left behind may fill memory or disk: one look a second, 10 microseconds for one that left nothing."""

_REST_FACTOR: Final = 300
"""However many instances are idle, the janitor's rounds take no more than this part of a core."""

_UNFINISHED_LOOK_FACTOR: Final = 4
"""An instance with hundreds of helpers is looked at in pieces, with pauses between them."""

_CLOSE_TIMEOUT_S: Final = 10.0
"""How long close() waits for threads whose instances it has killed: a thousand times what they need."""

_BILLING_STEPS_MS: Final = (1, 100, 1000)


class Engine:
    """Runs functions, each in child interpreters of its own. Thread-safe; a context manager.

    Args:
        runtimes: Paths of interpreters by label, before anything that is found by itself.
        billing_step_ms: 1, or 100 or 1000 to reproduce older bills.
        log_bytes: How many of the newest bytes of output a result carries.
        idle_timeout_s: How long an instance may be idle before it is released, in seconds.
        max_instances: How many instances one function may have; further calls wait for one.
        start_method: ``fork`` from a warmed interpreter, or ``spawn`` a fresh one. A function may ask for one of its
            own; one whose variables act when an interpreter starts (PYTHON*, LD_* and the like) is spawned in any case.
        spare_instances: How many instances are started ahead for each runtime that is in use, in the background. They
            serve nobody until a function needs one, which saves it the longest part of a cold start by fork.
        memory_enforcement: ``cgroup``, by the kernel as well as by the engine's own looks; ``sample``, by those alone;
            ``auto``, the first where the kernel lets us.
        isolation: ``process`` or ``container``: how much of the machine a function sees, unless its own description
            says so. docs/security.md tells what each level stops.
        logger: A structlog logger for the engine's events; without one they are written only where the host has
            configured structlog.

    Raises:
        UnsupportedPlatformError: Not Linux, or a kernel without pidfds.
        ValueError: An argument cannot work as given.
    """

    def __init__(
        self,
        *,
        runtimes: Mapping[str, str | os.PathLike[str]] | None = None,
        billing_step_ms: int = 1,
        log_bytes: int = 4096,
        idle_timeout_s: float = 60.0,
        max_instances: int = 16,
        start_method: StartMethod = "fork",
        spare_instances: int = 1,
        memory_enforcement: MemoryEnforcement = "auto",
        isolation: Isolation = "process",
        logger: Any = None,
    ) -> None:
        _check_platform()
        _check_arguments(billing_step_ms, log_bytes, idle_timeout_s, max_instances, spare_instances)
        _check_choice("start_method", start_method, get_args(StartMethod))
        _check_choice("memory_enforcement", memory_enforcement, get_args(MemoryEnforcement))
        _check_choice("isolation", isolation, get_args(Isolation))
        self.runtimes: Final = Runtimes(runtimes)
        self._billing_step_ms = billing_step_ms
        self._idle_timeout_ns = ns_from_seconds(idle_timeout_s)
        self._max_instances = max_instances
        self._events = EventLog(logger)
        self._request_ids: list[str] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closing = threading.Lock()
        self._closed = False
        self._pools: dict[Function, Pool] = {}
        self._executor: ThreadPoolExecutor | None = None
        self._workspace = Workspace()
        self._staging = Staging(self._workspace.root)
        try:
            self._enforcement = Enforcement(memory_enforcement, self._workspace)
        except BaseException:
            self._workspace.close()
            raise
        self._starter = Starter(
            self.runtimes,
            self._workspace,
            self._enforcement,
            start_method=start_method,
            level=isolation,
            log_bytes=log_bytes,
            spare_instances=spare_instances,
        )
        self._janitor = Janitor(self._starter.prepare, self._do_what_is_due)
        holdings = _Holdings(self._pid, self._pools, self._starter, self._enforcement, self._workspace, self._janitor)
        self._finalizer = weakref.finalize(self, holdings.release)

    def invoke(
        self, function: Function, event: object, *, request_id: str | None = None, timeline: bool = False
    ) -> Result:
        """Run *function* once with *event* and return its result.

        Args:
            function: What to run.
            event: Any JSON value; bytes are taken for JSON text as it is.
            request_id: Id of this invocation; a random UUID by default.
            timeline: Whether to record memory over time, in ``result.timeline``.

        Raises:
            InvalidEventError: The event is not JSON, or over 6 MiB; or the request id is none.
            InvalidFunctionError: The code cannot be used as it is on disk.
            RuntimeNotFoundError: There is no interpreter for the function's runtime.
            InstanceStartError: An interpreter could not be started.
            IsolationUnavailableError: The function wants a container, and the kernel lets us make none.
            EngineClosedError: The engine was closed, perhaps while this call was waiting.
        """
        self._check_usable()
        text = encode_event(event)
        request_id = self._new_request_id() if request_id is None else checked_request_id(request_id)
        result = None
        while result is None:
            pool, idle = self._idle_instance(function)
            instance = idle or self._start_instance(function, pool, request_id)
            invocation = Invocation(
                instance,
                request_id,
                is_cold=idle is None,
                billing_step_ms=self._billing_step_ms,
                timeline=Timeline() if timeline else None,
            )
            try:
                result = invocation.run(text)
            except BaseException:
                # KeyboardInterrupt among others: an instance whose invocation has no end cannot serve another one.
                self._end(pool, instance, "interrupted", request_id)
                raise
            if result is None:
                self._bury(pool, instance, "unusable", request_id)
                self._check_usable()  # it may have been close() that ended it
        if not invocation.survived:
            self._bury(pool, instance, result.status.value, request_id)
        elif not pool.release(instance):
            self._end(pool, instance, "outdated", request_id)
        self._janitor.start()  # also when nothing is idle: the pool is forgotten some time
        if invocation.is_cold:
            self._janitor.wake()  # not sooner: it would start the next one while this function waits for a processor
        if self._closed:
            raise EngineClosedError("the engine was closed while the function ran")
        self._events.invocation_finished(instance, result)
        return result

    def submit(
        self, function: Function, event: object, *, request_id: str | None = None, timeline: bool = False
    ) -> Future[Result]:
        """Do the same as invoke() on another thread, and return a future of the result at once.

        close() cancels what has not begun: its ``result()`` raises ``concurrent.futures.CancelledError``.

        Raises:
            EngineClosedError: The engine was closed.
        """
        self._check_usable()
        with self._lock:
            if self._closed:
                raise EngineClosedError("the engine is closed")
            if self._executor is None:
                from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # 11 ms, and few hosts submit

                self._executor = ThreadPoolExecutor(_SUBMIT_THREADS, thread_name_prefix="fgengine-submit")
            return self._executor.submit(self.invoke, function, event, request_id=request_id, timeline=timeline)

    def map(self, function: Function, events: Iterable[object]) -> Iterator[Result]:
        """Yield the result of *function* for each of *events*, in their order.

        Up to 1024 events are read ahead of their results and written ahead of the instance, which never waits between
        two of them; so an iterable that waits for results would wait for ever. Each has its own deadline, bill, log and
        result all the same (``engine.stream``). When the iteration is left early, what was read and has no result yet
        is not run, or killed.

        Raises:
            InvalidEventError: In the place of an event that is not JSON or over 6 MiB.
            EngineError: As from invoke(), behind the results that were there before.
        """
        lender = Lender(partial(self._lend, function), self._take_back, self._finished)
        return Stream(lender, self._billing_step_ms).results(events)

    def warm_up(self, runtimes: Iterable[str]) -> None:
        """Start what instances of *runtimes* are started from, and spare ones, so that the first invocation need not.

        At the engine's own isolation level; for containers, for those without a network.

        Raises:
            RuntimeNotFoundError: There is no interpreter for one of them.
            InstanceStartError: An interpreter could not be started.
        """
        self._check_usable()
        for runtime in runtimes:
            self._starter.warm_up(normal_runtime(runtime))

    def release_idle(self) -> None:
        """Kill every idle instance now, the spare ones too; the next invocation of any function is a cold start."""
        self._check_usable()
        self._starter.clear_stock()
        self._release_idle_since(monotonic_ns() + NS_PER_S)
        self._enforcement.sweep()

    def close(self) -> None:
        """Kill everything that the engine started, and wait until all of it is gone. Idempotent."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._closed = True
        with self._closing:  # a second thread that closes waits here until all is gone
            self._janitor.stop()
            pools = list(self._pools.values())
            for pool in pools:
                for instance in pool.close():
                    self._end(pool, instance, "closed")
            if self._executor is not None:
                self._executor.shutdown(wait=True, cancel_futures=True)
            for pool in pools:
                pool.wait_until_unused(_CLOSE_TIMEOUT_S)
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_usable(self) -> None:
        if self._closed:
            raise EngineClosedError("the engine is closed")
        if os.getpid() != self._pid:
            raise EngineClosedError("this process is a forked copy of the engine's: make an Engine of its own here")

    def _new_request_id(self) -> str:
        try:
            return self._request_ids.pop()  # one thread's alone, whoever else pops
        except IndexError:
            first, *others = request_ids(_REQUEST_IDS_AT_ONCE)
            self._request_ids += others
            return first

    def _add_pool(self, function: Function) -> Pool:
        if not isinstance(function, Function):
            raise TypeError(f"function must be an engine.Function, not {type(function).__name__}")
        self.runtimes.find(function.runtime)  # a missing interpreter is told before a large archive is unpacked
        staged = self._stage(function)
        with self._lock:
            if self._closed:
                raise EngineClosedError("the engine is closed")
            return self._pools.setdefault(function, Pool(staged, self._max_instances))

    def _stage(self, function: Function) -> StagedFunction:
        try:
            return self._staging.stage(function)
        except (OSError, InvalidFunctionError):
            if self._closed:  # close() removed the folder that it was staged into
                raise EngineClosedError("the engine is closed") from None
            raise

    def _idle_instance(self, function: Function) -> tuple[Pool, Instance | None]:
        """Return the function's pool with an idle instance that can be used, or None when one may be started."""
        while True:
            pool = self._pools.get(function) or self._add_pool(function)
            if not pool.staged.is_current():
                for outdated in pool.renew(self._stage(function)):
                    self._end(pool, outdated, "outdated")
            try:
                instance = pool.acquire()
            except PoolRetiredError:
                continue
            if instance is None or instance.is_usable():
                return pool, instance
            self._end(pool, instance, "unusable")

    def _start_instance(self, function: Function, pool: Pool, request_id: str) -> Instance:
        try:
            instance = self._starter.start(function, pool.staged)
        except BaseException as error:
            pool.given_up()
            if self._closed and isinstance(error, OSError):  # close() took the folder away that it was made in
                raise EngineClosedError("the engine is closed") from None
            raise
        pool.added(instance)
        self._events.instance_started(instance, request_id)
        return instance

    def _end(self, pool: Pool, instance: Instance, reason: str, request_id: str | None = None) -> None:
        """Kill an instance that cannot or need not go on."""
        try:
            instance.kill()
        finally:
            # Also when a second KeyboardInterrupt comes: close() waits for everything that is in a pool.
            self._bury(pool, instance, reason, request_id)

    def _bury(self, pool: Pool, instance: Instance, reason: str, request_id: str | None = None) -> None:
        """Let go of an instance that was killed and reaped."""
        pool.remove(instance)
        instance.close()
        self._events.instance_killed(instance, reason, request_id)

    def _lend(self, function: Function, request_id: str) -> Loan:
        """Give a stream an idle instance, or a new one."""
        self._check_usable()
        pool, instance = self._idle_instance(function)
        if instance is not None:
            return Loan(pool, instance, is_cold=False)
        return Loan(pool, self._start_instance(function, pool, request_id), is_cold=True)

    def _take_back(self, loan: Loan, reason: str, request_id: str | None) -> None:
        """Take back what _lend() gave: healthy when there is no *reason* against it, else killed here if it is not."""
        if reason:
            self._end(loan.pool, loan.instance, reason, request_id)
        elif not loan.pool.release(loan.instance):
            self._end(loan.pool, loan.instance, "outdated", request_id)
        self._janitor.start()
        if loan.is_cold:
            self._janitor.wake()

    def _finished(self, loan: Loan, result: Result) -> None:
        """Tell of a result of a stream."""
        if self._closed:
            raise EngineClosedError("the engine was closed while the function ran")
        self._events.invocation_finished(loan.instance, result)

    def _release_idle_since(self, idle_before_ns: int) -> None:
        for pool in list(self._pools.values()):
            for instance in pool.expire(idle_before_ns):
                self._end(pool, instance, "idle")

    def _forget_unused(self, unused_since_ns: int) -> None:
        """Let go of the pools of functions that nobody has called for a while."""
        for function, pool in list(self._pools.items()):
            with self._lock:
                if pool.retire(unused_since_ns):
                    del self._pools[function]

    def _do_what_is_due(self) -> int:
        """Release what was idle for too long, or grew while idle; return when to come again, in nanoseconds."""
        self._enforcement.sweep()
        now = monotonic_ns()
        self._release_idle_since(now - self._idle_timeout_ns)
        self._forget_unused(now - self._idle_timeout_ns)
        pools = list(self._pools.values())
        idle_since = [since for pool in pools if (since := pool.oldest_idle_ns()) is not None]
        # Of a processor, and for the looks alone: a folder that took 100 ms to remove was followed by half a minute in
        # which an idle instance could fill the machine's memory.
        before_ns = time.thread_time_ns()
        has_more_to_see = self._look_at_idle(pools)
        took_ns = time.thread_time_ns() - before_ns
        look_in_ns = (
            took_ns * _UNFINISHED_LOOK_FACTOR if has_more_to_see else max(_IDLE_LOOK_NS, took_ns * _REST_FACTOR)
        )
        release_in_ns = min(idle_since, default=now) + self._idle_timeout_ns - now
        return max(0, min(look_in_ns, release_in_ns))

    def _look_at_idle(self, pools: list[Pool]) -> bool:
        """Release what grew over a limit while idle; return whether there is more to see at once."""
        outgrown = [(pool, *found) for pool in pools for found in pool.outgrown()]
        for pool, instance, passed in outgrown:
            self._end(pool, instance, passed.value)
        return any(pool.has_more_to_see() for pool in pools)


@dataclass(frozen=True)
class _Holdings:
    """What an engine holds, apart from the engine: released also when it was forgotten, or the host exits."""

    owner_pid: int
    pools: dict[Function, Pool]
    starter: Starter
    enforcement: Enforcement
    workspace: Workspace
    janitor: Janitor

    def release(self) -> None:
        """End and remove all of it; nothing in a forked copy of the host, which owns nothing of it."""
        if os.getpid() != self.owner_pid:
            self.starter.abandon()
            return
        self.janitor.stop()
        self.starter.close_stock()
        self.janitor.join()
        self.starter.close()
        for pool in self.pools.values():
            for instance in pool.close():  # dead with their zygotes; none is left after Engine.close()
                instance.close()
        self.enforcement.close()
        self.workspace.close()


def _check_platform() -> None:
    if sys.platform != "linux":
        raise UnsupportedPlatformError(f"fgengine runs on Linux only, not on {sys.platform}")
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        raise UnsupportedPlatformError(f"fgengine needs pidfds, Linux 5.3 or newer: {error}") from error


def _check_arguments(
    billing_step_ms: int, log_bytes: int, idle_timeout_s: float, max_instances: int, spare_instances: int
) -> None:
    if billing_step_ms not in _BILLING_STEPS_MS:
        raise ValueError(f"billing_step_ms must be one of {_BILLING_STEPS_MS}: {billing_step_ms!r}")
    if not isinstance(log_bytes, int) or log_bytes < 1:
        raise ValueError(f"log_bytes must be a whole number, at least 1: {log_bytes!r}")
    if not 0 < idle_timeout_s <= threading.TIMEOUT_MAX:
        raise ValueError(f"idle_timeout_s must be above 0: {idle_timeout_s!r}")
    if max_instances < 1:
        raise ValueError(f"max_instances must be at least 1: {max_instances!r}")
    if not isinstance(spare_instances, int) or spare_instances < 0:
        raise ValueError(f"spare_instances must be a whole number, at least 0: {spare_instances!r}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}: {value!r}")
