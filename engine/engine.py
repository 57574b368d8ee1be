"""The facade: everything that a host program does with an engine.

Theory of operation
-------------------
The thread that calls invoke() is lent an instance by the fleet, and waits itself. submit() does the same on a thread of
a pool, map() on one of its own while it is iterated. The fleet has one more, which cleans up. No other thread runs, no
signal handler is installed.

An engine belongs to the process that made it. A forked copy of it refuses every use and touches nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, get_args

from engine.enforcement import MemoryEnforcement
from engine.errors import EngineClosedError, UnsupportedPlatformError
from engine.events import EventLog
from engine.fleet import Fleet
from engine.instance import Instance
from engine.invocation import Invocation
from engine.model import Function, Isolation, StartMethod, normal_runtime
from engine.names import request_ids
from engine.payload import checked_request_id, encode_event
from engine.result import Result
from engine.runtimes import Runtimes
from engine.stream import Stream
from engine.timeline import Timeline

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from typing_extensions import Self  # 3.10 has none; mypy brings it

_REQUEST_IDS_AT_ONCE: Final = 128
"""Fewer than one call in a hundred draws new ones: the others' 99th percentile has nothing of it."""

_SUBMIT_THREADS: Final = 32
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
        self._events = EventLog(logger)
        self._request_ids: list[str] = []
        self._submitting = threading.Lock()
        self._closing = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._submit_threads: set[int] = set()
        self._fleet = Fleet(
            self.runtimes,
            self._events,
            max_instances=max_instances,
            idle_timeout_s=idle_timeout_s,
            start_method=start_method,
            spare_instances=spare_instances,
            memory_enforcement=memory_enforcement,
            isolation=isolation,
            log_bytes=log_bytes,
        )
        self._finalizer = weakref.finalize(self, self._fleet.dispose)  # also when it was forgotten, or the host exits

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
        self._fleet.check_usable()
        text = encode_event(event)
        request_id = self._new_request_id() if request_id is None else checked_request_id(request_id)
        result = None
        while result is None:
            loan = self._fleet.lend(function, request_id)
            try:
                invocation = Invocation(
                    loan.instance,
                    request_id,
                    is_cold=loan.is_cold,
                    billing_step_ms=self._billing_step_ms,
                    timeline=Timeline() if timeline else None,
                )
                result = invocation.run(text)
            except BaseException:
                # KeyboardInterrupt among others: an instance whose invocation has no end cannot serve another one.
                self._fleet.take_back(loan, "interrupted", request_id)
                raise
            self._fleet.take_back(loan, invocation.reason_to_end(result), request_id)
        self._tell(loan.instance, result)
        return result

    def submit(
        self, function: Function, event: object, *, request_id: str | None = None, timeline: bool = False
    ) -> Future[Result]:
        """Do the same as invoke() on another thread, and return a future of the result at once.

        close() cancels what has not begun: its ``result()`` raises ``concurrent.futures.CancelledError``.

        Raises:
            EngineClosedError: The engine was closed.
        """
        self._fleet.check_usable()  # in a forked copy nobody may ever let go of the lock
        with self._submitting:
            self._fleet.check_usable()
            if self._executor is None:
                from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # 11 ms, and few hosts submit

                self._executor = ThreadPoolExecutor(
                    _SUBMIT_THREADS,
                    "fgengine-submit",
                    lambda noted: noted.add(threading.get_ident()),
                    (self._submit_threads,),
                )
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
        return Stream(self._fleet, function, self._tell, self._billing_step_ms).results(events)

    def warm_up(self, runtimes: Iterable[str]) -> None:
        """Start what instances of *runtimes* are started from, and spare ones, so that the first invocation need not.

        At the engine's own isolation level; for containers, for those without a network.

        Raises:
            RuntimeNotFoundError: There is no interpreter for one of them.
            InstanceStartError: An interpreter could not be started.
        """
        for runtime in runtimes:
            self._fleet.warm_up(normal_runtime(runtime))

    def release_idle(self) -> None:
        """Kill every idle instance now, the spare ones too; the next invocation of any function is a cold start."""
        self._fleet.release_idle()

    def close(self) -> None:
        """Kill everything that the engine started, and wait until all of it is gone. Idempotent.

        Called by the garbage collector, from somebody's ``__del__``, it may be on the engine's own thread, which cannot
        wait for itself: that happens soon, then.
        """
        if self._fleet.is_copy():
            return
        if self._fleet.is_on_own_thread():
            self._finalizer()
            return
        self._fleet.refuse()
        with self._closing:  # a second thread that closes waits here until all is gone
            self._fleet.end_all()
            with self._submitting:  # who came before refuse() has made it by now
                executor = self._executor
            if executor is not None:
                # From a future's done-callback it is one of these threads that closes: it cannot wait for itself.
                executor.shutdown(wait=threading.get_ident() not in self._submit_threads, cancel_futures=True)
            self._fleet.wait_until_returned()
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _new_request_id(self) -> str:
        try:
            return self._request_ids.pop()  # one thread's alone, whoever else pops
        except IndexError:
            first, *others = request_ids(_REQUEST_IDS_AT_ONCE)
            self._request_ids += others
            return first

    def _tell(self, instance: Instance, result: Result) -> None:
        """Tell the host's log of *result*, which its caller is about to have."""
        if self._fleet.is_closed:
            raise EngineClosedError("the engine was closed while the function ran")
        self._events.invocation_finished(instance, result)


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
