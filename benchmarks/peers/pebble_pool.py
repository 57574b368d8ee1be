"""pebble: a pool of processes with a timeout for each call."""

from __future__ import annotations

import multiprocessing
from typing import Any

from benchmarks.peers import Peer

_TIMEOUT_S = 3.0
"""The engine's own default, so that both keep a deadline."""


class Pebble(Peer):
    """A pool of one process, forked as Linux does by default."""

    name = "pebble"
    module = "pebble"

    def start_worker(self, event: Any) -> None:
        import pebble  # noqa: PLC0415  # who is not measured need not be there

        self._event = event
        self._function = self.handler
        self._pool = pebble.ProcessPool(max_workers=1, context=multiprocessing.get_context("fork"))

    def call(self) -> Any:
        return self._pool.schedule(self._function, args=[self._event, None], timeout=_TIMEOUT_S).result()

    def stop_worker(self) -> None:
        self._pool.close()
        self._pool.join()
