"""The arithmetic of the benchmarks: percentiles, ratios, rows of a table. Pure, so that it can be tested.

A statistic is computed within each round and the median over the rounds is shown. Rounds are interleaved
(A B C A B C), so both sides of a ratio were measured within seconds of each other: on a shared machine
absolute times move by a factor of two within an hour, and the ratio of two medians over the whole run
would move with them.
"""

from __future__ import annotations

import enum
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_PERCENT: Final = 100


@dataclass(frozen=True, order=True)
class Setting:
    """What a measurement varies besides its contender.

    Attributes:
        runtime: Label of the child's interpreter, such as ``python3.9``.
        pinned: Both sides share one CPU; otherwise the kernel places them.
        variant: What else the question varies; empty when nothing.
    """

    runtime: str
    pinned: bool
    variant: str = ""

    def __str__(self) -> str:
        parts = [self.runtime, "pinned" if self.pinned else "unpinned", self.variant]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Measurement:
    """What one fresh process measured: values by metric; a metric's unit ends its name."""

    contender: str
    setting: Setting
    round: int
    values: Mapping[str, Sequence[float]]


class Statistic(enum.Enum):
    """What a target is about; RATIO is time against time, SPEEDUP the same the other way round."""

    P50 = "p50"
    P99 = "p99"
    SPREAD = "p99 / p50"
    RATIO = "ratio"
    SPEEDUP = "speed-up"


class Sense(enum.Enum):
    """Which side of its bound a target wants."""

    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A promise about one statistic of one contender.

    Attributes:
        against: The contender that a RATIO or SPEEDUP is taken of; None for the others.
        runtimes: Runtimes that it holds for; empty means all.
        pinned: Holds pinned, unpinned, or (None) both ways.
        variants: Variants that it holds for; empty means all.
    """

    contender: str
    metric: str
    statistic: Statistic
    sense: Sense
    bound: float
    against: str | None = None
    runtimes: Sequence[str] = ()
    pinned: bool | None = None
    variants: Sequence[str] = ()

    def applies_to(self, setting: Setting) -> bool:
        """Whether the promise was made for *setting*."""
        return (
            (not self.runtimes or setting.runtime in self.runtimes)
            and self.pinned in {None, setting.pinned}
            and (not self.variants or setting.variant in self.variants)
        )

    def is_met_by(self, value: float) -> bool:
        """Whether *value* is on the right side of the bound, or on it."""
        return value <= self.bound if self.sense is Sense.AT_MOST else value >= self.bound


@dataclass(frozen=True)
class Series:
    """One metric of one contender in one setting: its values, round by round."""

    contender: str
    setting: Setting
    metric: str
    rounds: Mapping[int, Sequence[float]]

    @property
    def count(self) -> int:
        """Values in all rounds together."""
        return sum(len(values) for values in self.rounds.values())

    def percentile(self, percent: float) -> float:
        """The median over the rounds of each round's percentile."""
        return statistics.median(percentile(values, percent) for values in self.rounds.values())


@dataclass(frozen=True)
class Verdict:
    """A target, and what was measured of it."""

    target: Target
    value: float

    @property
    def met(self) -> bool:
        """Whether the promise was kept."""
        return self.target.is_met_by(self.value)


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    series: Series
    ratio_to_base: float | None
    verdicts: Sequence[Verdict]

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON-ready values, with every round's percentiles."""
        series = self.series
        return {
            "contender": series.contender,
            "runtime": series.setting.runtime,
            "pinned": series.setting.pinned,
            "variant": series.setting.variant,
            "metric": series.metric,
            "count": series.count,
            "p50": series.percentile(50),
            "p99": series.percentile(99),
            "ratio_to_base": self.ratio_to_base,
            "rounds": [
                {
                    "round": number,
                    "count": len(values),
                    "min": min(values),
                    "p50": percentile(values, 50),
                    "p99": percentile(values, 99),
                    "max": max(values),
                }
                for number, values in sorted(series.rounds.items())
            ],
            "targets": [
                {
                    "statistic": verdict.target.statistic.value,
                    "against": verdict.target.against,
                    "sense": verdict.target.sense.value,
                    "bound": verdict.target.bound,
                    "value": verdict.value,
                    "met": verdict.met,
                }
                for verdict in self.verdicts
            ],
        }


