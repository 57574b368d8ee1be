"""What an invocation gives back: the function's return, the execution summary, the log."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Final

from engine import payload
from engine.errors import ProtocolError
from engine.model import Status, Summary
from engine.timeline import Point

ERROR_CODES: Final[Mapping[Status, int]] = {
    # Values of X-Func-Err-Code (functiongraph.md, sections 3.1 and 3.3).
    Status.SUCCESS: 0,
    Status.FUNCTION_ERROR: 4002,
    Status.TIMEOUT: 4010,
    Status.OUT_OF_MEMORY: 4205,
    Status.EXITED: 4204,
    Status.LOAD_ERROR: 4001,
    Status.LOAD_TIMEOUT: 4012,
    Status.INITIALIZER_ERROR: 4009,
    Status.INITIALIZER_TIMEOUT: 4211,
    Status.INVALID_RESULT: 4007,
    Status.DISK_FULL: 4207,
}

RESULT_TOO_LARGE_CODE: Final = 4004
"""INVALID_RESULT has two numbers on the platform: 4007 for what JSON cannot express, 4004 for over 6 MiB."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of one invocation. Whatever the function did wrong is told here, never raised.

    Attributes:
        status: How it ended.
        error: None on success, else ``{"errorMessage": str, "errorType": str, "stackTrace": [str, ...]}``.
        error_code: 0, or the platform's number for the failure.
        log: The newest bytes of what the function wrote, in the order it was written, cut between characters.
        log_dropped_bytes: How many bytes before that were dropped.
        cold_start: Whether an instance was started for it.
        summary: Request id, configured memory, durations, used memory, bill.
        memory_enforcement: Who kept the memory limit: ``cgroup``, the kernel too, or ``sample``, the engine alone.
        isolation: The level that held: ``process`` or ``container``.
        version: The function's version, for the log's frame.
        timeline: Memory over time where it was asked for: (ms since the start, MB) pairs in the order of time.
        started_at_s: When the request left the engine, in seconds since the epoch.
        body_bytes: The return value's JSON text as the function's own json made it; None on failure.
    """

    status: Status
    summary: Summary
    error: dict[str, Any] | None = None
    error_code: int = 0
    log: str = ""
    log_dropped_bytes: int = 0
    cold_start: bool = False
    memory_enforcement: str = "sample"
    isolation: str = "process"
    version: str = "latest"
    timeline: tuple[Point, ...] | None = None
    started_at_s: float = 0.0
    body_bytes: bytes | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is SUCCESS."""
        return self.status is Status.SUCCESS

    @cached_property
    def body(self) -> str | None:
        """The return value's JSON text exactly as the function's own json made it; None on failure."""
        return None if self.body_bytes is None else self.body_bytes.decode("utf-8", "replace")

    @cached_property
    def value(self) -> Any:
        """The return value, decoded when it is first asked for; None on failure.

        Raises:
            ProtocolError: The function forged a large reply behind the engine's back, and it is not JSON.
        """
        if self.body_bytes is None:
            return None
        try:
            return payload.decode(self.body_bytes)
        except ValueError as error:
            raise ProtocolError(f"the instance sent a return value that is not JSON: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return everything as values that JSON can express."""
        return {"value": self.value, **self._all_but_value()}

    def to_json(self, **more: Any) -> str:
        """Return *more* and to_dict() as JSON text, the return value as the function's own json made it.

        So it comes out whatever it is: this interpreter refuses to print an integer of over 4300 digits.
        """
        values = {name: json.dumps(value) for name, value in {**more, **self._all_but_value()}.items()}
        values["value"] = self.body or "null"
        return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in values.items()) + "}"

    def _all_but_value(self) -> dict[str, Any]:
        return {
            "status": self.status.value,
            "ok": self.ok,
            "error": self.error,
            "error_code": self.error_code,
            "cold_start": self.cold_start,
            "memory_enforcement": self.memory_enforcement,
            "isolation": self.isolation,
            "summary": asdict(self.summary),
            "log": self.log,
            "log_dropped_bytes": self.log_dropped_bytes,
            **({} if self.timeline is None else {"timeline": [list(point) for point in self.timeline]}),
        }

    def render_return(self) -> str:
        """Return the first part as the platform shows it: the body, or the error indented by four."""
        if self.error is not None:
            return json.dumps(self.error, indent=4, ensure_ascii=False)
        return self.body or ""

    def render_summary(self) -> list[tuple[str, str]]:
        """Return the second part as (label, value) rows."""
        summary = self.summary
        rows = [
            ("Request ID", summary.request_id),
            ("Configured memory", f"{summary.memory_size_mb} MB"),
            ("Duration", f"{summary.duration_ms:.3f} ms"),
            ("Memory used", f"{summary.memory_used_mb:.3f} MB"),
            ("Billed duration", f"{summary.billed_duration_ms} ms"),
        ]
        if summary.load_duration_ms is not None:
            rows.append(("Load duration", f"{summary.load_duration_ms:.3f} ms (cold start, not billed)"))
        if summary.initializer_duration_ms is not None:
            billed = f"billed {summary.initializer_billed_duration_ms} ms"
            rows.append(("Initializer duration", f"{summary.initializer_duration_ms:.3f} ms ({billed})"))
        return rows

    def render_log(self) -> str:
        """Return the third part: the log between the platform's Start and Finish lines (section 1.3)."""
        summary = self.summary
        failed = "" if self.ok else "(invoke Failed)"
        request = f"request '{summary.request_id}'"
        dropped = f"[{self.log_dropped_bytes} earlier bytes dropped]\n" if self.log_dropped_bytes else ""
        separator = "" if not self.log or self.log.endswith("\n") else "\n"
        return (
            f"{_stamp(self.started_at_s)} Start invoke {request}, version: {self.version}\n"
            f"{dropped}{self.log}{separator}"
            f"{_stamp(self.started_at_s + summary.duration_ms / 1000)} Finish invoke {request}{failed}, "
            f"duration: {summary.duration_ms:.3f}ms, billing duration: {summary.billed_duration_ms}ms, "
            f"memory used: {summary.memory_used_mb:.3f}MB, billing memory: {summary.memory_size_mb}MB"
        )

    def render(self) -> str:
        """Return the three parts as text."""
        rows = self.render_summary()
        width = max(len(label) for label, _ in rows) + 1
        summary = "\n".join(f"{label + ':':<{width}} {value}" for label, value in rows)
        return f"Function return\n{self.render_return()}\n\nExecution summary\n{summary}\n\nLog\n{self.render_log()}\n"


def _stamp(epoch_s: float) -> str:
    return datetime.datetime.fromtimestamp(epoch_s, tz=datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
