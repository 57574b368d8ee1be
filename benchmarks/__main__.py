"""``python -m benchmarks [--quick] [QUESTION ...]``: ask, print tables, write JSON, a chart and the documents."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from benchmarks import chart, check, document, machine, questions, remains, report, results_io
from benchmarks.harness import RUNTIMES, Plan, Question, Skipped, run, stage_functions
from benchmarks.lines import missing_lines
from benchmarks.stats import Measurement

_COLUMNS_WHEN_PIPED = 150


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
    help="A check for CI: measure the engine and its floor alone, and exit with 1 when a ratio is more than this "
    f"factor above the one in bounds.json. For {' and '.join(check.NAMES)}.",
)
@click.option("--record-bounds", is_flag=True, help="Measure as for --fail-beyond, and write bounds.json.")
@click.option("--render", is_flag=True, help="Measure nothing: chart and documents anew, from the results there are.")
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    show_default="benchmarks/results, with --quick benchmarks/results/quick",
    help="Folder for one JSON file a question, and the chart.",
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
    record_bounds: bool,
    render: bool,
    results: Path | None,
) -> None:
    """Measure the engine beside bare references and other tools, and print tables with ratios and targets.

    Exit status 1 when a measurement failed. A missed target is shown, and fails nothing by itself.
    """
    console = Console(width=None if sys.stdout.isatty() else _COLUMNS_WHEN_PIPED)
    folder = results or (results_io.QUICK_FOLDER if quick else results_io.FOLDER)
    if render:
        _render(console, folder)
        return
    remains.adopt_orphans()
    interpreters, missing = machine.find_interpreters(runtimes, dict(_pair(text) for text in given))
    for runtime in missing:
        console.print(f"skipped: no interpreter for {runtime}", style="yellow")
    with tempfile.TemporaryDirectory(prefix="fgengine-benchmarks-") as staged:
        plan = Plan(
            interpreters=interpreters,
            code=stage_functions([*interpreters.values(), sys.executable], Path(staged)),
            cpu=machine.default_cpu() if cpu is None else cpu,
            quick=quick,
            options={} if instances is None else {"instances": instances},
        )
        if record_bounds or fail_beyond is not None:
            bad = _check(console, names, plan, fail_beyond)
        else:
            bad = _measure(console, names or questions.NAMES, plan, folder)
            _render(console, folder)
    sys.exit(1 if bad else 0)


def _pair(text: str) -> tuple[str, str]:
    runtime, equals, path = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not RUNTIME=PATH, such as python3.9=/usr/bin/python3.9")
    return runtime, path


def _measure(console: Console, names: Sequence[str], plan: Plan, folder: Path) -> bool:
    """Ask the questions, show and write what is found; whether a measurement failed."""
    bad = False
    began = time.monotonic()
    for number, name in enumerate(names, start=1):
        question = questions.load(name)
        console.print(f"\n{number} of {len(names)}: {name}, after {time.monotonic() - began:.0f} s", style="dim")
        facts = machine.facts(plan.interpreters)
        measurements, skipped = _ask(console, question, plan)
        facts["load_average_after"] = machine.load_average()
        rows = report.rows_of(question, measurements)
        result = results_io.to_json(question, rows, skipped, machine=facts, quick=plan.quick)
        report.show(console, result)
        results_io.write(result, folder)
        bad = bad or any(each.failed for each in skipped)
    console.print(f"\nall after {time.monotonic() - began:.0f} s; results in {folder}", style="dim")
    return bad


def _check(console: Console, names: Sequence[str], plan: Plan, factor: float | None) -> bool:
    """Compare with what is recorded, or record it when there is no *factor*; whether something is beyond."""
    bad = False
    bounds: Mapping[str, Mapping[str, float]] = {} if factor is None else check.read_bounds()
    for name in [each for each in check.NAMES if each in (names or check.NAMES)]:
        measurements, skipped = _ask(console, check.narrowed(questions.load(name)), plan)
        measured = check.ratios(name, measurements)
        for line in missing_lines(results_io.skipped_json(skipped)):
            console.print(Text(line, "yellow"))
        if factor is None:
            check.record(name, measured)
        for finding in check.findings(name, measured, bounds or check.read_bounds(), plan.interpreters):
            is_beyond = factor is not None and finding.is_beyond(factor)
            bad = bad or is_beyond
            console.print(Text(str(finding), "bold red" if is_beyond else "green"))
    return bad


def _render(console: Console, folder: Path) -> None:
    """Draw the chart; and when these are the results to quote, put them into the documents."""
    try:
        drawn = chart.draw(folder)
    except ImportError as error:
        console.print(f"skipped: {chart.NAME}: {error}", style="yellow")
    else:
        console.print(f"chart: {drawn}" if drawn else f"skipped: {chart.NAME}: peers_warm and peers_cold are needed")
    if folder.resolve() == results_io.FOLDER:
        for path in document.render(folder):
            console.print(f"figures put into {path.name}")


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
