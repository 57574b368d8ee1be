"""How a question is asked: fresh processes, warm-up dropped, interleaved rounds, JSON out.

Theory of operation. ``run`` walks through rounds, settings and contenders, and starts a fresh process
(``python -m benchmarks.measure JOB``) for every single measurement. That process puts itself on one CPU when
the setting says pinned, starts its contender, checks that the first reply is right, warms up, measures, and
prints its values as JSON. Nothing of one measurement - a heap, a cache, a child - is there in the next.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from benchmarks import remains
from benchmarks.footprint import descendants
from benchmarks.stats import Measurement, Setting, Target, interleaved

ROOT: Final = Path(__file__).resolve().parent.parent
HANDLERS: Final = ROOT / "benchmarks" / "handlers"
RUNTIMES: Final = ("python2.7", "python3.6", "python3.9")
HOST: Final = "python{}.{}".format(*sys.version_info)
"""The label of the interpreter that runs the benchmarks, the only one that most peers can use."""
CALL: Final = "call_us"
"""The metric of a timed call: microseconds from before it to after it."""

Values: TypeAlias = dict[str, list[float]]
"""What a measurement gives: values by metric."""

_MEASUREMENT_TIMEOUT_S = 600
_STDERR_SHOWN_CHARS = 2000


class BenchmarkError(Exception):
    """A measurement failed, or a contender gave a wrong answer: its figure would mean nothing."""


class NotHereError(BenchmarkError):
    """Only the attempt could show that this machine does not allow the measurement; the message says why."""


NOT_HERE_STATUS: Final = 77
"""How a measurement that ended with NotHereError exits: automake's code of a skipped test."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured: calls after warm_up calls in a process, that many processes (rounds)."""

    rounds: int
    calls: int
    warm_up: int = 0


@dataclass(frozen=True, kw_only=True)
class Job:
    """One measurement, as the fresh process gets it.

    Attributes:
        python: Executable of the child's interpreter.
        cpu: The CPU to stay on, or None.
        code: Folder of the function; module and function name its handler.
        options: What the command line set for this question, by name.
    """

    question: str
    contender: str
    setting: Setting
    python: str
    cpu: int | None
    calls: int
    warm_up: int
    code: str = str(HANDLERS)
    module: str = "index"
    function: str = "echo"
    options: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """The job as one argument of a command line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that to_json made *text* of."""
        values = json.loads(text)
        return cls(**{**values, "setting": Setting(**values["setting"])})


class Contender(Protocol):
    """One way of doing the job. Made once for each process, started once, called many times."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    def unavailable(self, job: Job) -> str | None:
        """Why it cannot run *job* here, for the report; None when it can."""

    def start(self, job: Job, event: Any) -> None:
        """Get ready to be called with *event*; not timed."""

    def call(self) -> Any:
        """Have the function called once; timed."""

    def decoded(self, reply: Any) -> Any:
        """What a call returned, as a Python object; not timed."""

    def close(self) -> None:
        """End everything that start() and call() began; not timed."""


def check_reply(contender: Contender, event: Any) -> None:
    """Call once: a wrong answer would make every figure meaningless.

    Raises:
        BenchmarkError: The reply is not the event.
    """
    reply = contender.decoded(contender.call())
    if reply != event:
        raise BenchmarkError(f"{contender.name} answered {str(reply)[:200]!r}")


def time_calls(contender: Contender, job: Job, event: Any) -> Values:
    """Check the first reply, warm up, and time each further call for itself, on the clock that has no jumps."""
    check_reply(contender, event)
    for _ in range(job.warm_up):
        contender.call()
    clock, call = time.perf_counter_ns, contender.call
    values = []
    for _ in range(job.calls):
        started = clock()
        call()
        values.append(clock() - started)
    return {CALL: [value / 1000 for value in values]}


def small_event() -> Any:
    """The 100-byte event of the targets: what a timer, a queue or a test sends."""
    return {"id": 12345, "name": "small event", "ok": True, "ratio": 0.5, "tags": ["one", "two"], "next": None}


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, of whom, and what was promised.

    Attributes:
        contenders: In the order of measuring.
        base: The contender that every row's ratio is taken of; None for no ratios.
        pinnings: Which of pinned (True) and unpinned (False) to measure.
        runtimes: Runtimes that it must be asked on; empty for those of the command line.
        with_host: Ask it on the benchmarks' own interpreter as well, before all others.
        notes: What the table says of a contender besides its figures, by name; under the heading note_title.
        event: Makes what the function is called with; the reply has to equal it.
        measure: Turns a started contender into values by metric; it gets the event to check replies by.
        options: What the command line can set for it, with what it is otherwise.
        quick_options: What it is otherwise with --quick.
    """

    name: str
    title: str
    contenders: Sequence[Contender]
    full: Effort
    quick: Effort
    base: str | None = None
    targets: Sequence[Target] = ()
    variants: Sequence[str] = ("",)
    quick_variants: Sequence[str] | None = None
    pinnings: Sequence[bool] = (True, False)
    quick_pinnings: Sequence[bool] | None = None
    runtimes: Sequence[str] = ()
    with_host: bool = False
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    note_title: str = ""
    event: Callable[[], Any] = small_event
    measure: Callable[[Contender, Job, Any], Values] = time_calls
    options: Mapping[str, int] = dataclasses.field(default_factory=dict)
    quick_options: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def settings(self, runtimes: Iterable[str], *, quick: bool) -> list[Setting]:
        """Everything that this question varies, for those *runtimes*."""
        variants = self.quick_variants if quick and self.quick_variants is not None else self.variants
        pinnings = self.quick_pinnings if quick and self.quick_pinnings is not None else self.pinnings
        asked = dict.fromkeys([*([HOST] if self.with_host else []), *(self.runtimes or runtimes)])
        return [Setting(runtime, pinned, variant) for pinned in pinnings for runtime in asked for variant in variants]

    def contender(self, name: str) -> Contender:
        """The contender of that name."""
        return next(each for each in self.contenders if each.name == name)


