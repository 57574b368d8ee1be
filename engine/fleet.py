"""All instances that an engine has, and what they are started from: lent for one invocation, or for one map, at a time.

Theory of operation
-------------------
Each function has a pool of instances. Whoever needs one is lent one that is idle, or a new one, and gives it back: to
be used again, or with the reason why it has to go. One thread of the fleet's own, the janitor, starts with the first
that comes back: it ends instances that nobody used for a while, and starts ahead what the next cold start needs.

The fleet does not know the engine. It outlives one that was forgotten for as long as it takes to end all of this.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final, NamedTuple

from engine.clock import NS_PER_S, monotonic_ns, ns_from_seconds
from engine.enforcement import Enforcement, MemoryEnforcement
from engine.errors import EngineClosedError, InvalidFunctionError
from engine.events import EventLog
from engine.instance import Instance
from engine.janitor import Janitor
from engine.model import Function, Isolation, StartMethod
from engine.pool import Pool, PoolRetiredError
from engine.runtimes import Runtimes
from engine.staging import StagedFunction, Staging
from engine.starter import Starter
from engine.upkeep import Upkeep
from engine.workspace import Workspace

_RETURN_TIMEOUT_S: Final = 10.0
"""How long is waited for threads whose instances were killed: a thousand times what they need."""


class Loan(NamedTuple):
    """An instance that was lent."""

    pool: Pool
    instance: Instance
    is_cold: bool


class Fleet:
    """Lends instances, and ends everything when it is closed. Thread-safe. The arguments are as the engine's.

    The host's log is told by the engine's EventLog for as long as somebody holds that.

    Attributes:
        is_closed: Whether nothing is lent any more.
    """

    def __init__(
        self,
        runtimes: Runtimes,
        events: EventLog,
        *,
        max_instances: int,
        idle_timeout_s: float,
        start_method: StartMethod,
        spare_instances: int,
        memory_enforcement: MemoryEnforcement,
        isolation: Isolation,
        log_bytes: int,
    ) -> None:
        self.is_closed = False
        self._runtimes = runtimes
        # The fleet is held until it is disposed of. A logger may be bound to the engine's owner: held by the fleet, it
        # would keep that from ever being forgotten.
        self._events = weakref.ref(events)
        self._max_instances = max_instances
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pools: dict[Function, Pool] = {}
        self._workspace = Workspace()
        self._staging = Staging(self._workspace.root)
        try:
            self._enforcement = Enforcement(memory_enforcement, self._workspace)
        except BaseException:
            self._workspace.close()
            raise
        self._starter = Starter(
            runtimes,
            self._workspace,
            self._enforcement,
            start_method=start_method,
            level=isolation,
            log_bytes=log_bytes,
            spare_instances=spare_instances,
        )
        self._upkeep = Upkeep(self._pools, self._lock, self._enforcement, self._end, ns_from_seconds(idle_timeout_s))
        self._janitor = Janitor(self._starter.prepare, self._upkeep.do_what_is_due)

    def check_usable(self) -> None:
        """Raise EngineClosedError when the engine was closed, or this is a forked copy of its process."""
        if self.is_closed:
            raise EngineClosedError("the engine is closed")
        self.check_process()

    def check_process(self) -> None:
        """Raise EngineClosedError when this is a forked copy of the engine's process."""
        if self.is_copy():
            raise EngineClosedError("this process is a forked copy of the engine's: make an Engine of its own here")

    def is_copy(self) -> bool:
        """Whether this is a forked copy of the process that made the fleet: nothing here belongs to it."""
        return os.getpid() != self._pid

    def lend(self, function: Function, request_id: str) -> Loan:
        """Lend an idle instance of *function*, or a new one; waits while all that it may have are lent.

        Raises:
            InvalidFunctionError: The code cannot be used as it is on disk.
            RuntimeNotFoundError: There is no interpreter for the function's runtime.
            InstanceStartError: An interpreter could not be started.
            IsolationUnavailableError: The function wants a container, and the kernel lets us make none.
            EngineClosedError: The engine was closed, perhaps while this call was waiting.
        """
        self.check_usable()
        pool, instance = self._idle_instance(function)
        if instance is not None:
            return Loan(pool, instance, is_cold=False)
        instance = self._start_instance(function, pool)
        try:
            if (events := self._events()) is not None:
                events.instance_started(instance, request_id)
        except BaseException:  # an interrupt while the host's log is written
            self._end(pool, instance, "interrupted", request_id)
            raise
        return Loan(pool, instance, is_cold=True)

    def take_back(self, loan: Loan, reason: str, request_id: str | None = None) -> None:
        """Take back what was lent: to be lent again, or to be ended because of *reason*, when there is one."""
        pool, instance, is_cold = loan
        if reason:
            self._end(pool, instance, reason, request_id)
        elif not pool.release(instance):
            self._end(pool, instance, "outdated", request_id)
        self._janitor.start()  # also when nothing is idle: the pool is forgotten some time
        if is_cold:
            self._janitor.wake()  # not sooner: it would start the next one while this function waits for a processor

    def warm_up(self, runtime: str) -> None:
        """Start what instances of *runtime* are started from, and spare ones: see ``Starter.warm_up``."""
        self.check_usable()
        self._starter.warm_up(runtime)

    def release_idle(self) -> None:
        """End every idle instance now, the spare ones too."""
        self.check_usable()
        self._starter.clear_stock()
        self._upkeep.release_idle_since(monotonic_ns() + NS_PER_S)
        self._enforcement.sweep()

    def refuse(self) -> None:
        """Lend nothing any more."""
        with self._lock:
            self.is_closed = True

    def end_all(self) -> None:
        """End what is idle, and doom what is lent, after refuse()."""
        self._janitor.stop()
        idle = [(pool, instance) for pool in list(self._pools.values()) for instance in pool.close()]
        for _, instance in idle:
            instance.doom()  # all of them first: each needs a millisecond or more to die, and none waits for another
        for pool, instance in idle:
            self._end(pool, instance, "closed")

    def wait_until_returned(self) -> None:
        """Wait until everything that was lent is given back, after end_all()."""
        for pool in list(self._pools.values()):
            pool.wait_until_unused(_RETURN_TIMEOUT_S)

    def is_on_own_thread(self) -> bool:
        """Whether the caller runs on the fleet's own thread: garbage is collected there as well."""
        return self._janitor.is_this_thread()

    def dispose(self) -> None:
        """End and remove all of it, at once; nothing in a forked copy of the host, which owns nothing of it.

        On the fleet's own thread all of it is the last that this thread does: whatever it is in the middle of, it may
        hold one of the locks that are needed.
        """
        if self.is_copy():
            self._starter.abandon()
        elif self._janitor.is_this_thread():
            self._janitor.end_with(self._dispose_now)
        else:
            self._janitor.stop()
            self._starter.close_stock()
            self._janitor.join(_RETURN_TIMEOUT_S)
            self._dispose_now()

    def _dispose_now(self) -> None:
        self.refuse()
        self._starter.close_stock()
        self._starter.close()
        for pool in self._pools.values():
            for instance in pool.close():  # dead with their zygotes; none is left after end_all()
                instance.close()
        self._enforcement.close()
        self._workspace.close()

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
            try:
                if instance is None or instance.is_usable():
                    return pool, instance
            except BaseException:  # an interrupt: close() would wait for who never had it
                if instance is not None:
                    self._end(pool, instance, "interrupted")
                raise
            self._end(pool, instance, "unusable")

    def _add_pool(self, function: Function) -> Pool:
        if not isinstance(function, Function):
            raise TypeError(f"function must be an engine.Function, not {type(function).__name__}")
        self._runtimes.find(function.runtime)  # a missing interpreter is told before a large archive is unpacked
        staged = self._stage(function)
        with self._lock:
            if self.is_closed:
                raise EngineClosedError("the engine is closed")
            return self._pools.setdefault(function, Pool(staged, self._max_instances))

    def _stage(self, function: Function) -> StagedFunction:
        try:
            return self._staging.stage(function)
        except (OSError, InvalidFunctionError):
            if self.is_closed:  # close() removed the folder that it was staged into
                raise EngineClosedError("the engine is closed") from None
            raise

    def _start_instance(self, function: Function, pool: Pool) -> Instance:
        try:
            instance = self._starter.start(function, pool.staged)
        except BaseException as error:
            pool.given_up()
            if self.is_closed and isinstance(error, OSError):  # close() took the folder away that it was made in
                raise EngineClosedError("the engine is closed") from None
            raise
        pool.added(instance)
        return instance

    def _end(self, pool: Pool, instance: Instance, reason: str, request_id: str | None = None) -> None:
        """Kill an instance that cannot or need not go on, and let go of it. One that is dead is only let go of."""
        try:
            instance.kill()
        finally:
            # Also when a second KeyboardInterrupt comes: close() waits for everything that is in a pool.
            pool.remove(instance)
            instance.close()
            if (events := self._events()) is not None:
                events.instance_killed(instance, reason, request_id)
