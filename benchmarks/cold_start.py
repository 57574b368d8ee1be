"""What does a cold start cost, from the call to the first reply, with everything a warm one has?"""

from __future__ import annotations

from typing import Final

from benchmarks.engines import EngineCold
from benchmarks.harness import Effort, Question
from benchmarks.promises import as_fast_at_least, times_at_most
from benchmarks.references import BareZygote, EchoStart, PlainSubprocess

_PLAIN: Final = "subprocess.run"

QUESTION: Final = Question(
    name="cold_start",
    title="Cold start to the first reply",
    contenders=(PlainSubprocess(), EchoStart(), BareZygote(), EngineCold("fork"), EngineCold("spawn")),
    base=_PLAIN,
    full=Effort(rounds=5, calls=40, warm_up=3),
    quick=Effort(rounds=2, calls=10, warm_up=2),
    targets=(
        times_at_most(2.0, "engine, fork", "bare zygote", pinned=True),
        as_fast_at_least(8.0, "engine, fork", _PLAIN, runtimes=("python3.6", "python3.9"), pinned=True),
        as_fast_at_least(4.0, "engine, fork", _PLAIN, runtimes=("python2.7",), pinned=True),
        times_at_most(1.0, "engine, spawn", _PLAIN, pinned=True),
    ),
)
