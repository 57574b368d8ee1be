"""How long after its deadline is a function dead, its tree gone and the result in the caller's hands?"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from typing import Any, Final, Protocol, cast

from benchmarks.engines import engine_unavailable, make_function, open_engine
from benchmarks.harness import BenchmarkError, Contender, Effort, Job, NotHereError, Question, Values
from benchmarks.promises import median_at_most, tail_at_most
from benchmarks.references import pipe_ends

OVERSHOOT: Final = "overshoot_us"

_FORK_BOMB: Final = "fork bomb"
_FORK_BOMB_PROCESSES: Final = 32
"""Where the engine stops it; a bare child's bomb ends by itself at 64."""

_WAYS: Final = (
    "busy loop",
    "sleep",
    "blocked read",
    "C call",
    "SIGTERM ignored",
    "stopped",
    "endless thread",
    _FORK_BOMB,
)
_SHORT_MS: Final = 50
_LONG: Final = "busy loop, 5 s"
_LONG_MS: Final = 5000

_PLAIN_CODE = """\
import os, sys
sys.path.insert(0, %r)
import overdue
os.write(1, b".")
overdue.handler(%r, None)
"""


def way_and_timeout_ms(variant: str) -> tuple[str, int]:
    """What the function does, and its deadline: all but one variant have 50 ms."""
    return (variant.partition(",")[0], _LONG_MS) if variant == _LONG else (variant, _SHORT_MS)


class _Overdue(Protocol):
    """A contender that has something alive and ready before the clock starts."""

    def prepare(self) -> None:
        """Have a function ready to run; not timed."""


def measure_overshoot(contender: Contender, job: Job, _event: Any) -> Values:
    """Time from the deadline to the return of call(), which counts the deadline from its own start."""
    _, timeout_ms = way_and_timeout_ms(job.setting.variant)
    # One of the long ones a round says as much as all: the same wait, and after it the same kill.
    calls, warm_up = (job.calls, job.warm_up) if timeout_ms == _SHORT_MS else (1, 0)
    values = []
    for number in range(warm_up + calls):
        cast("_Overdue", contender).prepare()
        started = time.perf_counter_ns()
        reply = contender.call()
        overshoot_us = (time.perf_counter_ns() - started) / 1000 - timeout_ms * 1000
        contender.decoded(reply)
        if number >= warm_up:
            values.append(overshoot_us)
    return {OVERSHOOT: values}


class BareKill:
    """The floor: a plain child in a session of its own; poll for the timeout, kill the group, wait for the child."""

    name = "bare kill"

    def unavailable(self, job: Job) -> str | None:
        return None

    def start(self, job: Job, event: Any) -> None:
        way, timeout_ms = way_and_timeout_ms(job.setting.variant)
        self._command = [job.python, "-c", _PLAIN_CODE % (job.code, way)]
        self._timeout_ms = timeout_ms
        self._child: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        self._child = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        os.read(pipe_ends(self._child)[1], 1)

    def call(self) -> Any:
        child = self._child
        if child is None:
            raise BenchmarkError("nothing was prepared")
        poll = select.poll()
        poll.register(pipe_ends(child)[1], select.POLLIN)
        replied = poll.poll(self._timeout_ms)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return replied

    def decoded(self, reply: Any) -> Any:
        if self._child is not None:
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    pipe.close()
        if reply:
            raise BenchmarkError("the child ended before its deadline")

    def close(self) -> None:
        """Every child was killed and waited for."""


class EngineKill:
    """``Engine.invoke`` of a warm instance whose function does not come back."""

    name = "engine"

    def unavailable(self, job: Job) -> str | None:
        return engine_unavailable()

    def start(self, job: Job, event: Any) -> None:
        self._way, timeout_ms = way_and_timeout_ms(job.setting.variant)
        limits = {"max_processes": _FORK_BOMB_PROCESSES} if self._way == _FORK_BOMB else {}
        self._engine = open_engine(job)
        self._function = make_function(job, handler="overdue.handler", timeout_s=timeout_ms / 1000, **limits)

    def prepare(self) -> None:
        # Every timeout costs the instance: the next one is started here, outside of the figure.
        result = self._engine.invoke(self._function, "warm")
        if not result.ok:
            raise BenchmarkError(f"{result.status}: {result.error}")

    def call(self) -> Any:
        return self._engine.invoke(self._function, self._way)

    def decoded(self, reply: Any) -> Any:
        if reply.status == "exited" and self._way == _FORK_BOMB:
            raise NotHereError("no control group stops the fork bomb at its limit: it is killed before its deadline")
        if reply.status != "timeout" or reply.cold_start:
            raise BenchmarkError(f"{reply.status}, cold_start={reply.cold_start}: {reply.error} {reply.log}")

    def close(self) -> None:
        self._engine.close()


QUESTION: Final = Question(
    name="deadline",
    title="From the deadline to the returned result",
    contenders=(BareKill(), EngineKill()),
    base=BareKill.name,
    variants=(*_WAYS, _LONG),
    quick_variants=("busy loop", "stopped", _FORK_BOMB),
    pinnings=(True,),
    full=Effort(rounds=1, calls=12, warm_up=1),
    quick=Effort(rounds=1, calls=5, warm_up=1),
    measure=measure_overshoot,
    targets=(
        median_at_most(2_000, EngineKill.name, OVERSHOOT),
        tail_at_most(10_000, EngineKill.name, OVERSHOOT),
    ),
)
