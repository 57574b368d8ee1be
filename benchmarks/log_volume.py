"""What does it cost to have 100 MB of output read, and its newest 4 KB kept?"""

from __future__ import annotations

import subprocess
from typing import Any, Final

from benchmarks.engines import checked, engine_unavailable, make_function, open_engine
from benchmarks.harness import Contender, Effort, Job, Question, Values, time_calls
from benchmarks.promises import times_at_most

_LINES: Final = "lines"
_TO_NULL: Final = "engine, /dev/null"
_PRINTED: Final = "engine, printed"
_LONGEST_S: Final = 60.0

_PLAIN_CODE = """\
import sys
sys.path.insert(0, %r)
import printing
printing.print_lines(%d)
"""


class PlainPrinting:
    """A plain child with its output sent to /dev/null, interpreter start included; for scale, not a target's base.

    Its sys.stdout has a buffer of 8 KB, because it is no terminal. A function's output has to be in the log
    in the order in which all descriptors were written to, which such a buffer would break.
    """

    name = "plain child, /dev/null"

    def unavailable(self, job: Job) -> str | None:
        return None

    def start(self, job: Job, event: Any) -> None:
        self._command = [job.python, "-c", _PLAIN_CODE % (job.code, job.options[_LINES])]

    def call(self) -> Any:
        subprocess.run(self._command, stdout=subprocess.DEVNULL, check=True)

    def decoded(self, reply: Any) -> Any:
        return reply

    def close(self) -> None:
        """Every child has ended."""


class EnginePrinting:
    """A warm instance whose function prints to its log, or to a /dev/null in its place."""

    def __init__(self, name: str, *, to_null: bool) -> None:
        self.name = name
        self._to_null = to_null

    def unavailable(self, job: Job) -> str | None:
        return engine_unavailable()

    def start(self, job: Job, event: Any) -> None:
        self._engine = open_engine(job)
        self._function = make_function(job, handler="printing.handler", timeout_s=_LONGEST_S)
        self._event = {"lines": job.options[_LINES], "null": self._to_null}

    def call(self) -> Any:
        return checked(self._engine.invoke(self._function, self._event))

    def decoded(self, reply: Any) -> Any:
        return reply

    def close(self) -> None:
        self._engine.close()


def measure(contender: Contender, job: Job, _event: Any) -> Values:
    """Time calls; what comes back of printing is nothing to compare with the event."""
    return time_calls(contender, job, contender.decoded(contender.call()))


QUESTION: Final = Question(
    name="log_volume",
    title="A function that prints 100 MB (with --quick 10)",
    contenders=(
        EnginePrinting(_TO_NULL, to_null=True),
        EnginePrinting(_PRINTED, to_null=False),
        PlainPrinting(),
    ),
    base=_TO_NULL,
    full=Effort(rounds=1, calls=2),
    quick=Effort(rounds=1, calls=1),
    quick_pinnings=(True,),
    options={_LINES: 1_000_000},
    quick_options={_LINES: 100_000},
    measure=measure,
    targets=(times_at_most(1.3, _PRINTED, _TO_NULL),),
)
