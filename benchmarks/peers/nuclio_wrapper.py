"""nuclio's Python wrapper, which cannot be installed."""

from __future__ import annotations

from typing import Any

from benchmarks.harness import Job
from benchmarks.peers import Peer


class NuclioWrapper(Peer):
    """Named so that nobody misses it: nuclio-sdk, which its functions import, starts nothing by itself."""

    name = "nuclio"
    module = "nuclio_sdk"

    def unavailable(self, job: Job) -> str | None:
        return "not installable: its wrapper is a part of nuclio's container images, and in no package"

    def start_worker(self, event: Any) -> None:
        raise NotImplementedError(self.unavailable(self.job))

    def call(self) -> Any:
        raise NotImplementedError(self.unavailable(self.job))

    def stop_worker(self) -> None:
        """There is none."""
