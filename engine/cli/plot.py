"""``fgengine invoke --plot``: memory over time as a picture (matplotlib) or in the terminal (plotille).

Both come with the extra "plot". plotille and not plotext, the other one that is alive: its figures are objects that
become text, where plotext 6 has one for the whole process; it loads in 15 ms, not 140, and needs nothing else.
"""

from __future__ import annotations

import io
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from engine.cli import show
from engine.cli.chart import Chart, Curve

Painter = Callable[[Chart], None]

TERMINAL: Final = "-"
SUFFIXES: Final = (".svg", ".png")

_NAMED: Final = 10
"""As many lines as there are colours that people can tell apart; the others are grey, and counted."""

_COLOURS: Final = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_LETTERS_ON_A_CURVE: Final = 8
_ENDED_EARLY: Final = "X"
_HEIGHT: Final = 16
_LABELS_WIDTH: Final = 18
"""What plotille writes to the left and to the right of a figure: numbers, and the names of the axes."""

_NARROWEST: Final = 40
_WIDEST: Final = 100
_BLANK: Final = "\N{BRAILLE PATTERN BLANK}"
_DOTS: Final = re.compile("[\u2801-\u28ff]")
_ASCII: Final = {ord("\N{UPWARDS ARROW}"): "^", ord("\N{RIGHTWARDS ARROW}"): ">"}


def painter_for(target: str) -> Painter:
    """Return what draws a chart into *target*: ``-`` for the terminal, or a file with a suffix of SUFFIXES.

    Everything that can be wrong is found here, before a function runs.

    Raises:
        click.BadParameter: The file cannot be one of ours.
        click.ClickException: What draws it is not installed.
    """
    if target == TERMINAL:
        return _terminal_painter()
    path = Path(target)
    if path.suffix.lower() not in SUFFIXES:
        raise click.BadParameter(f"{target!r} must end in .svg or .png, or be -, the terminal", param_hint="--plot")
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(path.parent)!r}", param_hint="--plot")
    return _picture_painter(path)


def _not_installed(what: str, error: ImportError) -> click.ClickException:
    return click.ClickException(
        f"--plot draws with {what}, which cannot be imported here ({error}). Nothing was run. To install it: "
        "pip install 'fgengine[plot]', or in a source folder: pip install '.[plot]'."
    )


def _picture_painter(path: Path) -> Painter:
    # Neither the user's choice of a window system nor a style of theirs matters to a file, and either could fail.
    os.environ["MPLBACKEND"] = "agg"
    try:
        import matplotlib  # noqa: PLC0415  # a third of a second, and an extra

        # stderr is for what went wrong, not for "building the font cache; this may take a moment".
        matplotlib.set_loglevel("ERROR")
        from matplotlib.figure import Figure  # noqa: PLC0415  # as above; not pyplot, which keeps figures for windows
    except ImportError as error:
        raise _not_installed("matplotlib", error) from None
    matplotlib.rcdefaults()

    def paint(chart: Chart) -> None:
        # Text stays text: it can be searched, read aloud and translated. No date: equal charts make equal files.
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "fgengine"})
        entries = min(len(chart.curves), _NAMED + 1)
        figure = Figure(figsize=(8, 4 + 0.22 * entries), dpi=150, layout="constrained")
        _draw(figure.add_subplot(), chart)
        figure.legend(loc="outside lower left", frameon=False, fontsize="small")
        picture = io.BytesIO()
        kind = path.suffix.lower().lstrip(".")
        figure.savefig(picture, format=kind, metadata={"Date": None} if kind == "svg" else None)
        path.write_bytes(picture.getvalue())  # at the end: a drawing that failed leaves an older file alone

    return paint


