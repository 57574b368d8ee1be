"""What does a cold start in a container cost, over one without, and beside bubblewrap with a fresh interpreter?"""

from __future__ import annotations

import shutil
from typing import Any, Final

from benchmarks.engines import EngineCold
from benchmarks.harness import Effort, Job, Question
from benchmarks.promises import times_at_most
from benchmarks.references import PlainSubprocess
from benchmarks.starts import time_starts

_PROCESS: Final = "engine, process"
_CONTAINER: Final = "engine, container"


class Bubblewrap(PlainSubprocess):
    """``bwrap --unshare-all`` around an interpreter for each call, the event on its stdin."""

    name = "bwrap --unshare-all"

    def unavailable(self, job: Job) -> str | None:
        return None if shutil.which("bwrap") else "not installed: no bwrap on PATH"

    def start(self, job: Job, event: Any) -> None:
        super().start(job, event)
        rooms = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
        rooms += ["--ro-bind", job.code, job.code]
        self._command = ["bwrap", "--unshare-all", *rooms, *self._command]


QUESTION: Final = Question(
    name="container_start",
    title="Cold start in a container",
    contenders=(
        Bubblewrap(),
        EngineCold("fork", name=_PROCESS),
        EngineCold("fork", name=_CONTAINER, options={"isolation": "container"}),
    ),
    base=_PROCESS,
    pinnings=(True,),
    full=Effort(rounds=3, calls=12, warm_up=2),
    quick=Effort(rounds=1, calls=5, warm_up=2),
    measure=time_starts,
    targets=(
        times_at_most(3.0, _CONTAINER, _PROCESS),
        times_at_most(0.5, _CONTAINER, Bubblewrap.name),
    ),
)
