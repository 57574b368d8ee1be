"""One invocation on one instance: load and initialize when it is new, invoke, and the result of it all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from engine.billing import billed_duration_ms
from engine.clock import ms_from_ns, ns_from_seconds
from engine.instance import Instance
from engine.logring import LogTail
from engine.memory import BYTES_PER_MB
from engine.model import Status, Summary
from engine.outcome import INITIALIZE, INVOKE, LOAD, Failure, Phase, returned_value
from engine.result import Result
from engine.timeline import Timeline
from engine.verdict import Ended, Verdict

_new: Final = object.__new__
_set: Final = object.__setattr__


class Invocation:
    """One call of a handler, and what is known of it so far.

    Attributes:
        instance: Who serves it.
        request_id: Its id.
        is_cold: Whether the instance was started for it.
        survived: Whether the instance can serve another one; it is dead and reaped otherwise.
    """

    def __init__(
        self,
        instance: Instance,
        request_id: str,
        *,
        is_cold: bool,
        billing_step_ms: int,
        timeline: Timeline | None = None,
    ) -> None:
        self.instance = instance
        self.request_id = request_id
        self.is_cold = is_cold
        self.survived = False
        self._billing_step_ms = billing_step_ms
        self._timeline = timeline
        self._load: Verdict | None = None
        self._initialize: Verdict | None = None
        self._invoke: Verdict | None = None
        self._started_at_s = 0.0
        self._exit_peak_bytes = 0

    def run(self, event: bytes) -> Result | None:
        """Run the handler with the JSON text *event*, to whatever end, and return the result.

        Returns:
            None when the instance ended before it took the request, and is dead and reaped: another one must take it.
        """
        self._started_at_s = time.time()
        instance, function = self.instance, self.instance.function
        failure = None
        if self.is_cold:
            failure = self._start()
            self._started_at_s = self._started_at_s if failure else time.time()
        if failure is None:
            self._invoke = verdict = instance.invoke(self.request_id, event, instance.timeout_ns, self._timeline)
            if verdict.ended is Ended.NOT_BEGUN:
                instance.kill()
                return None
            if not self.is_cold:
                returned = returned_value(verdict)
                if returned is not None:
                    self.survived = True
                    return self._success(verdict, returned[0], instance.take_log())
            failure = self._judge(INVOKE, verdict, function.timeout_s)
        self.survived = failure is None or failure.instance_survives
        return self._result(failure)

    def conclude(self, verdict: Verdict, started_at_s: float, log: LogTail | None) -> Result:
        """Return the result of a warm start that somebody else waited for.

        Args:
            verdict: How it ended.
            started_at_s: When it began, in seconds since the epoch.
            log: What it wrote; None when the instance has to go: it is killed, and its log taken.
        """
        self._started_at_s = started_at_s
        self._invoke = verdict
        returned = returned_value(verdict)
        if returned is not None and log is not None:
            self.survived = True
            return self._success(verdict, returned[0], log)
        timeout_s = self.instance.function.timeout_s
        failure = self._judge(INVOKE, verdict, timeout_s) if log is None else INVOKE.failure(verdict, timeout_s)
        self.survived = failure is None or failure.instance_survives
        return self._result(failure, log)

    def reason_to_end(self, result: Result | None) -> str:
        """Return why the instance has to go after *result*, in a word for the host's log; nothing when it need not."""
        if self.survived:
            return ""
        return "unusable" if result is None else result.status.value

    def _success(self, verdict: Verdict, value: Any, log: LogTail) -> Result:
        """Return what _result() does for a warm start that ended well, with a *value* that is decoded already.

        Two dictionaries, not two calls with 21 arguments: those are a fifth of what the engine does when it is warm.
        """
        instance = self.instance
        duration_ns = verdict.duration_ns
        summary: Summary = _new(Summary)
        _set(
            summary,
            "__dict__",
            {
                "request_id": self.request_id,
                "memory_size_mb": instance.function.memory_mb,
                "duration_ms": ms_from_ns(duration_ns),
                "memory_used_mb": verdict.peak_bytes / BYTES_PER_MB,
                "billed_duration_ms": billed_duration_ms(duration_ns, granularity_ms=self._billing_step_ms),
                "load_duration_ms": None,
                "initializer_duration_ms": None,
                "initializer_billed_duration_ms": None,
            },
        )
        result: Result = _new(Result)
        _set(
            result,
            "__dict__",
            {
                "status": Status.SUCCESS,
                "summary": summary,
                "error": None,
                "error_code": 0,
                "log": log.text,
                "log_dropped_bytes": log.dropped_bytes,
                "cold_start": False,
                "memory_enforcement": instance.memory_enforcement,
                "isolation": instance.isolation,
                "version": instance.function.version,
                "timeline": self._timeline.points() if self._timeline is not None else None,
                "started_at_s": self._started_at_s,
                "body_bytes": verdict.frame.payload if verdict.frame is not None else None,
                "value": value,  # where cached_property keeps it
            },
        )
        return result

    def _start(self) -> Failure | None:
        """Load, and initialize where there is an initializer; return the failure that ends the invocation here."""
        function = self.instance.function
        self._load, failure = self._run_phase(LOAD, self.instance.load, function.load_timeout_s)
        if failure is None and function.initializer is not None:
            limit_s = function.initializer_timeout_s
            self._initialize, failure = self._run_phase(INITIALIZE, self.instance.initialize, limit_s)
        if failure is None:
            self.instance.open_for_requests()
        return failure

    def _run_phase(
        self, phase: Phase, act: Callable[[str, int], Verdict], timeout_s: float
    ) -> tuple[Verdict, Failure | None]:
        verdict = act(self.request_id, ns_from_seconds(timeout_s))
        return verdict, self._judge(phase, verdict, timeout_s)

    def _judge(self, phase: Phase, verdict: Verdict, timeout_s: float) -> Failure | None:
        """Return what *verdict* means, and kill the instance when it cannot go on after it."""
        if verdict.ended is Ended.EXITED:
            # Dead already, but what it started may not be; and only the reaper knows how it ended.
            report = self.instance.kill()
            if report is not None and self.is_cold:
                # What died between two looks. Not of one that served before: it may tell a peak of back then.
                self._exit_peak_bytes = report.peak_bytes
            how = report.describe() if report else "its exit status is lost"
            return phase.failure(verdict, timeout_s, how)
        failure = phase.failure(verdict, timeout_s)
        if failure is not None and not failure.instance_survives:
            self.instance.kill()
        return failure

    def _result(self, failure: Failure | None, log: LogTail | None = None) -> Result:
        log = self.instance.take_log() if log is None else log
        frame = self._invoke.frame if self._invoke is not None else None
        return Result(
            status=failure.status if failure else Status.SUCCESS,
            summary=self._summary(),
            error=failure.error if failure else None,
            error_code=failure.error_code if failure else 0,
            log=log.text,
            log_dropped_bytes=log.dropped_bytes,
            cold_start=self.is_cold,
            memory_enforcement=self.instance.memory_enforcement,
            isolation=self.instance.isolation,
            version=self.instance.function.version,
            timeline=self._timeline.points() if self._timeline is not None else None,
            started_at_s=self._started_at_s,
            body_bytes=frame.payload if frame is not None and failure is None else None,
        )

    def _summary(self) -> Summary:
        load, initialize, last = self._load, self._initialize, self._invoke
        duration_ns = last.duration_ns if last else 0  # a handler that was never reached took no time
        peaks = [phase.peak_bytes for phase in ((last,) if last else (load, initialize)) if phase]
        step_ms = self._billing_step_ms
        return Summary(
            request_id=self.request_id,
            memory_size_mb=self.instance.function.memory_mb,
            duration_ms=ms_from_ns(duration_ns),
            memory_used_mb=max(*peaks, self._exit_peak_bytes) / BYTES_PER_MB,
            billed_duration_ms=billed_duration_ms(duration_ns, granularity_ms=step_ms),
            load_duration_ms=ms_from_ns(load.duration_ns) if load else None,
            initializer_duration_ms=ms_from_ns(initialize.duration_ns) if initialize else None,
            initializer_billed_duration_ms=(
                billed_duration_ms(initialize.duration_ns, granularity_ms=step_ms) if initialize else None
            ),
        )
