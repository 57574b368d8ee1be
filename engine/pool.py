"""The instances of one function: who is idle, how many there may be, and when they go."""

from __future__ import annotations

import threading
from collections import deque

from engine.clock import monotonic_ns
from engine.errors import EngineClosedError
from engine.instance import Instance
from engine.staging import StagedFunction
from engine.verdict import Ended


class PoolRetiredError(Exception):
    """The pool was given up because nobody used it; whoever still holds it asks for the function's new one."""


class Pool:
    """Hands out idle instances, newest first, and counts those that are out. Thread-safe.

    Whoever was given an instance gives it back by release(), or kills it and says so by remove().

    Attributes:
        staged: The function's code as instances are started with it now.
    """

    def __init__(self, staged: StagedFunction, max_instances: int) -> None:
        self.staged = staged
        self._max_instances = max_instances
        self._idle: deque[Instance] = deque()
        self._busy: set[Instance] = set()
        self._starting = 0
        # Entered and left as the lock that it is: a Condition is Python code around it, so that takes longer, and a
        # KeyboardInterrupt in that code leaves the lock taken for good. It happened to one in 800 of those that came
        # while instances were started: close() waited for ever.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0
        self._closed = False
        self._retired = False
        self._used_at_ns = monotonic_ns()

    def acquire(self) -> Instance | None:
        """Return an idle instance, or None: the caller may start one, and must tell added() or given_up().

        Waits while every instance is busy and there may be no more.

        Raises:
            EngineClosedError: The pool was closed, perhaps while waiting.
            PoolRetiredError: The pool was retired; a new one takes its place.
        """
        with self._lock:
            while True:
                if self._closed:
                    raise EngineClosedError("the engine is closed")
                if self._retired:
                    raise PoolRetiredError
                if self._idle:
                    instance = self._idle.pop()
                    self._busy.add(instance)
                    return instance
                if len(self._busy) + self._starting < self._max_instances:
                    self._starting += 1
                    return None
                self._waiting += 1
                try:
                    self._changed.wait()
                finally:
                    self._waiting -= 1

    def added(self, instance: Instance) -> None:
        """Count the instance that was started after acquire() gave None: its caller uses it now."""
        with self._lock:
            self._starting -= 1
            self._busy.add(instance)
            if self._closed:
                instance.doom()  # close() did not know it yet

    def given_up(self) -> None:
        """Take back the permission that acquire() gave with None."""
        with self._lock:
            self._starting -= 1
            self._changed.notify()

    def release(self, instance: Instance) -> bool:
        """Take a healthy instance back; False when it is not wanted any more, and the caller has to kill it."""
        with self._lock:
            if self._closed or instance.staged is not self.staged:
                return False
            self._busy.discard(instance)
            instance.idle_since_ns = monotonic_ns()
            self._idle.append(instance)
            if self._waiting:
                self._changed.notify()
            return True

    def remove(self, instance: Instance) -> None:
        """Forget an instance that is dead."""
        with self._lock:
            self._used_at_ns = monotonic_ns()
            self._busy.discard(instance)
            self._changed.notify()

    def renew(self, staged: StagedFunction) -> list[Instance]:
        """Start from *staged* from now on; return the idle instances of the code before, for the caller to kill."""
        with self._lock:
            self.staged = staged
            return self._taken(list(self._idle))

    def expire(self, idle_before_ns: int) -> list[Instance]:
        """Return the instances that were idle since before *idle_before_ns*, for the caller to kill."""
        with self._lock:
            expired = [each for each in self._idle if each.idle_since_ns < idle_before_ns]
            return self._taken(expired)

    def idle(self) -> list[Instance]:
        """Return the instances that are idle now."""
        with self._lock:
            return list(self._idle)

    def look_at_idle(self, instance: Instance) -> Ended | None:
        """Look at what an instance left behind; when it grew over a limit return which, for the caller to kill it.

        Nobody can be given the instance while it is looked at: for that long the pool is locked. One that is not idle
        any more is not looked at.
        """
        with self._lock:
            passed = instance.inspect_idle() if instance in self._idle else None
            if passed is not None:
                self._taken([instance])
            return passed

    def has_more_to_see(self, instance: Instance) -> bool:
        """Whether an idle instance left behind more than the last look could see."""
        with self._lock:
            return instance in self._idle and instance.has_more_to_see()

    def resting_since_ns(self) -> int | None:
        """Return since when the longest idle instance is idle, or nobody has one; None while all that are are out."""
        with self._lock:
            if self._idle:
                return min(each.idle_since_ns for each in self._idle)
            return None if self._busy or self._starting else self._used_at_ns

    def close(self) -> list[Instance]:
        """Hand out nothing any more, doom what is busy, and return what is idle, for the caller to kill."""
        with self._lock:
            self._closed = True
            for instance in self._busy:
                instance.doom()
            self._changed.notify_all()
            return self._taken(list(self._idle))

    def wait_until_unused(self, timeout_s: float) -> None:
        """Wait until everybody who has an instance, to use it or to kill it, has removed it.

        Not for ever: a thread that was interrupted between being given an instance and using it never says so.
        """
        with self._lock:
            self._changed.wait_for(lambda: not self._busy and not self._starting, timeout_s)

    def retire(self, unused_since_ns: int) -> bool:
        """Close the pool when nobody has had an instance of it since *unused_since_ns*; return whether it is closed.

        Its descriptions, secrets among them, are not kept for a function that is not called any more.
        """
        with self._lock:
            used = self._busy or self._idle or self._starting or self._used_at_ns >= unused_since_ns
            self._retired = not used
            return self._retired

    def _taken(self, instances: list[Instance]) -> list[Instance]:
        """Hand idle instances out to be killed: they count until they are removed, because until then they live."""
        self._idle = deque(each for each in self._idle if each not in instances)
        self._busy.update(instances)
        return instances
