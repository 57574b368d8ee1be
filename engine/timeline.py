"""Memory over time, for an invocation that asked for it: a bounded number of points, however long it runs."""

from __future__ import annotations

from typing import Final

from engine.clock import NS_PER_MS, ms_from_ns

MAX_POINTS: Final = 4096
_FIRST_INTERVAL_NS: Final = 2 * NS_PER_MS
_BYTES_PER_MB: Final = 1024 * 1024

Point = tuple[float, float]
"""(milliseconds since the start of the invocation, MB in use then)."""


class Timeline:
    """Collects points. When there are too many, every second one goes and the rest come half as often."""

    def __init__(self) -> None:
        self.interval_ns = _FIRST_INTERVAL_NS
        self._points: list[tuple[int, int]] = []

    def add(self, since_start_ns: int, used_bytes: int) -> None:
        """Add one look at the memory in use."""
        self._points.append((since_start_ns, used_bytes))
        if len(self._points) > MAX_POINTS:
            del self._points[1:-1:2]
            self.interval_ns *= 2

    def points(self) -> tuple[Point, ...]:
        """Return what was collected, in the order of time."""
        return tuple((ms_from_ns(at_ns), used_bytes / _BYTES_PER_MB) for at_ns, used_bytes in self._points)
