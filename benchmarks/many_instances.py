"""What do a thousand warm instances cost, and does the one that is called suffer from the rest?"""

from __future__ import annotations

import os
import time
from typing import Any, Final

from benchmarks.engines import checked, engine_unavailable, make_function, open_engine
from benchmarks.footprint import cpu_time_ns, descendants, pss_mb
from benchmarks.harness import Contender, Effort, Job, Question, Values, time_calls
from benchmarks.promises import median_at_most, times_at_most

_INSTANCES: Final = "instances"
_ONE: Final = "engine, 1 instance"
_MANY: Final = "engine, many instances"

_LONGER_THAN_THE_RUN_S: Final = 3600.0
_IDLE_S: Final = 5.0

START: Final = "start_s"
PSS: Final = "memory_MB"
IDLE: Final = "idle_%"


class EngineAmong:
    """One warm instance, alone or among many: each of as many functions keeps one."""

    def __init__(self, name: str, *, alone: bool) -> None:
        self.name = name
        self.is_alone = alone

    def unavailable(self, job: Job) -> str | None:
        return engine_unavailable()

    def start(self, job: Job, event: Any) -> None:
        count = 1 if self.is_alone else job.options[_INSTANCES]
        self._event = event
        self._engine = open_engine(job, idle_timeout_s=_LONGER_THAN_THE_RUN_S)
        self._functions = [make_function(job, name=f"many-{number}") for number in range(count)]
        self._engine.warm_up([job.setting.runtime])
        before = set(descendants(os.getpid()))
        started = time.perf_counter()
        futures = [self._engine.submit(function, event) for function in self._functions]
        for future in futures:
            checked(future.result())
        self.start_s = time.perf_counter() - started
        self.instances = [pid for pid in descendants(os.getpid()) if pid not in before]

    def call(self) -> Any:
        return self._engine.invoke(self._functions[0], self._event).value

    def decoded(self, reply: Any) -> Any:
        return reply

    def close(self) -> None:
        self._engine.close()


def measure(contender: Contender, job: Job, event: Any) -> Values:
    """Calls of the first one; and of many, not pinned, the time of their start, their memory and their idle time."""
    values = time_calls(contender, job, event)
    if job.setting.pinned or not isinstance(contender, EngineAmong) or contender.is_alone:
        return values
    children = descendants(os.getpid())
    before_ns = sum(cpu_time_ns(pid) for pid in children)
    before_ns += time.process_time_ns()  # behind the others: to read a thousand files takes tens of milliseconds
    # Not a wait for something: the passing of this time is what is measured.
    time.sleep(_IDLE_S)
    idle_ns = time.process_time_ns() - before_ns
    idle_ns += sum(cpu_time_ns(pid) for pid in children)
    return {
        **values,
        START: [contender.start_s],
        PSS: [pss_mb(pid) for pid in contender.instances],
        IDLE: [idle_ns / 1e9 / _IDLE_S * 100],
    }


QUESTION: Final = Question(
    name="many_instances",
    title="1,000 warm instances (with --quick 100)",
    contenders=(EngineAmong(_ONE, alone=True), EngineAmong(_MANY, alone=False)),
    base=_ONE,
    full=Effort(rounds=1, calls=2000, warm_up=300),
    quick=Effort(rounds=1, calls=300, warm_up=50),
    quick_pinnings=(False,),
    options={_INSTANCES: 1000},
    quick_options={_INSTANCES: 100},
    measure=measure,
    targets=(
        median_at_most(3, _MANY, START, pinned=False),
        median_at_most(2, _MANY, PSS, pinned=False),
        median_at_most(0.5, _MANY, IDLE, pinned=False),
        times_at_most(1.1, _MANY, _ONE, pinned=True),
    ),
)
