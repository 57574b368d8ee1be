"""What does a warm invocation cost, with deadline, peak memory, log and summary, over a bare echo?"""

from __future__ import annotations

from typing import Final

from benchmarks.engines import EngineWarm
from benchmarks.harness import Effort, Question
from benchmarks.promises import spread_at_most, times_at_most
from benchmarks.references import BareEcho

_ECHO: Final = "bare echo"

QUESTION: Final = Question(
    name="warm_invoke",
    title="Warm invocation, 100-byte event",
    # The base has the easier half: it sends text that is ready and leaves the reply as text, while the
    # engine is given objects and gives back objects. The two other contenders are like for like.
    contenders=(
        BareEcho(_ECHO),
        EngineWarm("engine"),
        BareEcho("bare echo, objects", objects=True),
        EngineWarm("engine, JSON text", objects=False),
    ),
    base=_ECHO,
    full=Effort(rounds=5, calls=2000, warm_up=300),
    quick=Effort(rounds=1, calls=500, warm_up=100),
    targets=(
        times_at_most(2.0, "engine", _ECHO, pinned=True),
        times_at_most(1.3, "engine", _ECHO, pinned=False),
        spread_at_most(3.0, "engine", pinned=True),
    ),
)
