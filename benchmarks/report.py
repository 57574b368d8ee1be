"""What a run leaves behind: a table for people, JSON for machines."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.harness import CALL, Question, Skipped
from benchmarks.stats import Measurement, Row, Sense, Statistic, Target, Verdict, make_rows

SCHEMA: Final = 1
"""Raised when a reader of results/*.json would have to change."""

_STYLES: Final = {True: "green", False: "bold red"}
_DECIMALS: Final = (2, 1, 0)


def rows_of(question: Question, measurements: Iterable[Measurement]) -> list[Row]:
    """The rows of *question*'s table."""
    return make_rows(measurements, base=question.base, targets=question.targets)


def to_json(
    question: Question, rows: Sequence[Row], skipped: Sequence[Skipped], *, machine: dict[str, Any], quick: bool
) -> dict[str, Any]:
    """Everything about one question's run as JSON-ready values."""
    effort = question.quick if quick else question.full
    return {
        "schema": SCHEMA,
        "question": question.name,
        "title": question.title,
        "quick": quick,
        "base": question.base,
        "effort": {"rounds": effort.rounds, "calls": effort.calls, "warm_up": effort.warm_up},
        "machine": machine,
        "rows": [row.to_dict() for row in rows],
        "skipped": [
            {
                "contender": each.contender,
                "runtime": each.setting.runtime,
                "pinned": each.setting.pinned,
                "variant": each.setting.variant,
                "reason": each.reason,
                "failed": each.failed,
            }
            for each in skipped
        ],
    }


def write(result: dict[str, Any], folder: Path) -> Path:
    """Write *result* to the folder under its question's name, and return where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['question']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def table(question: Question, rows: Sequence[Row], skipped: Sequence[Skipped]) -> RenderableType:
    """The rows with ratios, and the targets beside them; below, who is missing and why."""
    drawn = Table(title=question.title, title_justify="left", title_style="bold")
    drawn.add_column("setting", no_wrap=True)
    drawn.add_column("what", no_wrap=True)
    drawn.add_column("p50", justify="right", no_wrap=True)
    drawn.add_column("p99", justify="right", no_wrap=True)
    if question.base:
        drawn.add_column(f"times\n{question.base}", justify="right")
    drawn.add_column("target")
    drawn.add_column("measured", justify="right", no_wrap=True)
    previous = None
    for row in rows:
        setting = row.series.setting
        if previous not in {None, setting}:
            drawn.add_section()
        cells: list[RenderableType] = ["" if setting == previous else str(setting), _name(row), *_percentiles(row)]
        if question.base:
            cells.append("" if row.ratio_to_base is None else f"{row.ratio_to_base:.2f}")
        # A line for each target, so that it stands beside its figure.
        targets = Table.grid(expand=False)
        for verdict in row.verdicts:
            targets.add_row(target_text(verdict.target))
        figures = Table.grid(expand=False)
        for verdict in row.verdicts:
            figures.add_row(_measured(verdict))
        drawn.add_row(*cells, targets, figures)
        previous = setting
    return Group(drawn, *(Text(line, "yellow") for line in missing_lines(skipped)))


def missing_lines(skipped: Iterable[Skipped]) -> list[str]:
    """One line for each contender and reason, with all settings that it is missing in; details are in the JSON."""
    settings: dict[tuple[str, str, str], list[str]] = {}
    for each in skipped:
        # The last line of a traceback says what was wrong.
        reason = each.reason.splitlines()[-1] if each.reason else "no reason given"
        verb = "failed" if each.failed else "skipped"
        settings.setdefault((verb, each.contender, reason), []).append(str(each.setting))
    return [
        f"{verb}: {contender}: {reason} ({'; '.join(where)})" for (verb, contender, reason), where in settings.items()
    ]


def show(console: Console, question: Question, rows: Sequence[Row], skipped: Sequence[Skipped]) -> None:
    """Print the table of one question."""
    console.print()
    console.print(table(question, rows, skipped))


def human(value: float, metric: str) -> str:
    """A value with the unit that ends its metric's name, in about three digits."""
    unit = metric.rpartition("_")[2]
    if unit == "us":
        for bound, divisor, name in ((1e3, 1, "us"), (1e6, 1e3, "ms")):
            if abs(value) < bound:
                return f"{_digits(value / divisor)} {name}"
        return f"{_digits(value / 1e6)} s"
    return f"{_digits(value)} {unit}"


def target_text(target: Target) -> str:
    """The promise in a few characters: the row has its contender, the column its statistic."""
    sign = "<=" if target.sense is Sense.AT_MOST else ">="
    texts = {
        Statistic.P50: human(target.bound, target.metric),
        Statistic.P99: f"{human(target.bound, target.metric)} p99",
        Statistic.SPREAD: f"{target.bound:g} x own p50, p99",
        Statistic.RATIO: f"{target.bound:g} x {target.against}",
        Statistic.SPEEDUP: f"{target.bound:g} times as fast as {target.against}",
    }
    return f"{sign} {texts[target.statistic]}"


def _digits(value: float) -> str:
    return f"{value:.{_DECIMALS[bisect.bisect([10, 100], abs(value))]}f}"


def _name(row: Row) -> str:
    # A question with one metric needs no name for it.
    metric = row.series.metric
    return row.series.contender if metric == CALL else f"{row.series.contender}: {metric.rpartition('_')[0]}"


def _percentiles(row: Row) -> list[str]:
    return [human(row.series.percentile(percent), row.series.metric) for percent in (50, 99)]


def _measured(verdict: Verdict) -> Text:
    target = verdict.target
    has_unit = target.statistic in {Statistic.P50, Statistic.P99}
    figure = human(verdict.value, target.metric) if has_unit else f"{verdict.value:.2f}"
    return Text(figure + (" met" if verdict.met else " missed"), style=_STYLES[verdict.met])
