"""What does a first reply from a new worker cost elsewhere, beside the engine's?"""

from __future__ import annotations

from typing import Final

from benchmarks.engines import EngineCold
from benchmarks.harness import Effort, Question
from benchmarks.peers import Cold
from benchmarks.peers.everyone import NOTE_TITLE, all_peers, notes
from benchmarks.references import BareZygote, PlainSubprocess
from benchmarks.starts import time_starts

_FORK: Final = EngineCold("fork")
_NONE_AHEAD: Final = EngineCold("fork", name="engine, fork, none ahead", options={"spare_instances": 0})
"""Like for like: no other tool here has a worker ready before anybody asks for one."""
_SPAWN: Final = EngineCold("spawn")


QUESTION: Final = Question(
    name="peers_cold",
    title="New worker to its first reply, beside other tools",
    contenders=(PlainSubprocess(), BareZygote(), _FORK, _NONE_AHEAD, _SPAWN, *map(Cold, all_peers())),
    base=_FORK.name,
    with_host=True,
    notes=notes(PlainSubprocess.name, BareZygote.name, _FORK.name, _NONE_AHEAD.name, _SPAWN.name),
    note_title=NOTE_TITLE,
    pinnings=(True,),
    full=Effort(rounds=2, calls=4, warm_up=1),
    quick=Effort(rounds=1, calls=2, warm_up=1),
    measure=time_starts,
)
