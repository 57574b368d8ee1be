"""The one background thread of an engine: it cleans up and prepares while nobody waits."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from engine.clock import NS_PER_S, monotonic_ns

_COURTESY_S: Final = 0.002
"""Whoever wakes the thread is about to return to its caller, and goes first: else a result came 1 ms later, pinned."""


class Janitor:
    """Calls two things again and again, until it is stopped. Thread-safe.

    Args:
        prepare: Takes its time, and raises nothing.
        do_what_is_due: Does that, raises nothing, and returns in how many nanoseconds to come again.
    """

    def __init__(self, prepare: Callable[[], None], do_what_is_due: Callable[[], int]) -> None:
        self._prepare = prepare
        self._do_what_is_due = do_what_is_due
        # Not an Event: that is Python code around a lock, which a KeyboardInterrupt in there leaves taken for good.
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_stopped = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._last_act: Callable[[], None] | None = None

    def start(self) -> None:
        """Start the thread, unless it runs already or was stopped."""
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._is_stopped:
                    self._thread = threading.Thread(target=self._work, name="fgengine-janitor", daemon=True)
                    self._thread.start()

    def wake(self) -> None:
        """Have it come now."""
        self._calls.put(None)

    def stop(self) -> None:
        """Have it end; join() waits for that."""
        self._is_stopped = True
        self._calls.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait until the thread has ended; not for ever, it may wait for a lock that the caller holds."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def is_this_thread(self) -> bool:
        """Whether the caller runs on the janitor's own thread. Takes no lock."""
        return self._thread is threading.current_thread()

    def end_with(self, last_act: Callable[[], None]) -> None:
        """Have it end, and do that last. Takes no lock: for who is on this very thread, in the middle of anything."""
        self._last_act = last_act

    def _work(self) -> None:
        due_ns = 0
        while not self._is_over():
            while not self._calls.empty():  # before the work: what is asked for meanwhile is done in the next turn
                self._calls.get()
            self._prepare()
            if monotonic_ns() >= due_ns:  # not each time that it is woken: a round looks at every instance
                due_ns = self._do_what_is_due() + monotonic_ns()
            if not self._is_over() and self._is_called_within(max(0, due_ns - monotonic_ns()) / NS_PER_S):
                time.sleep(_COURTESY_S)
        if self._last_act is not None:
            self._last_act()

    def _is_called_within(self, timeout_s: float) -> bool:
        with suppress(queue.Empty):
            self._calls.get(timeout=timeout_s)
            return not self._is_over()
        return False

    def _is_over(self) -> bool:
        return self._last_act is not None or self._is_stopped
