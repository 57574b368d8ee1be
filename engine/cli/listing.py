"""``fgengine runtimes``: which Pythons were found, where, and what to do about those that are missing."""

from __future__ import annotations

import json
from collections.abc import Collection

import click

from engine.cli import describe, show
from engine.errors import RuntimeNotFoundError
from engine.runtimes import PLATFORM_RUNTIMES, Interpreter, Runtimes

EXAMPLES = """\b
Examples:
  fgengine runtimes
  fgengine runtimes --python python3.9=/opt/python3.9/bin/python3.9
  FGENGINE_PYTHON3_9=/opt/python3.9/bin/python3.9 fgengine runtimes --json
"""


@click.command(epilog=EXAMPLES, short_help="List the Pythons found, and how to get the missing ones.")
@click.option(
    "--python", "interpreters", multiple=True, metavar="RUNTIME=PATH", help="Interpreter of a runtime; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each runtime, for machines.")
def runtimes(interpreters: tuple[str, ...], *, as_json: bool) -> None:
    """List the Pythons that can run functions, and how to get those of the platform that are missing."""
    given = describe.read_interpreters(interpreters)
    known = Runtimes(given)
    found = known.installed()
    problems = _problems(known, {interpreter.runtime for interpreter in found}, given)
    if as_json:
        for interpreter in found:
            click.echo(json.dumps({"found": True, **_as_dict(interpreter)}))
        for problem in problems:
            told = {"found": False, "runtime": problem.runtime, "tried": problem.tried, "advice": problem.advice}
            click.echo(json.dumps(told))
        return
    _print_table(found)
    for problem in problems:
        click.echo(f"\n{problem}")


def _as_dict(interpreter: Interpreter) -> dict[str, str]:
    return {
        "runtime": interpreter.runtime,
        "version": ".".join(map(str, interpreter.version)),
        "executable": interpreter.executable,
        "source": interpreter.source,
    }


def _problems(known: Runtimes, found: Collection[str], given: Collection[str]) -> list[RuntimeNotFoundError]:
    """Why each runtime of the platform, or named by --python, is not among the *found* ones."""
    errors = []
    for runtime in dict.fromkeys([*PLATFORM_RUNTIMES, *given]):
        if runtime not in found:
            try:
                known.find(runtime)
            except RuntimeNotFoundError as error:
                errors.append(error)
    return errors


def _print_table(found: list[Interpreter]) -> None:
    rows = [tuple(_as_dict(interpreter).values()) for interpreter in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        colourful = show.is_colourful()
        if colourful:
            cells[0] = click.style(cells[0], bold=True)
            cells[3] = click.style(cells[3], dim=True)
        click.echo("  ".join(cells).rstrip(), color=colourful)
