"""multiprocessing.Pool: workers by fork, and pickles over a pipe."""

from __future__ import annotations

import multiprocessing
from typing import Any

from benchmarks.peers import Peer


class MultiprocessingPool(Peer):
    """A pool of one process."""

    name = "multiprocessing.Pool"
    module = "multiprocessing"

    def start_worker(self, event: Any) -> None:
        self._event = event
        self._function = self.handler
        self._pool = multiprocessing.get_context("fork").Pool(1)

    def call(self) -> Any:
        return self._pool.apply(self._function, (self._event, None))

    def stop_worker(self) -> None:
        self._pool.close()
        self._pool.join()
