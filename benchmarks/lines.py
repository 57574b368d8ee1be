"""The words and figures of a table, made of one result as it is in JSON; report and document lay them out."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.harness import CALL
from benchmarks.stats import Sense, Setting, Statistic

_DECIMALS: Final = (2, 1, 0)
_HAS_UNIT: Final = frozenset({Statistic.P50, Statistic.P99})


@dataclass(frozen=True)
class Promise:
    """A target in a few characters, and what was measured of it."""

    target: str
    measured: str
    met: bool


@dataclass(frozen=True)
class Line:
    """One line of a table."""

    setting: str
    what: str
    note: str
    p50: str
    p99: str
    ratio: str
    promises: Sequence[Promise]


def lines_of(result: Mapping[str, Any]) -> list[Line]:
    """A line for each row of *result*."""
    return [
        Line(
            setting=str(Setting(row["runtime"], row["pinned"], row["variant"])),
            what=_what(row),
            note=result["notes"].get(row["contender"], ""),
            p50=human(row["p50"], row["metric"]),
            p99=human(row["p99"], row["metric"]),
            ratio="" if row["ratio_to_base"] is None else f"{row['ratio_to_base']:.2f}",
            promises=[
                Promise(target_text(target, row["metric"]), _measured(target, row["metric"]), target["met"])
                for target in row["targets"]
            ],
        )
        for row in result["rows"]
    ]


def missing_lines(skipped: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each reason, with everybody and every setting that it holds for; details are in the JSON."""
    settings: dict[tuple[str, str, str], list[str]] = {}
    for each in skipped:
        # The last line of a traceback says what was wrong.
        reason = each["reason"].splitlines()[-1] if each["reason"] else "no reason given"
        verb = "failed" if each["failed"] else "skipped"
        where = str(Setting(each["runtime"], each["pinned"], each["variant"]))
        settings.setdefault((verb, each["contender"], reason), []).append(where)
    contenders: dict[tuple[str, str, str], list[str]] = {}
    for (verb, contender, reason), places in settings.items():
        contenders.setdefault((verb, reason, "; ".join(sorted(places))), []).append(contender)
    return [f"{verb}: {'; '.join(names)}: {reason} ({where})" for (verb, reason, where), names in contenders.items()]


def human(value: float, metric: str) -> str:
    """A value with the unit that ends its metric's name, in about three digits."""
    unit = metric.rpartition("_")[2]
    if unit == "us":
        for bound, divisor, name in ((1e3, 1, "us"), (1e6, 1e3, "ms")):
            if abs(value) < bound:
                return f"{_digits(value / divisor)} {name}"
        return f"{_digits(value / 1e6)} s"
    return f"{_digits(value)} {unit}"


def target_text(target: Mapping[str, Any], metric: str) -> str:
    """The promise in a few characters: the row has its contender, the column its statistic."""
    sign = "<=" if Sense(target["sense"]) is Sense.AT_MOST else ">="
    bound, against = target["bound"], target["against"]
    texts = {
        Statistic.P50: human(bound, metric),
        Statistic.P99: f"{human(bound, metric)} p99",
        Statistic.SPREAD: f"{bound:g} x own p50, p99",
        Statistic.RATIO: f"{bound:g} x {against}",
        Statistic.SPEEDUP: f"{bound:g} times as fast as {against}",
    }
    return f"{sign} {texts[Statistic(target['statistic'])]}"


def _measured(target: Mapping[str, Any], metric: str) -> str:
    """The figure, and whether it kept the promise; if not, by how much of the bound it is off."""
    value, bound = target["value"], target["bound"]
    figure = human(value, metric) if Statistic(target["statistic"]) in _HAS_UNIT else f"{value:.2f}"
    if target["met"]:
        return f"{figure} met"
    if value >= 2 * bound:
        return f"{figure} missed, {value / bound:.1f} times the bound"
    return f"{figure} missed by {abs(value - bound) / bound:.0%}"


def _digits(value: float) -> str:
    return f"{value:.{_DECIMALS[bisect.bisect([10, 100], abs(value))]}f}"


def _what(row: Mapping[str, Any]) -> str:
    # A question with one metric needs no name for it.
    metric: str = row["metric"]
    name: str = row["contender"]
    return name if metric == CALL else f"{name}: {metric.rpartition('_')[0]}"
