"""One question's figures as JSON: what everything that is shown is made of."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import ROOT, Question, Skipped
from benchmarks.stats import Row

SCHEMA: Final = 2
"""Raised when a reader of results/*.json would have to change."""

FOLDER: Final = ROOT / "benchmarks" / "results"
QUICK_FOLDER: Final = FOLDER / "quick"
"""Not under version control: figures of --quick never take the place of figures that may be quoted."""

_PATH: Final = re.compile(r"(?<![\w.])(?:/[\w.+@-]+)+/([\w.+@-]+)")
"""An absolute path of two parts or more."""


def to_json(
    question: Question, rows: Sequence[Row], skipped: Sequence[Skipped], *, machine: Mapping[str, Any], quick: bool
) -> dict[str, Any]:
    """Everything about one question's run as JSON-ready values, without a word about where on a disk it ran."""
    effort = question.quick if quick else question.full
    return {
        "schema": SCHEMA,
        "question": question.name,
        "title": question.title,
        "quick": quick,
        "base": question.base,
        "effort": {"rounds": effort.rounds, "calls": effort.calls, "warm_up": effort.warm_up},
        "machine": dict(machine),
        "note_title": question.note_title,
        "notes": dict(question.notes),
        "rows": [row.to_dict() for row in rows],
        "skipped": skipped_json(skipped),
    }


def skipped_json(skipped: Iterable[Skipped]) -> list[dict[str, Any]]:
    """Who was not measured where, and why."""
    return [
        {
            "contender": each.contender,
            "runtime": each.setting.runtime,
            "pinned": each.setting.pinned,
            "variant": each.setting.variant,
            "reason": scrubbed(each.reason),
            "failed": each.failed,
        }
        for each in skipped
    ]


def scrubbed(text: str) -> str:
    """*text* without this machine's name, and with the last part of each path in the place of the path."""
    return _PATH.sub(r"\1", text).replace(os.uname().nodename, "localhost")


def write(result: Mapping[str, Any], folder: Path) -> Path:
    """Write *result* to the folder under its question's name, and return where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['question']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def read_all(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The results of those questions that were asked, by name; what an older version wrote is left out."""
    paths = {name: folder / f"{name}.json" for name in names}
    found = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}
    return {name: result for name, result in found.items() if result["schema"] == SCHEMA}
