"""What does a warm call cost elsewhere, beside the engine's, on the same function and event?"""

from __future__ import annotations

from typing import Final

from benchmarks.engines import EngineWarm
from benchmarks.harness import Effort, Question
from benchmarks.peers import Warm
from benchmarks.peers.everyone import NOTE_TITLE, all_peers, notes
from benchmarks.references import BareEcho

_ECHO: Final = BareEcho("bare echo, objects", objects=True)
_ENGINE: Final = EngineWarm()

QUESTION: Final = Question(
    name="peers_warm",
    title="Warm call, 100-byte event, beside other tools",
    contenders=(_ECHO, _ENGINE, *map(Warm, all_peers())),
    base=_ENGINE.name,
    with_host=True,
    notes=notes(_ECHO.name, _ENGINE.name),
    note_title=NOTE_TITLE,
    full=Effort(rounds=2, calls=500, warm_up=100),
    quick=Effort(rounds=1, calls=100, warm_up=20),
    quick_pinnings=(True,),
)
