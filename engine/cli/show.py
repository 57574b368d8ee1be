"""Results for people, in colour where there is a terminal, and for machines, one JSON object a line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from engine.result import Result

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# A log may hold escape sequences that retitle, recolour or clear a terminal: there they are shown, not obeyed.
_VISIBLE_CONTROLS: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}


def _in_order(result: Result) -> str:
    """Return the return value as JSON with sorted keys: dictionaries of 2.7 have no order of their own."""
    try:
        return json.dumps(result.value, sort_keys=True)
    except ValueError:  # an integer that this interpreter does not print: over 4300 digits
        return result.body or ""


@dataclass(frozen=True)
class Run:
    """A result, and the runtime that it comes from."""

    runtime: str
    result: Result

    @property
    def start(self) -> str:
        return "cold start" if self.result.cold_start else "warm start"

    @property
    def outcome(self) -> tuple[str, str]:
        """What must be equal for two runtimes to agree: the status, and the return whatever its order of keys."""
        returned = _in_order(self.result) if self.result.ok else ""
        return self.result.status.value, returned


@dataclass
class View:
    """Shows results as they come.

    Attributes:
        as_json: One object a line instead of text.
        several: Whether more than one will come, so that each needs a title.
    """

    as_json: bool
    several: bool
    shown: int = field(default=0, init=False)

    def show(self, run: Run) -> None:
        """Print one result at once: a later one may take its time, or never come."""
        self.shown += 1
        if self.as_json:
            click.echo(run.result.to_json(runtime=run.runtime))
            return
        title = f"{run.runtime}, {run.start}"
        if is_colourful():
            _print_in_colour(run, title)
            return
        heading = f"=== {title} ===\n" if self.several else ""
        text = heading + run.result.render() + ("\n" if self.several else "")
        click.echo(for_terminal(text) if sys.stdout is not None and sys.stdout.isatty() else text, nl=False)

    def compare(self, runs: Sequence[Run]) -> None:
        """Print one line for each runtime when there were several results."""
        if self.as_json or not self.several or not runs:
            return
        lines = [_comparison(runs, runtime) for runtime in dict.fromkeys(run.runtime for run in runs)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def is_colourful() -> bool:
    """Whether to use colour: on a terminal, unless NO_COLOR is set; FORCE_COLOR does without the terminal."""
    if os.environ.get("NO_COLOR") or sys.stdout is None:
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def for_terminal(text: str) -> str:
    """Return *text* with every control character but newline and tab spelt out."""
    return text.translate(_VISIBLE_CONTROLS)


def console() -> Console:
    """A console that neither wraps nor guesses: what it prints can be copied."""
    from rich.console import Console  # noqa: PLC0415  # 50 ms that a script which wants JSON need not wait for

    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False, force_terminal=True)


def _print_in_colour(run: Run, title: str) -> None:
    from rich.text import Text  # noqa: PLC0415  # as above

    result = run.result
    verdict = "green" if result.ok else "red"
    out = console()
    out.print(Text.assemble(("● ", verdict), (title, "bold"), "  ", (result.status.value, f"bold {verdict}")))
    out.print(Text("Function return", "bold cyan"))
    out.print(Text(for_terminal(result.render_return()), "" if result.ok else "red"))
    out.print(Text("\nExecution summary", "bold cyan"))
    rows = result.render_summary()
    width = max(len(label) for label, _ in rows) + 1
    for label, value in rows:
        out.print(Text.assemble((f"{label + ':':<{width}} ", "dim"), for_terminal(value)))
    out.print(Text("\nLog", "bold cyan"))
    out.print(_log_in_colour(result, Text))
    out.print()


def _log_in_colour(result: Result, text_class: type[Text]) -> Text:
    """The platform's own lines, which are the first and the last, step back behind the function's."""
    log = text_class(for_terminal(result.render_log()))
    log.highlight_regex(r"\A[^\n]*|[^\n]*\Z", "dim")
    return log


def _comparison(runs: Sequence[Run], runtime: str) -> tuple[str, ...]:
    own = [run for run in runs if run.runtime == runtime]
    results = [run.result for run in own]
    cold = sum(result.cold_start for result in results)
    statuses = dict.fromkeys(result.status.value for result in results)
    fastest = min(result.summary.duration_ms for result in results)
    return (
        runtime,
        f"{cold} cold, {len(own) - cold} warm",
        ", ".join(statuses),
        f"fastest {fastest:.3f} ms",
        f"peak {max(result.summary.memory_used_mb for result in results):.1f} MB",
        "" if own[-1].outcome == runs[0].outcome else f"differs from {runs[0].runtime}",
    )
