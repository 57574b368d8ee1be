"""The engine as a contender: full semantics always, as its users call it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

from benchmarks.harness import BenchmarkError, Job


def engine_unavailable(**needed_options: Any) -> str | None:
    """Why the engine cannot be measured with those options of ``Engine``; None when it can."""
    try:
        from engine import Engine  # noqa: PLC0415  # only the processes that measure it should pay for it
    except ImportError as error:
        return f"cannot import the engine: {error}"
    known = inspect.signature(Engine).parameters
    missing = sorted(needed_options.keys() - known.keys())
    return f"this engine has no option {', '.join(missing)}" if missing else None


def open_engine(job: Job, **options: Any) -> Any:
    """An Engine that runs the job's interpreter under the job's runtime label."""
    from engine import Engine  # noqa: PLC0415  # as above

    return Engine(runtimes={job.setting.runtime: job.python}, **options)


def make_function(job: Job, **fields: Any) -> Any:
    """The job's function with the platform's defaults, but for *fields*."""
    from engine import Function  # noqa: PLC0415  # as above

    values = {"code": job.code, "handler": f"{job.module}.{job.function}", "runtime": job.setting.runtime}
    return Function(**{**values, **fields})


def checked(result: Any) -> Any:
    """The value of *result*.

    Raises:
        BenchmarkError: The invocation did not succeed.
    """
    if not result.ok:
        raise BenchmarkError(f"{result.status}: {result.error} {result.log[-500:]}")
    return result.value


class EngineWarm:
    """``Engine.invoke`` on one warm instance.

    With objects: the event goes in as objects, and value, log and summary are read, as a caller does.
    Without: JSON text in, JSON text out. Further arguments are fields of the function.
    """

    def __init__(self, name: str = "engine", *, objects: bool = True, **fields: Any) -> None:
        self.name = name
        self._objects = objects
        self._fields = fields

    def unavailable(self, job: Job) -> str | None:
        return engine_unavailable()

    def start(self, job: Job, event: Any) -> None:
        self._engine = open_engine(job)
        self._function = make_function(job, **self._fields)
        self._event = event if self._objects else json.dumps(event).encode("ascii")

    def call(self) -> Any:
        result = self._engine.invoke(self._function, self._event)
        if self._objects:
            return result.value, result.log, result.summary.memory_used_mb
        return result

    def decoded(self, reply: Any) -> Any:
        return reply[0] if self._objects else checked(reply)

    def close(self) -> None:
        self._engine.close()


class EngineCold:
    """A cold start for each call: every call invokes a function that has no instance yet.

    Args:
        start_method: Of the engine.
        name: What the tables call it; by default the engine and its start method.
        options: Further options of the engine.
        fields: Fields of the functions.
    """

    def __init__(
        self, start_method: str, *, name: str = "", options: Mapping[str, Any] | None = None, **fields: Any
    ) -> None:
        self.name = name or f"engine, {start_method}"
        self._options = {"start_method": start_method, **(options or {})}
        self._fields = fields

    def unavailable(self, job: Job) -> str | None:
        return engine_unavailable(**self._options)

    def start(self, job: Job, event: Any) -> None:
        calls = 1 + job.warm_up + job.calls
        self._engine = open_engine(job, max_instances=calls, **self._options)
        # Functions that differ in their name alone share no instance.
        self._functions = iter([make_function(job, name=f"cold-{number}", **self._fields) for number in range(calls)])
        self._event = event
        self._engine.warm_up([job.setting.runtime])  # the zygote is started once for each runtime, not for each call

    def call(self) -> Any:
        result = self._engine.invoke(next(self._functions), self._event)
        if not (checked(result) == self._event and result.cold_start):
            raise BenchmarkError("a warm start, or a wrong answer")
        return result.value, result.log, result.summary.memory_used_mb

    def decoded(self, reply: Any) -> Any:
        return reply[0]

    def close(self) -> None:
        self._engine.close()