def percentile(values: Iterable[float], percent: float) -> float:
    """The nearest-rank percentile: a value that was really measured, never one between two.

    Raises:
        ValueError: There are no values, or *percent* is not within (0, 100].
    """
    ordered = sorted(values)
    if not ordered or not 0 < percent <= MAX_PERCENT:
        raise ValueError(f"percentile {percent} of {len(ordered)} values")
    rank = -(-len(ordered) * percent // MAX_PERCENT)  # rounded up
    return ordered[int(rank) - 1]


def ratio(series: Series, base: Series, percent: float = 50) -> float | None:
    """How many times *base* the series takes: the median over rounds of the ratio of both percentiles in a round.

    None when no round has both.
    """
    both = sorted(series.rounds.keys() & base.rounds.keys())
    ratios = [percentile(series.rounds[each], percent) / percentile(base.rounds[each], percent) for each in both]
    return statistics.median(ratios) if ratios else None


def collect(measurements: Iterable[Measurement]) -> list[Series]:
    """Bring the rounds of each contender, setting and metric together, in order of first appearance."""
    found: dict[tuple[str, Setting, str], dict[int, Sequence[float]]] = {}
    for each in measurements:
        for metric, values in each.values.items():
            found.setdefault((each.contender, each.setting, metric), {})[each.round] = values
    return [Series(*key, rounds) for key, rounds in found.items()]


def make_rows(measurements: Iterable[Measurement], *, base: str | None, targets: Iterable[Target]) -> list[Row]:
    """Rows for a table: each series, its ratio to *base* in the same setting, and its targets."""
    series_list = collect(measurements)
    by_key = {(each.contender, each.setting, each.metric): each for each in series_list}
    promised = list(targets)

    def row(series: Series) -> Row:
        reference = by_key.get((base or "", series.setting, series.metric))
        verdicts = []
        for target in promised:
            if (target.contender, target.metric) == (series.contender, series.metric) and target.applies_to(
                series.setting
            ):
                against = by_key.get((target.against or "", series.setting, series.metric))
                value = _value_of(target.statistic, series, against)
                if value is not None:
                    verdicts.append(Verdict(target, value))
        return Row(series, ratio(series, reference) if reference else None, verdicts)

    rows = [row(series) for series in series_list]
    return sorted(rows, key=_place)


def _place(row: Row) -> tuple[Any, ...]:
    """Pinned first, and python3.9 before python3.11."""
    setting = row.series.setting
    version = [int(number) for number in re.findall(r"\d+", setting.runtime)]
    return not setting.pinned, version, setting.runtime, setting.variant, row.series.metric


def _value_of(statistic: Statistic, series: Series, against: Series | None) -> float | None:
    if statistic is Statistic.P50:
        return series.percentile(50)
    if statistic is Statistic.P99:
        return series.percentile(99)
    if statistic is Statistic.SPREAD:
        spreads = [percentile(values, 99) / percentile(values, 50) for values in series.rounds.values()]
        return statistics.median(spreads)
    if against is None:
        return None  # its contender was skipped, which the report says by name
    times = ratio(series, against)
    return times if times is None or statistic is Statistic.RATIO else 1 / times


def interleaved(rounds: int, settings: Sequence[Setting], contenders: Sequence[str]) -> list[tuple[int, Setting, str]]:
    """The order of measuring: A B C A B C, in each setting.

    The rounds are the outermost loop, so that a slow minute of the machine hits one round of everything and
    not every round of one setting; the contenders are the innermost, so that both sides of a ratio are
    neighbours in time.
    """
    return [(number, setting, name) for number in range(rounds) for setting in settings for name in contenders]
