"""The one background thread of an engine: it cleans up and prepares while nobody waits.

It holds the engine weakly, and only while it goes round: one that nobody holds any more must not be kept by its own
thread. What takes milliseconds is done before that, for a part of the engine that does not know it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from engine.clock import NS_PER_S


class Janitor:
    """Calls two things again and again, until it is stopped or the engine is gone. Thread-safe.

    Args:
        prepare: Takes its time, and raises nothing.
        rounds: A bound method that does what is due, raises nothing, and returns in how many nanoseconds to come again.
    """

    def __init__(self, prepare: Callable[[], None], rounds: Callable[[], int]) -> None:
        self._prepare = prepare
        self._rounds = weakref.WeakMethod(rounds)
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
        """Wait until the thread has ended, unless this is the thread: the last one who held the engine."""
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _work(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()  # before the work: what is asked for meanwhile is done in the next round
            self._prepare()
            rounds = self._rounds()
            if rounds is None:
                return
            wait_ns = rounds()
            del rounds
            self._wake.wait(wait_ns / NS_PER_S)
