"""From verdicts to a Result: which status, which number, which text.

The texts are the platform's (functiongraph.md, section 0 and 3); where its Python runtime gives none they follow
its other runtimes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from engine.model import Status
from engine.payload import decode
from engine.protocol import Frame
from engine.result import ERROR_CODES, RESULT_TOO_LARGE_CODE
from engine.verdict import Ended, Verdict

_LIMITS: Final = {
    Ended.OUT_OF_MEMORY: (Status.OUT_OF_MEMORY, "runtime memory limit exceeded"),
    Ended.DISK_FULL: (Status.DISK_FULL, "disk usage exceed limit"),
    # The platform has no number of its own for this one: there, the fork fails.
    Ended.TOO_MANY_PROCESSES: (Status.EXITED, "runtime process is exited, killed for too many processes and threads"),
}
CHECKED_BODY_BYTES: Final = 64 * 1024
"""What is smaller is decoded at once, to see whether it is JSON."""

_ERROR_KEYS: Final = ("errorMessage", "errorType", "stackTrace")


@dataclass(frozen=True)
class Failure:
    """What a failed phase contributes to a Result.

    Attributes:
        instance_survives: Whether the instance answered by the rules, and can go on.
    """

    status: Status
    error_code: int
    error: dict[str, Any]
    instance_survives: bool = False


@dataclass(frozen=True)
class Phase:
    """One step of an invocation: its statuses, and how its success looks on the wire."""

    success: str
    error_status: Status
    timeout_status: Status
    timeout_text: str

    def failure(self, verdict: Verdict, timeout_s: float, exit_description: str = "") -> Failure | None:
        """Return what *verdict* means for the result, or None when the phase ended well.

        Args:
            verdict: How the wait for this phase ended.
            timeout_s: The phase's configured limit, for its text.
            exit_description: How the process ended, when it did.
        """
        if verdict.ended is Ended.TIMED_OUT:
            return _engine_made(self.timeout_status, f"{self.timeout_text}{timeout_s:.9g}s")
        if verdict.ended in _LIMITS:
            return _engine_made(*_LIMITS[verdict.ended])
        if verdict.ended is Ended.EXITED:
            return _engine_made(Status.EXITED, f"runtime process is exited, {exit_description}")
        if verdict.frame is None:
            return _broken(verdict.detail)
        if verdict.frame.type != self.success:
            return self._reported(verdict.frame)
        return None if self is not INVOKE or _may_be_json(verdict.frame.payload) else _broken("text that is not JSON")

    def _reported(self, frame: Frame) -> Failure:
        """Return the failure that the instance reports about its own function."""
        statuses = {"error": self.error_status}
        if self is INVOKE:
            statuses.update(invalid=Status.INVALID_RESULT, too_large=Status.INVALID_RESULT)
        error = _checked_error(frame.payload)
        if error is None or frame.type not in statuses:
            return _broken(f"a frame of type {frame.type!r} that is no answer here")
        status = statuses[frame.type]
        code = RESULT_TOO_LARGE_CODE if frame.type == "too_large" else ERROR_CODES[status]
        return Failure(status, code, error, instance_survives=self is INVOKE)


def returned_value(verdict: Verdict) -> tuple[Any] | None:
    """Return the value that a handler returned, decoded; None when INVOKE.failure() has to tell what happened.

    A check and a value in one, for what nearly every invocation is: a small return value of a warm instance.
    """
    frame = verdict.frame
    if frame is None or frame.type != INVOKE.success or len(frame.payload) > CHECKED_BODY_BYTES:
        return None
    if verdict.ended is not Ended.REPLIED:
        return None
    try:
        return (decode(frame.payload),)
    except ValueError:
        return None


LOAD: Final = Phase("done", Status.LOAD_ERROR, Status.LOAD_TIMEOUT, "load function timed out after ")
INITIALIZE: Final = Phase(
    "done", Status.INITIALIZER_ERROR, Status.INITIALIZER_TIMEOUT, "runtime initialization timed out after "
)
INVOKE: Final = Phase("result", Status.FUNCTION_ERROR, Status.TIMEOUT, "call invoke timeout ")


def _engine_made(status: Status, message: str) -> Failure:
    error: dict[str, Any] = {"errorMessage": message, "errorType": status.value, "stackTrace": []}
    return Failure(status, ERROR_CODES[status], error)


def _broken(detail: str) -> Failure:
    # The function reached into the engine's private descriptors: its own doing, so a value and no exception.
    return _engine_made(Status.INVALID_RESULT, f"function result is invalid, error: the instance sent {detail}")


def _may_be_json(payload: bytes) -> bool:
    """Whether a return value is JSON, as far as that costs microseconds; larger ones show it when they are decoded.

    Only a function that forged its own reply gets a no here.
    """
    if len(payload) > CHECKED_BODY_BYTES:
        return True
    try:
        decode(payload)
    except ValueError:
        return False
    return True


def _checked_error(payload: bytes) -> dict[str, Any] | None:
    """Return the three keys in *payload*, or None when it is anything else: it comes from a child."""
    try:
        error = decode(payload)
    except ValueError:
        return None
    if not isinstance(error, dict) or set(error) != set(_ERROR_KEYS):
        return None
    trace = error["stackTrace"]
    if not isinstance(trace, list) or not all(isinstance(line, str) for line in trace):
        return None
    if not isinstance(error["errorMessage"], str) or not isinstance(error["errorType"], str):
        return None
    # In the platform's order: 2.7's dictionaries have none.
    return {
        "errorMessage": _printable(error["errorMessage"]),
        "errorType": _printable(error["errorType"]),
        "stackTrace": [_printable(line) for line in trace],
    }


def _printable(text: str) -> str:
    """Return *text* with lone surrogates spelt out: nobody could print or send them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
