"""What a drawing of memory over time shows, whatever it is drawn with: lines, marks, and how far the axes go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from engine.cli.show import Run
from engine.model import Function, Status
from engine.result import Result
from engine.timeline import Point

KILLED: Final = frozenset({Status.TIMEOUT, Status.OUT_OF_MEMORY, Status.DISK_FULL})
"""The statuses of a handler that the engine killed. EXITED says in its own words who did it."""

_EXITED_PREFIX: Final = "runtime process is exited, "

_FARTHEST_LIMIT: Final = 16
"""A limit is on the axis up to this many times the peak: beyond, a line would be flat. 128 MB is 13 bare Pythons."""

_FARTHEST_DEADLINE: Final = 5
"""Likewise for the deadline, where a line that has a fifth of the width can still be read."""

_MARGIN: Final = 1.08
"""Room above the highest and beside the last, for the line that is drawn there."""


@dataclass(frozen=True)
class Curve:
    """One result.

    Attributes:
        label: Where it comes from, and how it ended.
        points: (ms since the start, MB) pairs; none when the handler was never reached.
        ended_early: Whether the last point is the moment of a kill, or of an exit before the reply.
    """

    label: str
    points: tuple[Point, ...]
    ended_early: bool


@dataclass(frozen=True)
class Mark:
    """A line across the drawing.

    Attributes:
        at: Where on its axis, or None when that is too far out to be drawn.
        label: What it is, with an arrow where the line itself is not drawn.
    """

    at: float | None
    label: str


@dataclass(frozen=True)
class Chart:
    """A drawing with axes from 0 to *right_ms* and from 0 to *top_mb*."""

    title: str
    curves: tuple[Curve, ...]
    limit: Mark
    deadline: Mark
    right_ms: float
    top_mb: float


def chart_of(function: Function, runs: Sequence[Run]) -> Chart:
    """Return the drawing of *runs*, the results of *function* on one runtime or on several."""
    curves = tuple(_curves(runs))
    points = [point for curve in curves for point in curve.points]
    deadline_ms = function.timeout_s * 1000
    limit_at, top_mb = _axis(max((mb for _, mb in points), default=0.0), function.memory_mb, _FARTHEST_LIMIT)
    deadline_at, right_ms = _axis(max((ms for ms, _ in points), default=0.0), deadline_ms, _FARTHEST_DEADLINE)
    return Chart(
        # Fonts have few of the characters that a name can have; what they miss would be warnings and boxes.
        title=f"{function.handler.encode('ascii', 'backslashreplace').decode()}: memory over time",
        curves=curves,
        limit=Mark(limit_at, f"limit {function.memory_mb} MB" + ("" if limit_at else " \N{UPWARDS ARROW}")),
        deadline=Mark(
            deadline_at, f"deadline {function.timeout_s:.9g} s" + ("" if deadline_at else " \N{RIGHTWARDS ARROW}")
        ),
        right_ms=right_ms,
        top_mb=top_mb,
    )


def _axis(highest: float, line: float, farthest: int) -> tuple[float | None, float]:
    """Return where to draw *line*, or None, and where the axis ends."""
    if highest and line > highest * farthest:
        return None, highest * _MARGIN
    return line, max(highest, line) * _MARGIN


def _curves(runs: Sequence[Run]) -> Iterator[Curve]:
    runtimes = [run.runtime for run in runs]
    for number, run in enumerate(runs):
        # Numbered only where a runtime has several: "python3.9 #2".
        nth = f" #{runtimes[: number + 1].count(run.runtime)}" if runtimes.count(run.runtime) > 1 else ""
        yield Curve(
            label=f"{run.runtime}{nth}, {run.start}: {_end(run.result)}",
            points=_points(run.result),
            ended_early=_ended_early(run.result),
        )


def _ended_early(result: Result) -> bool:
    return bool(result.timeline) and (result.status in KILLED or result.status is Status.EXITED)


def _points(result: Result) -> tuple[Point, ...]:
    points = result.timeline or ()
    if not _ended_early(result):
        return points
    # The closing look comes when all is over, and is at the instance alone: what it started may hold the memory
    # that it was killed for, a peak between two looks is in none of them, and the dead hold nothing.
    *looks, closing = points
    at_ms = result.summary.duration_ms
    at_mb = result.summary.memory_used_mb if result.status is Status.OUT_OF_MEMORY else (looks or [closing])[-1][1]
    return (*(look for look in looks if look[0] < at_ms), (at_ms, at_mb))


def _end(result: Result) -> str:
    if not result.timeline:
        return f"{result.status.value}, the handler was not reached"
    at = f"{result.summary.duration_ms:.3f} ms, peak {result.summary.memory_used_mb:.1f} MB"
    if result.status in KILLED:
        return f"killed ({result.status.value}) at {at}"
    if result.status is Status.EXITED and result.error is not None:
        return f"exited ({result.error['errorMessage'].removeprefix(_EXITED_PREFIX)}) at {at}"
    return f"{result.status.value} after {at}"
