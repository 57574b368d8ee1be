"""Ray: an actor on a cluster of this machine alone."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from benchmarks.harness import Job
from benchmarks.peers import Peer


class RayActor(Peer):
    """One actor; the cluster is the program's, and started once."""

    name = "Ray actor"
    module = "ray"

    def open(self, job: Job) -> None:
        # Neither reports of use to its makers, nor the warnings of a machine that is smaller than it likes.
        os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DISABLE_MEMORY_MONITOR="1", RAY_DEDUP_LOGS="0")
        import ray  # noqa: PLC0415  # who is not measured need not be there

        super().open(job)
        # Below /tmp wherever the temporary files are: a socket's path holds 107 bytes, and Ray adds seventy.
        self._folder = tempfile.TemporaryDirectory(prefix="fgengine-", dir="/tmp", ignore_cleanup_errors=True)
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            configure_logging=False,
            log_to_driver=False,
            object_store_memory=100 * 1024 * 1024,
            _temp_dir=self._folder.name,
        )
        self._ray = ray
        self._actor_class = ray.remote(num_cpus=1)(_Caller)

    def start_worker(self, event: Any) -> None:
        self._event = event
        self._actor = self._actor_class.remote(self.job.code, self.job.module, self.job.function)

    def call(self) -> Any:
        return self._ray.get(self._actor.call.remote(self._event))

    def stop_worker(self) -> None:
        self._ray.kill(self._actor)

    def close(self) -> None:
        self._ray.shutdown()
        self._folder.cleanup()


class _Caller:
    """What lives in the actor's process."""

    def __init__(self, folder: str, module: str, function: str) -> None:
        sys.path.insert(0, folder)
        self._handler = getattr(__import__(module), function)

    def call(self, event: Any) -> Any:
        return self._handler(event, None)
