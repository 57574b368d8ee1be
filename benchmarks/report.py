"""What a run shows: a table for each question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.harness import Question
from benchmarks.lines import Line, lines_of, missing_lines
from benchmarks.stats import Measurement, Row, make_rows

_STYLES: Final = {True: "green", False: "bold red"}


def rows_of(question: Question, measurements: Iterable[Measurement]) -> list[Row]:
    """The rows of *question*'s table."""
    return make_rows(measurements, base=question.base, targets=question.targets)


def show(console: Console, result: Mapping[str, Any]) -> None:
    """Print the table of one question."""
    console.print()
    console.print(table(result))


def table(result: Mapping[str, Any]) -> RenderableType:
    """The rows with ratios, and the targets beside them; below, who is missing and why."""
    lines = lines_of(result)
    drawn = Table(title=result["title"], title_justify="left", title_style="bold")
    drawn.add_column("setting", no_wrap=True)
    drawn.add_column("what", no_wrap=True)
    if result["note_title"]:
        drawn.add_column(result["note_title"], no_wrap=True)
    drawn.add_column("p50", justify="right", no_wrap=True)
    drawn.add_column("p99", justify="right", no_wrap=True)
    if result["base"]:
        drawn.add_column(f"times\n{result['base']}", justify="right")
    if any(line.promises for line in lines):
        drawn.add_column("target")
        drawn.add_column("measured", no_wrap=True)
    previous = None
    for line in lines:
        if previous not in {None, line.setting}:
            drawn.add_section()
        drawn.add_row(*_cells(line, result, is_first=line.setting != previous))
        previous = line.setting
    return Group(drawn, *(Text(text, "yellow") for text in missing_lines(result["skipped"])))


def _cells(line: Line, result: Mapping[str, Any], *, is_first: bool) -> list[RenderableType]:
    cells: list[RenderableType] = [line.setting if is_first else "", line.what]
    if result["note_title"]:
        cells.append(line.note)
    cells += [line.p50, line.p99]
    if result["base"]:
        cells.append(line.ratio)
    if line.promises:
        # A line for each target, so that it stands beside its figure.
        targets, figures = Table.grid(expand=False), Table.grid(expand=False)
        for promise in line.promises:
            targets.add_row(promise.target)
            figures.add_row(Text(promise.measured, style=_STYLES[promise.met]))
        cells += [targets, figures]
    return cells
