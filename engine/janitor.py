"""The one background thread of an engine: it cleans up and prepares while nobody waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
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
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it runs already or was stopped."""
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._stopped.is_set():
                    self._thread = threading.Thread(target=self._work, name="fgengine-janitor", daemon=True)
                    self._thread.start()

    def wake(self) -> None:
        """Have it come now."""
        self._wake.set()

    def stop(self) -> None:
        """Have it end; join() waits for that."""
        self._stopped.set()
        self._wake.set()

    def join(self) -> None:
        """Wait until the thread has ended, unless this is it: garbage may be collected anywhere."""
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _work(self) -> None:
        due_ns = 0
        while not self._stopped.is_set():
            self._wake.clear()  # before the work: what is asked for meanwhile is done in the next turn
            self._prepare()
            if monotonic_ns() >= due_ns:  # not each time that it is woken: a round looks at every instance
                due_ns = self._do_what_is_due() + monotonic_ns()
            if self._wake.wait(max(0, due_ns - monotonic_ns()) / NS_PER_S):
                self._stopped.wait(_COURTESY_S)
