"""A picture of the peers' table: warm calls and first replies, each on a scale of powers of ten."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks import results_io
from benchmarks.document import own_python_rows
from benchmarks.harness import CALL
from benchmarks.lines import human
from benchmarks.peers import ANOTHER

NAME: Final = "chart.svg"
QUESTIONS: Final = ("peers_warm", "peers_cold")

_TITLES: Final = ("warm call", "new worker to its first reply")
_FLOOR: Final = frozenset({"bare echo, objects", "bare zygote"})
_COLOURS: Final = {
    "the engine": "#0b7a5b",
    "the floor: nothing but pipes and JSON": "#9aa3ad",
    "another Python than the caller's": "#5b7fb5",
    "the caller's own Python alone": "#c2cfe3",
}
_ENGINE_KIND, _FLOOR_KIND, _ANOTHER_KIND, _SAME_KIND = _COLOURS
_INK: Final = "#24292f"
_PAPER: Final = "#ffffff"
"""A ground of its own: the same picture is read in a light and in a dark viewer."""

_ROOM_FOR_FIGURES: Final = 9.0
"""The scale ends so many times above the longest bar, where its figure stands."""


def draw(folder: Path = results_io.FOLDER) -> Path | None:
    """Draw the chart of the results in *folder* into it; None when they are not all there.

    Raises:
        ImportError: There is no matplotlib.
    """
    results = results_io.read_all(folder, QUESTIONS)
    if len(results) < len(QUESTIONS):
        return None
    import matplotlib as mpl  # noqa: PLC0415  # an extra, and slow to import

    mpl.use("svg")
    # Text as text, ids and date that do not change: a new chart differs in its figures alone.
    style = {"svg.fonttype": "none", "svg.hashsalt": "fgengine", "font.family": "sans-serif", "font.size": 10}
    with mpl.rc_context(style):
        return _draw([results[name] for name in QUESTIONS], folder / NAME)


def _draw(results: list[Mapping[str, Any]], path: Path) -> Path:
    from matplotlib.figure import Figure  # noqa: PLC0415  # as above
    from matplotlib.patches import Patch  # noqa: PLC0415  # as above

    figure = Figure(figsize=(8.6, 8.4), facecolor=_PAPER, layout="constrained")
    panels = figure.subplots(
        len(results), 1, gridspec_kw={"height_ratios": [len(own_python_rows(each)) for each in results]}
    )
    for panel, result, title in zip(panels, results, _TITLES, strict=True):
        _panel(panel, result, title)
    figure.legend(
        handles=[Patch(color=colour, label=kind) for kind, colour in _COLOURS.items()],
        loc="outside upper center",
        ncols=2,
        frameon=False,
        fontsize=9,
        labelcolor=_INK,
    )
    note = "A quick run, not to quote. " if any(each["quick"] for each in results) else ""
    figure.supxlabel(
        f"{note}Medians, pinned to one CPU, Python {results[0]['machine']['host_python']}; scales are logarithmic.",
        fontsize=9,
        color=_INK,
    )
    figure.savefig(path, format="svg", facecolor=_PAPER, metadata={"Date": None})
    # matplotlib leaves blanks at the ends of lines.
    text = "\n".join(line.rstrip() for line in path.read_text(encoding="utf-8").splitlines())
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _panel(panel: Any, result: Mapping[str, Any], title: str) -> None:
    """A bar for each contender, the shortest at the top."""
    rows = sorted(own_python_rows(result).values(), key=lambda row: row["p50"])
    names = [row["contender"] for row in rows]
    values = [row["p50"] for row in rows]
    panel.barh(names, values, color=[_COLOURS[kind_of(name, result["notes"])] for name in names], height=0.7)
    panel.set_xscale("log")
    panel.set_xlim(min(values) / 2, max(values) * _ROOM_FOR_FIGURES)
    panel.invert_yaxis()
    panel.set_title(title, loc="left", fontweight="bold", color=_INK)
    panel.set_facecolor(_PAPER)
    panel.tick_params(axis="both", which="both", length=0, colors=_INK)
    panel.xaxis.set_major_formatter(lambda value, _: human(value, CALL).replace(".00", "").replace(".0", ""))
    panel.xaxis.grid(visible=True, color="#d0d7de", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[:].set_visible(False)
    base = result["base"]
    for place, (name, row) in enumerate(zip(names, rows, strict=True)):
        ratio = "" if name == base or row["ratio_to_base"] is None else f"  {row['ratio_to_base']:.2f} x {base}"
        panel.text(row["p50"] * 1.06, place, human(row["p50"], CALL) + ratio, va="center", fontsize=9, color=_INK)
    for label, name in zip(panel.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name.startswith("engine") else "normal")


def kind_of(contender: str, notes: Mapping[str, str]) -> str:
    """Whose bar it is: the engine's, the floor's, or that of a peer that can or cannot run another Python."""
    if contender.startswith("engine"):
        return _ENGINE_KIND
    if contender in _FLOOR:
        return _FLOOR_KIND
    return _ANOTHER_KIND if notes.get(contender) == ANOTHER else _SAME_KIND
