"""Memory over time in a bounded number of points."""

from __future__ import annotations

import itertools

from engine.clock import NS_PER_MS
from engine.timeline import MAX_POINTS, Timeline


def test_points_are_milliseconds_and_megabytes() -> None:
    """In the order of time, with the three decimals of the platform's durations."""
    timeline = Timeline()
    timeline.add(0, 10 * 1024 * 1024)
    timeline.add(1_234_567, 10 * 1024 * 1024 + 512 * 1024)

    assert ((0.0, 10.0), (1.235, 10.5)) == timeline.points()


def test_empty_timeline_has_no_points() -> None:
    """An invocation that never got to run drew nothing."""
    assert () == Timeline().points()


def test_long_timeline_stays_bounded_and_covers_everything() -> None:
    """Every second point goes when there are too many, and the rest come half as often: it runs as long as it takes."""
    timeline = Timeline()
    at_ns, held, intervals = 0, [], [timeline.interval_ns]
    for _ in range(20_000):
        timeline.add(at_ns, at_ns)
        at_ns += timeline.interval_ns
        held.append(len(timeline._points))
        intervals.append(timeline.interval_ns)
    times_ms = [at_ms for at_ms, _ in timeline.points()]
    steps_ms = {round(later - earlier, 3) for earlier, later in itertools.pairwise(times_ms)}

    assert max(held) == MAX_POINTS
    assert times_ms[0] == 0.0
    assert times_ms[-1] > 0.99 * at_ns / NS_PER_MS
    assert sorted(intervals) == intervals
    assert {2 * NS_PER_MS << n for n in range(len(set(intervals)))} == set(intervals)
    assert max(steps_ms) <= 2 * timeline.interval_ns / NS_PER_MS
