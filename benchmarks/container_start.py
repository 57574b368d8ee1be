"""What does a cold start in a container cost, over one without, and beside bubblewrap with a fresh interpreter?"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any, Final

from benchmarks.engines import EngineCold
from benchmarks.harness import Effort, Job, Question
from benchmarks.promises import times_at_most
from benchmarks.references import ONE_SHOT
from benchmarks.starts import time_starts

_PROCESS: Final = "engine, process"
_CONTAINER: Final = "engine, container"


class Bubblewrap:
    """``bwrap --unshare-all`` around an interpreter for each call, the event on its stdin."""

    name = "bwrap --unshare-all"

    def unavailable(self, job: Job) -> str | None:
        return None if shutil.which("bwrap") else "not installed: no bwrap on PATH"

    def start(self, job: Job, event: Any) -> None:
        rooms = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
        rooms += ["--ro-bind", job.code, job.code]
        program = [job.python, "-c", ONE_SHOT % (job.code, job.module, job.function)]
        self._command = ["bwrap", "--unshare-all", *rooms, *program]
        self._event = event

    def call(self) -> Any:
        text = json.dumps(self._event).encode("ascii")
        return json.loads(subprocess.run(self._command, input=text, capture_output=True, check=True).stdout)

    def decoded(self, reply: Any) -> Any:
        return reply

    def close(self) -> None:
        """There is nothing to close: every child has ended."""


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
