"""What does a cold start cost, from the call to the first reply, with everything a warm one has?"""

from __future__ import annotations

from typing import Final

from benchmarks.engines import EngineCold
from benchmarks.harness import Effort, Question
from benchmarks.promises import as_fast_at_least, times_at_most
from benchmarks.references import BareZygote, EchoStart, PlainSubprocess
from benchmarks.starts import time_starts

_PLAIN: Final = "subprocess.run"
_FORKS: Final = ("engine, fork", "engine, fork, none ahead")

QUESTION: Final = Question(
    name="cold_start",
    title="Cold start to the first reply",
    contenders=(
        PlainSubprocess(),
        EchoStart(),
        BareZygote(),
        EngineCold("fork"),
        # What is done ahead of the call is work all the same: here the call waits for all of it.
        EngineCold("fork", name=_FORKS[1], options={"spare_instances": 0}),
        EngineCold("spawn"),
    ),
    base=_PLAIN,
    full=Effort(rounds=3, calls=12, warm_up=2),
    quick=Effort(rounds=1, calls=6, warm_up=2),
    quick_pinnings=(True,),
    measure=time_starts,
    targets=(
        # Of both: whoever starts two in a row has one that was started ahead, and one that was not.
        *(times_at_most(2.0, fork, "bare zygote", pinned=True) for fork in _FORKS),
        *(as_fast_at_least(8.0, fork, _PLAIN, runtimes=("python3.6", "python3.9"), pinned=True) for fork in _FORKS),
        *(as_fast_at_least(4.0, fork, _PLAIN, runtimes=("python2.7",), pinned=True) for fork in _FORKS),
        times_at_most(1.0, "engine, spawn", _PLAIN, pinned=True),
    ),
)
