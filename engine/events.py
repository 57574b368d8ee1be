"""What the engine tells a log: nothing, unless the host configured structlog or passed a logger.

A library does not print. structlog prints to stdout as long as nobody has configured it, so being asked for a
logger is not enough. And it is looked for instead of imported: a host that did not import structlog has not
configured it, and its import costs more (rich, for pretty tracebacks) than all the rest of the engine's.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from engine.instance import Instance
from engine.result import Result


class EventLog:
    """Writes the engine's three events: ``instance_started``, ``instance_killed``, ``invocation_finished``."""

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger

    def instance_started(self, instance: Instance, request_id: str) -> None:
        """An instance was started for an invocation."""
        self._emit("instance_started", instance, request_id=request_id)

    def instance_killed(self, instance: Instance, reason: str, request_id: str | None = None) -> None:
        """An instance was killed; *reason* is what was known at that moment."""
        self._emit("instance_killed", instance, reason=reason, request_id=request_id)

    def invocation_finished(self, instance: Instance, result: Result) -> None:
        """An invocation has its result: the one line to count and to search."""
        if self._target() is None:
            return
        summary = result.summary
        self._emit(
            "invocation_finished",
            instance,
            request_id=summary.request_id,
            status=result.status.value,
            cold_start=result.cold_start,
            duration_ms=summary.duration_ms,
            billed_duration_ms=summary.billed_duration_ms,
            load_duration_ms=summary.load_duration_ms,
            initializer_duration_ms=summary.initializer_duration_ms,
            memory_size_mb=summary.memory_size_mb,
            memory_used_mb=summary.memory_used_mb,
        )

    def _emit(self, event: str, instance: Instance, **values: object) -> None:
        target = self._target()
        if target is not None:
            function = instance.function
            # A log that cannot be written must not change what happens to a function, nor leave an instance behind.
            with suppress(Exception):
                target.info(event, function=function.name, runtime=function.runtime, pid=instance.pid, **values)

    def _target(self) -> Any:
        if self._logger is not None:
            return self._logger
        structlog: Any = sys.modules.get("structlog")
        is_configured = getattr(structlog, "is_configured", None)  # none while another thread is importing it
        return structlog.get_logger("fgengine") if is_configured is not None and is_configured() else None
