"""concurrent.futures.ProcessPoolExecutor, with each of the three ways in which it starts workers."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from typing import Any

from benchmarks.peers import Peer


class ProcessPoolExecutor(Peer):
    """An executor of one worker, started by *start_method*."""

    module = "concurrent.futures"

    def __init__(self, start_method: str) -> None:
        self.name = f"ProcessPoolExecutor, {start_method}"
        self._context = multiprocessing.get_context(start_method)

    def start_worker(self, event: Any) -> None:
        self._event = event
        self._function = self.handler
        self._executor = concurrent.futures.ProcessPoolExecutor(1, mp_context=self._context)

    def call(self) -> Any:
        return self._executor.submit(self._function, self._event, None).result()

    def stop_worker(self) -> None:
        self._executor.shutdown(wait=True)

    def close(self) -> None:
        # Both are meant to live as long as the program; multiprocessing has no public way to end them sooner.
        from multiprocessing import forkserver, resource_tracker  # noqa: PLC0415  # not in what a fork copies

        forkserver._forkserver._stop()  # noqa: SLF001  # see above
        resource_tracker._resource_tracker._stop()  # noqa: SLF001  # likewise
