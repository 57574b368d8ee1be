"""The promises of a question, each in a line: who, how much, against whom, and where it holds.

Every function takes the fields of ``Target`` that say where a promise holds: ``runtimes``, ``pinned``, ``variants``.
"""

from __future__ import annotations

from typing import Any

from benchmarks.harness import CALL
from benchmarks.stats import Sense, Statistic, Target


def times_at_most(bound: float, contender: str, against: str, **where: Any) -> Target:
    """A call of *contender* takes at most *bound* times as long as one of *against*."""
    return _target(Statistic.RATIO, Sense.AT_MOST, bound, contender, CALL, against=against, **where)


def as_fast_at_least(bound: float, contender: str, against: str, **where: Any) -> Target:
    """*contender* is at least *bound* times as fast as *against*."""
    return _target(Statistic.SPEEDUP, Sense.AT_LEAST, bound, contender, CALL, against=against, **where)


def spread_at_most(bound: float, contender: str, **where: Any) -> Target:
    """The p99 is at most *bound* times the p50 of the same calls."""
    return _target(Statistic.SPREAD, Sense.AT_MOST, bound, contender, CALL, **where)


def median_at_most(bound: float, contender: str, metric: str = CALL, **where: Any) -> Target:
    """The p50 is at most *bound*, in the metric's unit."""
    return _target(Statistic.P50, Sense.AT_MOST, bound, contender, metric, **where)


def tail_at_most(bound: float, contender: str, metric: str = CALL, **where: Any) -> Target:
    """The p99 is at most *bound*, in the metric's unit."""
    return _target(Statistic.P99, Sense.AT_MOST, bound, contender, metric, **where)


def _target(statistic: Statistic, sense: Sense, bound: float, contender: str, metric: str, **rest: Any) -> Target:
    return Target(contender=contender, metric=metric, statistic=statistic, sense=sense, bound=bound, **rest)
