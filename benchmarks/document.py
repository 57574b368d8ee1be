"""Pastes the figures of results/*.json into the documents, between markers, so that nothing is typed by hand.

A block begins with ``<!-- figures: NAME -->`` and ends with ``<!-- end of figures -->``. NAME is a question, or one of
``targets`` (every promise in a line) and ``peers`` (warm and cold beside the other tools).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import questions, results_io
from benchmarks.harness import CALL, ROOT
from benchmarks.lines import human, lines_of, missing_lines

DOCUMENTS: Final = (ROOT / "docs" / "performance.md", ROOT / "README.md")

_BLOCK: Final = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_NOTHING: Final = "No figures yet: `make bench` writes them.\n"

Results = Mapping[str, Mapping[str, Any]]


def render(folder: Path = results_io.FOLDER, documents: Iterable[Path] = DOCUMENTS) -> list[Path]:
    """Put the figures of *folder* into the *documents*, and return those that it changed."""
    results = results_io.read_all(folder, questions.NAMES)
    changed = []
    for path in documents:
        before = path.read_text(encoding="utf-8")
        after = filled(before, results)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed


def filled(text: str, results: Results) -> str:
    """*text* with every block made anew of *results*."""
    return _BLOCK.sub(lambda found: found[1] + _block(found[2], results) + found[3], text)


def _block(name: str, results: Results) -> str:
    if name == "targets":
        return _targets(results)
    if name == "peers":
        return _peers(results)
    return _question(results[name]) if name in results else _NOTHING


def _question(result: Mapping[str, Any]) -> str:
    """The table of one question, where it was measured, and who is missing."""
    lines = lines_of(result)
    has_promises = any(line.promises for line in lines)
    heads = ["setting", "what", *([result["note_title"]] if result["note_title"] else []), "p50", "p99"]
    heads += [f"times {result['base']}"] if result["base"] else []
    heads += ["target", "measured"] if has_promises else []
    rows = []
    for line in lines:
        cells = [line.setting, line.what, *([line.note] if result["note_title"] else []), line.p50, line.p99]
        cells += [line.ratio] if result["base"] else []
        if has_promises:
            cells += ["<br>".join(_plain(promise.target) for promise in line.promises)]
            cells += ["<br>".join(_marked(promise.measured, met=promise.met) for promise in line.promises)]
        rows.append(cells)
    parts = ["\n".join(_table(heads, rows)), _origin(result)]
    missing = [f"- {_plain(line)}" for line in missing_lines(result["skipped"])]
    return "\n\n".join([*parts, *(["\n".join(missing)] if missing else [])]) + "\n"


def _targets(results: Results) -> str:
    """Every promise in a line, in the order of the questions."""
    rows = [
        [f"`{name}`", line.setting, line.what, *promise]
        for name, result in results.items()
        for line in lines_of(result)
        for promise in ((_plain(each.target), _marked(each.measured, met=each.met)) for each in line.promises)
    ]
    if not rows:
        return _NOTHING
    return "\n".join(_table(["question", "setting", "what", "target", "measured"], rows)) + "\n"


def _peers(results: Results) -> str:
    """Warm and cold in one table, pinned, on the Python that all of them can run; the fastest warm call first."""
    if "peers_warm" not in results or "peers_cold" not in results:
        return _NOTHING
    warm, cold = results["peers_warm"], results["peers_cold"]
    warm_rows, cold_rows = own_python_rows(warm), own_python_rows(cold)
    # The engine as it comes is one line, though its starts are told apart where there is more than one way.
    cold_rows = {warm["base"] if name == cold["base"] else name: row for name, row in cold_rows.items()}
    notes = {**warm["notes"], **cold["notes"]}
    names = sorted(
        dict.fromkeys([*warm_rows, *cold_rows]),
        key=lambda name: (name not in warm_rows, (warm_rows.get(name) or cold_rows[name])["p50"]),
    )
    rows = []
    for name in names:
        cells = [f"**{name}**" if name.startswith("engine") else name, notes.get(name, "")]
        for found in (warm_rows.get(name), cold_rows.get(name)):
            cells += [human(found["p50"], CALL), f"{found['ratio_to_base']:.2f}"] if found else ["", ""]
        rows.append(cells)
    heads = ["", warm["note_title"], "warm call", f"times {warm['base']}", "first reply", f"times {warm['base']}"]
    return "\n".join(_table(heads, rows)) + "\n\n" + _origin(warm) + "\n"


def own_python_rows(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The rows of *result* that were measured pinned on the benchmarks' own Python, by contender."""
    major_minor = result["machine"]["host_python"].rpartition(".")[0]
    return {
        row["contender"]: row
        for row in result["rows"]
        if row["runtime"] == f"python{major_minor}" and row["pinned"] and row["metric"] == CALL
    }


def _origin(result: Mapping[str, Any]) -> str:
    """Where and when it was measured, and whether it may be quoted."""
    machine, effort = result["machine"], result["effort"]
    load = machine["load_average"][0]
    text = (
        f"{machine['date'][:10]}, {machine['cpu']}, {machine['cpus_allowed']} CPUs, {machine['kernel']}, "
        f"load {load:.1f} before; rounds: {effort['rounds']}, calls in each: {effort['calls']}."
    )
    return f"**A quick run, not to quote.** {text}" if result["quick"] else text


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def _plain(text: str) -> str:
    """Signs that Markdown would take for a tag or for a cell."""
    return text.replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|")


def _marked(measured: str, *, met: bool) -> str:
    return measured if met else f"**{measured}**"
