"""What does the engine add to 6 MB in and 6 MB out, over the JSON work that the child cannot avoid?"""

from __future__ import annotations

import json
import os
import tempfile
import time
from typing import Any, Final

from benchmarks.engines import EngineWarm
from benchmarks.harness import CALL, Contender, Effort, Job, Question, Values, time_calls
from benchmarks.promises import times_at_most
from benchmarks.references import pipe_ends, start_echo, stop

_BYTES: Final = 6_000_000
_TEXT_ENGINE: Final = "engine, JSON text"

_ROOM: Final[dict[str, Any]] = {"memory_mb": 1024, "timeout_s": 30.0}
"""6 MB of rows are over 128 MB of objects on 2.7."""


def rows_event() -> Any:
    """Rows as a query would give them, 6,000,000 bytes of JSON at most."""
    row = {"id": 1234567, "name": "zygote \u00fc", "price": 12.5, "tags": ["one", "two"], "active": True, "note": None}
    return [row] * (_BYTES // (len(json.dumps(row)) + len(", ")) - 1)


class JsonAndCopies:
    """json.loads and json.dumps, timed in the child itself, and two copies of the text in memory here."""

    name = "loads + dumps + 2 copies"

    def unavailable(self, job: Job) -> str | None:
        return None

    def start(self, job: Job, event: Any) -> None:
        self._text = json.dumps(event).encode("ascii")
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            file.write(self._text)
            file.flush()
            self._child = start_echo(job.python, "payload.py", file.name)
            self._request, self._reply = pipe_ends(self._child)
            self.call()  # the child has read the file once it answers

    def call(self) -> Any:
        os.write(self._request, b".")
        child_ns = int(os.read(self._reply, 100))
        started = time.perf_counter_ns()
        bytearray(self._text)
        bytearray(self._text)
        return child_ns + time.perf_counter_ns() - started

    def decoded(self, reply: Any) -> Any:
        return reply

    def close(self) -> None:
        stop(self._child)


def measure(contender: Contender, job: Job, event: Any) -> Values:
    """The reference tells its own time; everything else is timed from outside."""
    if not isinstance(contender, JsonAndCopies):
        return time_calls(contender, job, event)
    return {CALL: [contender.call() / 1000 for _ in range(job.warm_up + job.calls)][job.warm_up :]}


QUESTION: Final = Question(
    name="large_payload",
    title="6 MB event and 6 MB return",
    contenders=(JsonAndCopies(), EngineWarm(_TEXT_ENGINE, objects=False, **_ROOM), EngineWarm("engine", **_ROOM)),
    base=JsonAndCopies.name,
    pinnings=(True,),
    full=Effort(rounds=2, calls=4, warm_up=1),
    quick=Effort(rounds=1, calls=1, warm_up=1),
    event=rows_event,
    measure=measure,
    targets=(times_at_most(1.2, _TEXT_ENGINE, JsonAndCopies.name),),
)
