"""loky: joblib's executor, with workers by fork and exec."""

from __future__ import annotations

from typing import Any

from benchmarks.harness import Job
from benchmarks.peers import Peer


class Loky(Peer):
    """An executor of one worker."""

    name = "loky"
    module = "loky"

    def open(self, job: Job) -> None:
        import loky  # noqa: PLC0415  # who is not measured need not be there

        super().open(job)
        self._make_executor = loky.ProcessPoolExecutor

    def start_worker(self, event: Any) -> None:
        self._event = event
        self._function = self.handler
        self._executor = self._make_executor(max_workers=1)

    def call(self) -> Any:
        return self._executor.submit(self._function, self._event, None).result()

    def stop_worker(self) -> None:
        self._executor.shutdown(wait=True)

    def close(self) -> None:
        # Its tracker of semaphores is meant to live as long as the program.
        from loky.backend import resource_tracker  # noqa: PLC0415  # as above

        resource_tracker._resource_tracker._stop()  # noqa: SLF001  # there is no public way
