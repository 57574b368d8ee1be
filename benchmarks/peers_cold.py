"""What does a first reply from a new worker cost elsewhere, beside the engine's?"""

from __future__ import annotations

import time
from typing import Any, Final

from benchmarks.engines import EngineCold
from benchmarks.harness import CALL, Contender, Effort, Job, Question, Values, check_reply
from benchmarks.peers import Cold
from benchmarks.peers.everyone import NOTE_TITLE, all_peers, notes
from benchmarks.references import BareZygote, PlainSubprocess

_FORK: Final = EngineCold("fork")
_SPAWN: Final = EngineCold("spawn")


def time_starts(contender: Contender, job: Job, event: Any) -> Values:
    """Time each call, and have its worker ended by decoded() before the next one is started."""
    check_reply(contender, event)
    values = []
    for _ in range(job.warm_up + job.calls):
        started = time.perf_counter_ns()
        reply = contender.call()
        values.append((time.perf_counter_ns() - started) / 1000)
        contender.decoded(reply)
    return {CALL: values[job.warm_up :]}


QUESTION: Final = Question(
    name="peers_cold",
    title="New worker to its first reply, beside other tools",
    contenders=(PlainSubprocess(), BareZygote(), _FORK, _SPAWN, *map(Cold, all_peers())),
    base=_FORK.name,
    with_host=True,
    notes=notes(PlainSubprocess.name, BareZygote.name, _FORK.name, _SPAWN.name),
    note_title=NOTE_TITLE,
    pinnings=(True,),
    full=Effort(rounds=3, calls=8, warm_up=1),
    quick=Effort(rounds=1, calls=2, warm_up=1),
    measure=time_starts,
)
