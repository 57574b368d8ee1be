"""How many events a second does one instance handle when requests are written ahead of it?"""

from __future__ import annotations

import json
import os
from typing import Any, Final

from benchmarks.engines import EngineWarm, engine_unavailable, make_function, open_engine
from benchmarks.harness import CALL, BenchmarkError, Contender, Effort, Job, Question, Values, small_event, time_calls
from benchmarks.promises import as_fast_at_least
from benchmarks.references import BareEcho, pipe_ends, start_echo, stop

_AHEAD: Final = "bare echo, written ahead"
_EVENTS: Final = "events"

_IN_FLIGHT_LINES = 256
"""With 100-byte events, half of what each of the two pipes holds: neither side can block the other for good."""

_PIPE_BYTES = 65536


def measure_per_event(contender: Contender, job: Job, event: Any) -> Values:
    """A call handles all events; its time is divided by their number."""
    values = time_calls(contender, job, event)
    return {CALL: [value / job.options[_EVENTS] for value in values[CALL]]}


class BareEchoAhead:
    """A bare child that is never let wait: lines are written ahead, replies taken as they come."""

    name = _AHEAD

    def unavailable(self, job: Job) -> str | None:
        return None

    def start(self, job: Job, event: Any) -> None:
        self._child = start_echo(job.python, "echo_lines.py")
        self._request, self._reply = pipe_ends(self._child)
        self._line = json.dumps(event).encode("ascii") + b"\n"
        self._count = job.options[_EVENTS]

    def call(self) -> Any:
        sent = received = 0
        replies = []
        while received < self._count:
            more = min(self._count - sent, _IN_FLIGHT_LINES - (sent - received))
            if more:
                os.write(self._request, self._line * more)
                sent += more
            replies.append(os.read(self._reply, _PIPE_BYTES))
            received += replies[-1].count(b"\n")
        return b"".join(replies)

    def decoded(self, reply: Any) -> Any:
        values = {line: json.loads(line) for line in set(reply.splitlines())}
        return next(iter(values.values())) if len(values) == 1 else list(values)

    def close(self) -> None:
        stop(self._child)


class EngineMap:
    """``Engine.map``: every result is taken and its value read, in order."""

    name = "engine.map"

    def unavailable(self, job: Job) -> str | None:
        return engine_unavailable()

    def start(self, job: Job, event: Any) -> None:
        self._engine = open_engine(job, max_instances=1)
        self._function = make_function(job)
        self._events = [event] * job.options[_EVENTS]

    def call(self) -> Any:
        return [result.value for result in self._engine.map(self._function, self._events)]

    def decoded(self, reply: Any) -> Any:
        if len(reply) != len(self._events):
            raise BenchmarkError(f"{len(reply)} results of {len(self._events)} events")
        return reply[0] if all(value == reply[0] for value in reply) else reply

    def close(self) -> None:
        self._engine.close()


class OneAtATime:
    """Another contender, called once for each event."""

    def __init__(self, one: Contender) -> None:
        self._one = one
        self.name = f"{one.name}, one at a time"

    def unavailable(self, job: Job) -> str | None:
        return self._one.unavailable(job)

    def start(self, job: Job, event: Any) -> None:
        self._one.start(job, event)
        self._count = job.options[_EVENTS]

    def call(self) -> Any:
        one = self._one.call
        for _ in range(self._count - 1):
            one()
        return one()

    def decoded(self, reply: Any) -> Any:
        return self._one.decoded(reply)

    def close(self) -> None:
        self._one.close()


QUESTION: Final = Question(
    name="throughput",
    title="Time for each of 10,000 events, one instance (with --quick 2,000)",
    contenders=(BareEchoAhead(), OneAtATime(BareEcho()), EngineMap(), OneAtATime(EngineWarm())),
    base=_AHEAD,
    full=Effort(rounds=2, calls=1),
    quick=Effort(rounds=1, calls=1),
    quick_pinnings=(True,),
    options={_EVENTS: 10_000},
    quick_options={_EVENTS: 2000},
    event=small_event,
    measure=measure_per_event,
    targets=(
        as_fast_at_least(2.0, EngineMap.name, "engine, one at a time"),
        as_fast_at_least(0.6, EngineMap.name, _AHEAD),
    ),
)
