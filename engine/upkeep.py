"""What is done about instances and pools that nobody uses just now."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from engine.clock import NS_PER_S, monotonic_ns
from engine.enforcement import Enforcement
from engine.instance import Instance
from engine.model import Function
from engine.pool import Pool

_IDLE_LOOK_NS: Final = NS_PER_S
"""What a function left behind may fill memory or disk: one look a second, 10 microseconds for one that left nothing."""

_REST_FACTOR: Final = 300
"""However many instances are idle, the looks take no more than this part of a core."""

_UNFINISHED_LOOK_FACTOR: Final = 4
"""An instance with hundreds of helpers is looked at in pieces, with pauses between them."""


class Upkeep:
    """Releases what was idle for too long, or grew while idle. For one thread at a time.

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

    def do_what_is_due(self) -> int:
        """Do it; return when to come again, in nanoseconds."""
        self._enforcement.sweep()
        now = monotonic_ns()
        self.release_idle_since(now - self._idle_timeout_ns)
        self.forget_unused(now - self._idle_timeout_ns)
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

    def _look_at_idle(self, pools: list[Pool]) -> bool:
        """End what grew over a limit while idle; return whether there is more to see at once."""
        outgrown = [(pool, *found) for pool in pools for found in pool.outgrown()]
        for pool, instance, passed in outgrown:
            self._end(pool, instance, passed.value)
        return any(pool.has_more_to_see() for pool in pools)