@dataclass(frozen=True)
class Skipped:
    """A contender that was not, or not successfully, measured in a setting, and why."""

    contender: str
    setting: Setting
    reason: str
    failed: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the command line decided for a run.

    Attributes:
        interpreters: Executables of the children, by runtime label.
        code: Folder of the measured functions, with bytecode for every interpreter.
        cpu: Where pinned settings run.
        quick: Smaller numbers: to see that it works, not to quote.
        options: What was set by name.
    """

    interpreters: Mapping[str, str]
    code: str
    cpu: int
    quick: bool = False
    options: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def jobs(self, question: Question) -> Iterator[tuple[int, Job]]:
        """Every measurement of *question* with the number of its round, in order."""
        effort = question.quick if self.quick else question.full
        known = {**question.options, **(question.quick_options if self.quick else {})}
        known.update({name: self.options[name] for name in known.keys() & self.options.keys()})
        settings = question.settings(self.interpreters, quick=self.quick)
        names = [each.name for each in question.contenders]
        for number, setting, name in interleaved(effort.rounds, settings, names):
            yield (
                number,
                Job(
                    question=question.name,
                    contender=name,
                    setting=setting,
                    python=self.interpreters.get(setting.runtime, sys.executable),
                    cpu=self.cpu if setting.pinned else None,
                    calls=effort.calls,
                    warm_up=effort.warm_up,
                    code=self.code,
                    options=known,
                ),
            )


def run(question: Question, plan: Plan) -> Iterator[Measurement | Skipped]:
    """Measure *question* as planned; yields results as they come.

    A contender that is not available, or that failed once, is not tried again in that setting.
    """
    given_up: set[tuple[str, Setting]] = set()
    for number, job in plan.jobs(question):
        if (job.contender, job.setting) in given_up:
            continue
        reason, failed = question.contender(job.contender).unavailable(job), False
        if reason is None:
            try:
                yield Measurement(job.contender, job.setting, number, measure_in_fresh_process(job))
                continue
            except NotHereError as error:
                reason = str(error)
            except BenchmarkError as error:
                reason, failed = str(error), True
        given_up.add((job.contender, job.setting))
        yield Skipped(job.contender, job.setting, reason, failed)


def stage_functions(interpreters: Iterable[str], folder: Path) -> str:
    """Copy the measured functions to *folder* and compile them with every one of the *interpreters*.

    Bytecode ahead of time, because the first import of a deployed function writes it and no later one
    compiles again: without it a millisecond of compiling would be in every cold start, whoever makes it.
    """
    staged = folder / HANDLERS.name
    shutil.copytree(HANDLERS, staged, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for python in interpreters:
        subprocess.run([python, "-m", "compileall", "-q", str(staged)], check=True, env=environment())
    return str(staged)


def environment() -> dict[str, str]:
    """Our environment without what changes how an interpreter starts or whether it writes bytecode."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def measure_in_fresh_process(job: Job) -> Values:
    """Run *job* in a process of its own and return its values.

    Raises:
        NotHereError: It cannot be measured on this machine.
        BenchmarkError: It failed, gave a wrong answer, left a process behind, or took longer than ten minutes.
    """
    command = [sys.executable, "-m", "benchmarks.measure", job.to_json()]
    before = frozenset(descendants(os.getpid()))
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # what a stuck contender started goes with it
    ) as process:
        try:
            output, errors = process.communicate(timeout=_MEASUREMENT_TIMEOUT_S)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise BenchmarkError(f"no result after {_MEASUREMENT_TIMEOUT_S} s") from None
            raise
    left = remains.end_all(keep=before)
    if process.returncode == NOT_HERE_STATUS:
        raise NotHereError(errors.decode("utf-8", "replace").strip())
    if process.returncode == 0 and left:
        raise BenchmarkError(f"left behind: {', '.join(left)}")
    if process.returncode != 0:
        raise BenchmarkError(errors.decode("utf-8", "replace")[-_STDERR_SHOWN_CHARS:].strip())
    values: Values = json.loads(output)
    return values


def measure_here(question: Question, job: Job) -> Values:
    """Start the job's contender in this process, measure, close."""
    contender = question.contender(job.contender)
    event = question.event()
    contender.start(job, event)
    try:
        return question.measure(contender, job, event)
    finally:
        contender.close()