def _draw(axes: Any, chart: Chart) -> None:
    axes.set_title(chart.title, parse_math=False, fontsize="medium", loc="left")
    axes.set(xlabel="ms since the start", ylabel="MB in use", xlim=(0, chart.right_ms), ylim=(0, chart.top_mb))
    axes.grid(visible=True, color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    unnamed = len(chart.curves) - _NAMED
    for number, curve in enumerate(chart.curves):
        style: dict[str, Any] = {"label": curve.label, "color": f"C{number}", "zorder": 3}
        if number >= _NAMED:
            style = {"label": f"{unnamed} more" if number == _NAMED else None, "color": "0.7", "linewidth": 0.8}
        if curve.ended_early:
            style |= {"marker": "X", "markersize": 9, "markevery": [-1], "markeredgecolor": "black"}
        elif len(curve.points) == 1:  # of which no line can be made
            style |= {"marker": "o"}
        # Neither cut at the frame nor under it: the peak, and the end, are what one looks for.
        line = axes.plot(*zip(*curve.points, strict=True) if curve.points else ([], []), clip_on=False, **style)
        line[0].set_gid(f"curve-{number}")  # the id of its group in an SVG
    _draw_marks(axes, chart)


def _draw_marks(axes: Any, chart: Chart) -> None:
    red, beside = "#b00020", 5
    text = {"textcoords": "offset points", "color": red, "fontsize": "small"}
    if chart.limit.at is not None:
        axes.axhline(chart.limit.at, color=red, linestyle="--", linewidth=1, gid="limit")
    if chart.deadline.at is not None:
        axes.axvline(chart.deadline.at, color=red, linestyle=":", linewidth=1.5, gid="deadline")
    # At the left, where the memory of a function is lowest, and halfway up, where the limit's line is not.
    at_mb = chart.top_mb if chart.limit.at is None else chart.limit.at
    axes.annotate(chart.limit.label, (0, at_mb), xytext=(beside, -beside), va="top", **text)
    at_ms = chart.right_ms if chart.deadline.at is None else chart.deadline.at
    axes.annotate(
        chart.deadline.label,
        (at_ms, chart.top_mb / 2),
        xytext=(-beside, 0),
        ha="right",
        va="center",
        rotation=0 if chart.deadline.at is None else 90,
        **text,
    )


def _terminal_painter() -> Painter:
    try:
        import plotille  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise _not_installed("plotille", error) from None

    def paint(chart: Chart) -> None:
        figure = plotille.Figure()
        room = shutil.get_terminal_size().columns - _LABELS_WIDTH
        figure.width = min(_WIDEST, max(_NARROWEST, room // 10 * 10))  # a label stands below every tenth column
        figure.height = _HEIGHT
        figure.with_colors = show.is_colourful()
        figure.origin = False
        figure.set_x_limits(0, chart.right_ms)
        figure.set_y_limits(0, chart.top_mb)
        figure.x_label, figure.y_label = "ms", "MB"
        figure.register_label_formatter(float, _tick)
        _trace_marks(figure, chart)
        for number, curve in enumerate(chart.curves):
            _trace(figure, curve, number, len(chart.curves))
        drawing = "\n".join(["", chart.title, "", _readable(figure.show()), "", *_legend(chart.curves)])
        click.echo(drawing, color=show.is_colourful())

    return paint


def _trace(figure: Any, curve: Curve, number: int, of: int) -> None:
    """Draw curve *number* of so many."""
    if not curve.points:
        return
    colour = _COLOURS[number % len(_COLOURS)]
    if len(curve.points) > 1:
        figure.plot(*zip(*curve.points, strict=True), lc=colour)
    # Several are told apart without colours, too: by a letter here and there, each where the others have none.
    step = max(1, len(curve.points) // _LETTERS_ON_A_CURVE)
    letters = dict(curve.points[number * step // of :: step] if of > 1 else ())
    if len(curve.points) == 1:
        letters = dict(curve.points)
    figure.text(list(letters), list(letters.values()), [_letter(number)] * len(letters), lc=colour)
    if curve.ended_early:
        at_ms, at_mb = curve.points[-1]
        figure.text([at_ms], [at_mb], [_ENDED_EARLY], lc=colour)


def _trace_marks(figure: Any, chart: Chart) -> None:
    """Draw the limit and the deadline with characters: in a row of their own, and unlike the dots of a curve."""
    cell_ms, cell_mb = chart.right_ms / figure.width, chart.top_mb / figure.height
    if chart.limit.at is None:
        figure.text([0.0], [chart.top_mb - cell_mb / 2], [f" {chart.limit.label}"], lc="red")
    else:
        figure.text([0.0], [chart.limit.at], [f"- {chart.limit.label} ".ljust(figure.width, "-")], lc="red")
    at_ms, label, height = chart.right_ms, f"{chart.deadline.label} ", (figure.height // 2 + 0.5) * cell_mb
    if chart.deadline.at is not None:
        at_ms = chart.deadline.at
        rows = [(row + 0.5) * cell_mb for row in range(figure.height)]
        figure.text([at_ms] * figure.height, rows, ["|"] * figure.height, lc="red")
    figure.text([max(0.0, at_ms - len(label) * cell_ms)], [height], [label], lc="red")


def _letter(number: int) -> str:
    return _LETTERS[number % len(_LETTERS)]


def _legend(curves: Sequence[Curve]) -> Iterator[str]:
    """A line for each curve: its letter, in its colour where there are any, and X when it has one at its end."""
    for number, curve in enumerate(curves):
        letter = _letter(number)
        if show.is_colourful():
            letter = click.style(letter, fg=_COLOURS[number % len(_COLOURS)])
        sign = _ENDED_EARLY if curve.ended_early else " "
        yield f"{letter} {sign} {curve.label}"


def _tick(value: float, chars: int, delta: float, *, left: bool = False) -> str:
    """An axis label with as many decimals as it takes to tell it from its neighbours on an axis of length *delta*."""
    text = f"{value:.{max(0, -math.floor(math.log10(delta / _HEIGHT)))}f}"
    return text.ljust(chars) if left else text.rjust(chars)


def _readable(text: str) -> str:
    """Return *text* as this output can show it: with spaces for empty cells, and stars where there are no dots."""
    text = text.replace("-> (ms)", "> ms")  # or 80 columns have no room for 60
    text = "\n".join(line.replace(_BLANK, " ").rstrip() for line in text.splitlines())
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return _DOTS.sub("*", text).translate(_ASCII)
    return text
