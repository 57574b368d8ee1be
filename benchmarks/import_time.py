"""What does ``import engine`` add to the start of a program?"""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Final

from benchmarks.engines import engine_unavailable
from benchmarks.harness import CALL, ROOT, Contender, Effort, Job, Question, Values, environment
from benchmarks.promises import median_at_most

_TIMED: Final = """\
import sys, time
sys.path.insert(0, %r)
started = time.perf_counter_ns()
%s
print(time.perf_counter_ns() - started)
"""


def run_timed(code: str) -> int:
    """Run *code* in a fresh interpreter of our own kind; nanoseconds that it took, interpreter start left out."""
    command = [sys.executable, "-c", _TIMED % (str(ROOT), code)]
    return int(subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True).stdout)


class Snippet:
    """Lines of a program, timed inside of a fresh process for each call."""

    def __init__(self, name: str, code: str, *, needs_engine: bool) -> None:
        self.name = name
        self._code = code
        self._needs_engine = needs_engine

    def unavailable(self, job: Job) -> str | None:
        return engine_unavailable() if self._needs_engine else None

    def start(self, job: Job, event: Any) -> None:
        self._filled = self._code.format(job=job)

    def call(self) -> Any:
        return run_timed(self._filled)

    def decoded(self, reply: Any) -> Any:
        return reply

    def close(self) -> None:
        """Every process has ended."""


def measure(contender: Contender, job: Job, _event: Any) -> Values:
    """A call tells its own time."""
    return {CALL: [contender.call() / 1000 for _ in range(job.warm_up + job.calls)][job.warm_up :]}


QUESTION: Final = Question(
    name="import_time",
    title="import engine",
    contenders=(
        # What a program that starts children has imported anyway.
        Snippet("import json, subprocess", "import json, subprocess", needs_engine=False),
        Snippet("import engine", "import engine; engine.Engine", needs_engine=True),
    ),
    runtimes=("host",),
    full=Effort(rounds=3, calls=8, warm_up=1),
    quick=Effort(rounds=1, calls=3, warm_up=1),
    quick_pinnings=(False,),
    measure=measure,
    targets=(median_at_most(60_000, "import engine", pinned=False),),
)
