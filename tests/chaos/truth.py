"""The judge: holds one result against what its invocation was, and names everything that is not true of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from engine import Result, Status
from engine.result import ERROR_CODES, RESULT_TOO_LARGE_CODE
from tests.chaos.cases import Case
from tests.chaos.processes import Identity, Strikes

_MARK: Final = re.compile(r"<<(n\d+x[0-9a-f]{8}) (begin|end|helper) (\d+) (\d+)>>")
_MARK_BYTES: Final = re.compile(r"<<.*>>\n")

_ROUNDING_MS: Final = 0.0005
"""Durations are told with three decimals."""

_RSS_NOISE_MB: Final = 1.0
"""The kernel counts resident pages in batches for each thread; two counters of the same pages differ by less."""

_ENDED_BY_KILL: Final = frozenset(Status) - {Status.SUCCESS, Status.FUNCTION_ERROR, Status.INVALID_RESULT}


@dataclass(frozen=True)
class Circumstances:
    """What the host knows about an invocation from outside.

    Attributes:
        options: The engine's.
        elapsed_ms: Time from before the call until after it.
        strikes: What was sent to whom.
    """

    options: dict[str, Any]
    elapsed_ms: float
    strikes: Strikes


def identities(log: str) -> list[Identity]:
    """Return the processes that name themselves in *log*: who served the invocation, and then its helpers."""
    return list(dict.fromkeys(Identity(int(pid), int(start_time)) for _, _, pid, start_time in _MARK.findall(log)))


def ended_by_kill(result: Result) -> bool:
    """Whether its instance is dead, and with it whatever that instance started."""
    broke = result.status is Status.INVALID_RESULT and "the instance sent" in result.error["errorMessage"]
    return broke or result.status in _ENDED_BY_KILL


def judge(case: Case, result: Result, known: Circumstances) -> list[str]:
    """Return what is not true of *result*, in words; nothing when all of it is."""
    return [
        *_status(case, result),
        *_strikes(case, result, known.strikes),
        *_error(case, result),
        *_value(case, result),
        *_times(case, result, known),
        *_memory(case, result, known.options),
        *_log(case, result, known.options.get("log_bytes", 4096)),
    ]


def judge_all(case: Case, results: list[Result], known: Circumstances) -> Iterator[str]:
    """Name what is not true of the results of one call taken together: how many there are, and their time."""
    if len(results) != (case.taken or 1):
        yield f"{len(results)} results, {case.taken or 1} were to be taken"
    total_ms = sum(result.summary.duration_ms for result in results)
    if total_ms > known.elapsed_ms + _ROUNDING_MS * len(results):
        yield f"durations of {total_ms} ms within {known.elapsed_ms} ms of the host's"


def _status(case: Case, result: Result) -> Iterator[str]:
    if result.status not in case.allowed:
        yield f"{result.status.value} is none of {sorted(case.allowed)}: {result.error}"
    elif not result.ok and case.allowed[result.status] not in result.error["errorMessage"]:
        yield f"message {result.error['errorMessage']!r} without {case.allowed[result.status]!r}"
    if case.request_id not in (None, result.summary.request_id):
        yield f"request id {result.summary.request_id!r}, and {case.request_id!r} was given"
    if result.cold_start is (result.summary.load_duration_ms is None):
        yield f"cold start {result.cold_start} and load duration {result.summary.load_duration_ms}"


def _strikes(case: Case, result: Result, strikes: Strikes) -> Iterator[str]:
    """A signal in a result of the struck family must be one that was sent; nobody else is struck."""
    if case.function.name != "target" or result.ok or result.status not in case.allowed:
        return
    name = "SIGSTOP" if result.status is Status.TIMEOUT else result.error["errorMessage"].rpartition(" ")[2]
    served_by = next(iter(identities(result.log)), None)
    if not strikes.explain(name, served_by):
        yield f"ended by {name}, which nobody sent to {served_by or 'anybody'}"


def _error(case: Case, result: Result) -> Iterator[str]:
    if result.ok is not (result.error is None) or result.ok is not (result.status is Status.SUCCESS):
        yield f"ok {result.ok}, status {result.status.value}, error {result.error}"
    codes = {ERROR_CODES[result.status]} | ({RESULT_TOO_LARGE_CODE} if case.kind == "too_big_result" else set())
    if result.error_code not in codes:
        yield f"error code {result.error_code}"
    if result.error is None:
        return
    if list(result.error) != ["errorMessage", "errorType", "stackTrace"]:
        yield f"keys of the error: {list(result.error)}"
    is_engine_made = result.status in _ENDED_BY_KILL - {Status.LOAD_ERROR, Status.INITIALIZER_ERROR}
    if is_engine_made and (result.status.value, []) != (result.error["errorType"], result.error["stackTrace"]):
        yield f"the engine's own error: {result.error}"
    if case.event["do"] == "fail" and case.nonce not in result.error["errorMessage"]:
        yield f"another one's exception: {result.error['errorMessage']!r}"


def _value(case: Case, result: Result) -> Iterator[str]:
    if not result.ok:
        if result.body is not None or result.value is not None:
            yield f"failed, and has a body of {len(result.body or '')} characters"
        return
    # A function's lie about its own return is passed on as it is.
    lie = {"forged": case.nonce}
    truth = {
        "nonce": case.nonce,
        "request_id": result.summary.request_id,
        "value": case.value() if callable(case.value) else case.value,
    }
    expected = lie if case.kind == "forge_own" else truth
    if result.value != expected:
        yield f"value {str(result.value)[:300]}, expected {str(expected)[:300]}"


def _times(case: Case, result: Result, known: Circumstances) -> Iterator[str]:
    summary = result.summary
    if not 0 <= summary.duration_ms <= known.elapsed_ms + _ROUNDING_MS:
        yield f"duration {summary.duration_ms} ms within {known.elapsed_ms} ms of the host's"
    # In a map the time of one begins when the engine has seen that of the one before end: some of it may have gone by.
    if result.ok and not case.copies and summary.duration_ms < case.least_ms - _ROUNDING_MS:
        yield f"duration {summary.duration_ms} ms, and it takes at least {case.least_ms} ms"
    if result.status is Status.TIMEOUT and summary.duration_ms != case.function.timeout_s * 1000:
        yield f"timed out after {summary.duration_ms} ms of {case.function.timeout_s} s"
    step_ms = known.options.get("billing_step_ms", 1)
    pairs = [(summary.duration_ms, summary.billed_duration_ms)]
    if summary.initializer_duration_ms is not None:
        pairs.append((summary.initializer_duration_ms, summary.initializer_billed_duration_ms or 0))
    for duration_ms, billed_ms in pairs:
        bills = {
            max(1, math.ceil((duration_ms + rounding_ms) / step_ms)) * step_ms
            for rounding_ms in (-_ROUNDING_MS, 0, _ROUNDING_MS)
        }
        if billed_ms not in bills:
            yield f"{duration_ms} ms billed as {billed_ms} ms in steps of {step_ms} ms"
    times_ms = [at_ms for at_ms, _ in result.timeline or ()]
    if times_ms != sorted(times_ms) or any(at_ms < 0 or at_ms > known.elapsed_ms for at_ms in times_ms):
        yield f"timeline at {times_ms[:10]}..., within {known.elapsed_ms} ms"
    if case.is_timeline_wanted is (result.timeline is None):
        yield f"timeline {result.timeline}, wanted: {case.is_timeline_wanted}"


def _memory(case: Case, result: Result, options: dict[str, Any]) -> Iterator[str]:
    used_mb, limit_mb = result.summary.memory_used_mb, case.function.memory_mb
    if options.get("memory_enforcement", "auto") not in ("auto", result.memory_enforcement):
        yield f"memory kept by {result.memory_enforcement}"
    if result.summary.memory_size_mb != limit_mb:
        yield f"memory size {result.summary.memory_size_mb} MB, configured: {limit_mb} MB"
    if result.ok and not max(1, case.least_mb - _RSS_NOISE_MB) <= used_mb <= limit_mb:
        yield f"{used_mb} MB used of {limit_mb} MB, and it needs {case.least_mb} MB"
    if result.status is Status.OUT_OF_MEMORY and used_mb < limit_mb / 2:
        yield f"out of memory with {used_mb} MB of {limit_mb} MB"
    highest_mb = max((mb for _, mb in result.timeline or ()), default=0)
    if highest_mb > used_mb + _RSS_NOISE_MB:
        yield f"timeline up to {highest_mb} MB, peak {used_mb} MB"


def _log(case: Case, result: Result, log_bytes: int) -> Iterator[str]:
    kept_bytes = len(result.log.encode("utf-8", "surrogatepass"))
    # A byte that is no UTF-8 becomes a character of three.
    if kept_bytes > log_bytes * (3 if "\ufffd" in result.log else 1):
        yield f"log of {kept_bytes} bytes"
    marks = _MARK.findall(result.log)
    others = {nonce for nonce, *_ in marks} - {case.nonce}
    if others:
        yield f"marks of {others} in the log"
    begins, ends = ([mark for mark in marks if mark[1] == word] for word in ("begin", "end"))
    if len(begins) > 1 or len(ends) > 1:
        yield f"marks {marks}"
    if not result.ok:
        return
    if case.marks_end and not ends:
        yield f"no mark of its end: {result.log[-200:]!r}"
    if not begins and not result.log_dropped_bytes:
        yield f"no mark of its beginning: {result.log[:200]!r}"
    if case.printed_bytes is not None and ends:
        # Both marks of one invocation differ by two letters.
        mark_bytes = len(_MARK_BYTES.search(result.log[result.log.rindex("<<") :]).group())
        expected = case.printed_bytes + 2 * mark_bytes + 2
        if kept_bytes + result.log_dropped_bytes != expected:
            yield f"{kept_bytes} bytes kept and {result.log_dropped_bytes} dropped, of {expected} printed"
