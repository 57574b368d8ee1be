"""What does a cold start cost, from the call to the first reply, with everything a warm one has?"""

from __future__ import annotations

from typing import Final

from benchmarks.engines import EngineCold
from benchmarks.harness import CALL, Effort, Question
from benchmarks.references import BareZygote, EchoStart, PlainSubprocess
from benchmarks.stats import Sense, Statistic, Target

_PLAIN: Final = "subprocess.run"

QUESTION: Final = Question(
    name="cold_start",
    title="Cold start to the first reply",
    contenders=(PlainSubprocess(), EchoStart(), BareZygote(), EngineCold("fork"), EngineCold("spawn")),
    base=_PLAIN,
    full=Effort(rounds=5, calls=40, warm_up=3),
    quick=Effort(rounds=2, calls=10, warm_up=2),
    targets=(
        Target(
            contender="engine, fork",
            metric=CALL,
            statistic=Statistic.RATIO,
            against="bare zygote",
            sense=Sense.AT_MOST,
            bound=2.0,
            pinned=True,
        ),
        Target(
            contender="engine, fork",
            metric=CALL,
            statistic=Statistic.SPEEDUP,
            against=_PLAIN,
            sense=Sense.AT_LEAST,
            bound=8.0,
            runtimes=("python3.6", "python3.9"),
            pinned=True,
        ),
        Target(
            contender="engine, fork",
            metric=CALL,
            statistic=Statistic.SPEEDUP,
            against=_PLAIN,
            sense=Sense.AT_LEAST,
            bound=4.0,
            runtimes=("python2.7",),
            pinned=True,
        ),
        Target(
            contender="engine, spawn",
            metric=CALL,
            statistic=Statistic.RATIO,
            against=_PLAIN,
            sense=Sense.AT_MOST,
            bound=1.0,
            pinned=True,
        ),
    ),
)
