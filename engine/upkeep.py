"""What is done about instances and pools that nobody uses just now.

Theory of operation
-------------------
Two things, each when it is due. What rests for too long is let go: when the next one will be is known beforehand, since
whatever begins to rest later is due later. And idle instances are looked at, one after the other, for what they left
behind may grow. A look takes 10 microseconds of a processor, the first at an instance 100: a few instances at once are
looked at each second, a thousand in small groups with pauses between them, so that nobody notices.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from engine.clock import NS_PER_MS, NS_PER_S, monotonic_ns
from engine.enforcement import Enforcement
from engine.instance import Instance
from engine.model import Function
from engine.pool import Pool

_PASS_NS: Final = NS_PER_S
"""What a function left behind may fill memory or disk: all are looked at once a second, when that is cheap."""

_LOOKS_NS: Final = 2 * NS_PER_MS
"""How long instances are looked at before others may have the processor."""

_REST_FACTOR: Final = 300
"""However many instances are idle, the looks take no more than this part of a core."""

_RELEASE_PAUSE_NS: Final = 10 * NS_PER_MS
"""However short the idle timeout is: one of a microsecond had the thread take a whole core, with nothing to release."""

_UNFINISHED_LOOK_FACTOR: Final = 4
"""An instance with hundreds of helpers is looked at in pieces, with pauses between them."""


class Upkeep:
    """Releases what was idle for too long, or grew while idle. do_what_is_due() is for one thread at a time.

    Args:
        pools: The pools by function; those that nobody uses any more are taken out.
        lock: Held while a pool is taken out.
        enforcement: Who has groups and folders to remove.
        end: Kills an instance for a reason, and lets go of it.
        idle_timeout_ns: How long an instance may be idle.
    """

    def __init__(
        self,
        pools: dict[Function, Pool],
        lock: threading.Lock,
        enforcement: Enforcement,
        end: Callable[[Pool, Instance, str], None],
        idle_timeout_ns: int,
    ) -> None:
        self._pools = pools
        self._lock = lock
        self._enforcement = enforcement
        self._end = end
        self._idle_timeout_ns = idle_timeout_ns
        self._release_at_ns = 0
        self._to_look_at: deque[tuple[Pool, Instance]] = deque()

    def do_what_is_due(self) -> int:
        """Do it; return when to come again, in nanoseconds."""
        self._enforcement.sweep()
        now = monotonic_ns()
        if now >= self._release_at_ns:
            self.release_idle_since(now - self._idle_timeout_ns)
            self.forget_unused(now - self._idle_timeout_ns)
            resting = [since for pool in list(self._pools.values()) if (since := pool.resting_since_ns()) is not None]
            due_ns = min(resting, default=now) + self._idle_timeout_ns
            self._release_at_ns = max(due_ns, now + _RELEASE_PAUSE_NS)
        look_in_ns = self._look_at_idle()
        return max(0, min(look_in_ns, self._release_at_ns - monotonic_ns()))

    def release_idle_since(self, idle_before_ns: int) -> None:
        """End every instance that is idle since before then."""
        for pool in list(self._pools.values()):
            for instance in pool.expire(idle_before_ns):
                self._end(pool, instance, "idle")

    def forget_unused(self, unused_since_ns: int) -> None:
        """Let go of the pools of functions that nobody has called since then."""
        for function, pool in list(self._pools.items()):
            with self._lock:
                if pool.retire(unused_since_ns):
                    del self._pools[function]

    def _look_at_idle(self) -> int:
        """Look at some idle instances, and end what grew over a limit; return when to go on, in nanoseconds."""
        waiting = self._to_look_at
        if not waiting:
            waiting.extend((pool, instance) for pool in list(self._pools.values()) for instance in pool.idle())
        unfinished = []
        # Of a processor, and for the looks alone: a folder that took 100 ms to remove was followed by half a minute in
        # which an idle instance could fill the machine's memory.
        took_ns = 0
        while waiting and took_ns < _LOOKS_NS:
            pool, instance = waiting.popleft()
            before_ns = time.thread_time_ns()
            passed = pool.look_at_idle(instance)
            took_ns += time.thread_time_ns() - before_ns
            if passed is not None:
                self._end(pool, instance, passed.value)
            elif pool.has_more_to_see(instance):
                unfinished.append((pool, instance))
        waiting.extendleft(unfinished)
        if unfinished:
            return took_ns * _UNFINISHED_LOOK_FACTOR
        return took_ns * _REST_FACTOR if waiting else max(_PASS_NS, took_ns * _REST_FACTOR)
