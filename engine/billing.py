"""From a duration to what is billed. Integers only, see ``engine.clock``."""

from __future__ import annotations

from engine.clock import NS_PER_MS


def billed_duration_ms(duration_ns: int, *, granularity_ms: int = 1) -> int:
    """Round a handler's run time up to whole billing steps.

    A started step is a billed step, so no invocation is free: 0.5 ms is billed 1, 65.828 ms is billed 66
    (functiongraph.md, section 4; steps of 100 ms and of 1 s reproduce older bills).

    Args:
        duration_ns: Handler run time on the monotonic clock, in nanoseconds.
        granularity_ms: Size of one billing step, in milliseconds.

    Raises:
        ValueError: *duration_ns* is negative, or *granularity_ms* is not positive.
    """
    if duration_ns < 0:
        raise ValueError(f"duration_ns must not be negative: {duration_ns}")
    if granularity_ms < 1:
        raise ValueError(f"granularity_ms must be at least 1: {granularity_ms}")
    step_ns = granularity_ms * NS_PER_MS
    return max(1, -(-duration_ns // step_ns)) * granularity_ms
