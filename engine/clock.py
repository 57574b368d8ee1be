"""Time: integer nanoseconds of CLOCK_MONOTONIC, which a child reads as the same number.

Float seconds would round about half of all whole-millisecond durations up one billing step too far.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
NS_PER_US: Final = 1_000

Clock = Callable[[], int]

monotonic_ns: Final[Clock] = time.monotonic_ns


def ns_from_seconds(seconds: float) -> int:
    """Return *seconds* as whole nanoseconds."""
    return round(seconds * NS_PER_S)


def ms_from_ns(duration_ns: int) -> float:
    """Return milliseconds with three decimals, as the platform prints them."""
    return (duration_ns + NS_PER_US // 2) // NS_PER_US / (NS_PER_MS // NS_PER_US)
