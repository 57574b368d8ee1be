"""``python -m benchmarks [--quick] [QUESTION ...]``: ask, print tables, write JSON."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from benchmarks import machine, questions, report
from benchmarks.harness import ROOT, RUNTIMES, Plan, Question, Skipped, run, stage_functions
from benchmarks.stats import Measurement, Row

_COLUMNS_WHEN_PIPED = 132


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[QUESTION]...", type=click.Choice(questions.NAMES))
@click.option("--quick", is_flag=True, help="Few rounds: to see that everything runs, not to quote.")
@click.option("--runtime", "runtimes", multiple=True, default=RUNTIMES, show_default=True, help="Measured runtimes.")
@click.option("--python", "given", multiple=True, metavar="RUNTIME=PATH", help="The interpreter of a runtime.")
@click.option("--cpu", type=int, default=None, help="CPU of pinned settings; the last one that is allowed.")
@click.option("--instances", type=click.IntRange(1), default=None, help="How many many_instances starts.")
@click.option(
    "--fail-beyond",
    type=click.FloatRange(1),
    default=None,
    metavar="FACTOR",
    help="Exit with 1 when a target is missed by more than this factor: a check for CI.",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "benchmarks" / "results",
    show_default="benchmarks/results",
    help="Folder for one JSON file a question.",
)
def main(
    names: tuple[str, ...],
    *,
    quick: bool,
    runtimes: tuple[str, ...],
    given: tuple[str, ...],
    cpu: int | None,
    instances: int | None,
    fail_beyond: float | None,
    results: Path,
) -> None:
    """Measure the engine beside bare references, and print tables with ratios and targets.

    Exit status 1 when a measurement failed. A missed target is shown, and fails nothing by itself.
    """
    console = Console(width=None if sys.stdout.isatty() else _COLUMNS_WHEN_PIPED)
    interpreters, missing = machine.find_interpreters(runtimes, dict(_pair(text) for text in given))
    for runtime in missing:
        console.print(f"skipped: no interpreter for {runtime}", style="yellow")
    bad = False
    with tempfile.TemporaryDirectory(prefix="fgengine-benchmarks-") as folder:
        plan = Plan(
            interpreters=interpreters,
            code=stage_functions(interpreters.values(), Path(folder)),
            cpu=machine.default_cpu() if cpu is None else cpu,
            quick=quick,
            options={} if instances is None else {"instances": instances},
        )
        for name in names or questions.NAMES:
            question = questions.load(name)
            facts = machine.facts(interpreters)
            measurements, skipped = _ask(console, question, plan)
            facts["load_average_after"] = machine.load_average()
            rows = report.rows_of(question, measurements)
            report.show(console, question, rows, skipped)
            report.write(report.to_json(question, rows, skipped, machine=facts, quick=quick), results)
            bad = bad or any(each.failed for each in skipped) or _is_beyond(rows, fail_beyond)
    sys.exit(1 if bad else 0)


def _pair(text: str) -> tuple[str, str]:
    runtime, equals, path = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not RUNTIME=PATH, such as python3.9=/usr/bin/python3.9")
    return runtime, path


def _is_beyond(rows: list[Row], factor: float | None) -> bool:
    """Whether a target is missed by more than *factor*; a figure that is only a little off may be the machine."""
    return factor is not None and any(verdict.missed_by > factor for row in rows for verdict in row.verdicts)


def _ask(console: Console, question: Question, plan: Plan) -> tuple[list[Measurement], list[Skipped]]:
    """Run one question, with a line that says what is being measured."""
    measurements: list[Measurement] = []
    skipped: list[Skipped] = []
    with console.status(question.title) as status:
        for each in run(question, plan):
            if isinstance(each, Skipped):
                skipped.append(each)
            else:
                measurements.append(each)
                status.update(f"{question.title}: round {each.round + 1}, {each.contender}, {each.setting}")
    return measurements, skipped


if __name__ == "__main__":
    main()
