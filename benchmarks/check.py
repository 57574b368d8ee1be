"""A check against regressions: the engine's ratios, beside those that were recorded in bounds.json.

Only ratios, never times. Of a round of warm calls the fastest tenth instead of the median: other work on the machine
makes calls slower and never faster, so the fast ones say what the code costs. A cold start waits for other processes
in any case, and its median is steadier: 2.5 to 3.1 in nine runs at a load of 5 to 18, its fastest tenth 3.1 to 4.3.
It is that of an engine that starts nothing ahead: one that does is as fast as the time between two calls allows, and
its ratio has two values. The median over the rounds then leaves out the round in which one side had a busier machine.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import CALL, ROOT, Effort, Question
from benchmarks.stats import Measurement, collect, ratio

BOUNDS: Final = ROOT / "benchmarks" / "bounds.json"
_PERCENT: Final = {"warm_invoke": 10, "cold_start": 50}

_EFFORT: Final = {
    "warm_invoke": Effort(rounds=7, calls=400, warm_up=100),
    "cold_start": Effort(rounds=7, calls=20, warm_up=2),
}
_SIDES: Final = {"warm_invoke": ("engine", "bare echo"), "cold_start": ("engine, fork, none ahead", "bare zygote")}
NAMES: Final = tuple(_SIDES)

Bounds = Mapping[str, Mapping[str, float]]
"""Recorded ratios by question and runtime."""


@dataclass(frozen=True)
class Finding:
    """One ratio, beside the recorded one; None for what could not be measured."""

    question: str
    runtime: str
    recorded: float
    measured: float | None

    def is_beyond(self, factor: float) -> bool:
        """Whether it is more than *factor* times what was recorded, or unknown."""
        return self.measured is None or self.measured > self.recorded * factor

    def __str__(self) -> str:
        engine, floor = _SIDES[self.question]
        found = "not measured" if self.measured is None else f"{self.measured:.2f}"
        return f"{self.question}, {self.runtime}: {engine} / {floor} is {found}, recorded {self.recorded:.2f}"


def narrowed(question: Question) -> Question:
    """*question* with the engine and its floor alone, pinned, and with the effort of a check."""
    return dataclasses.replace(
        question,
        contenders=[question.contender(name) for name in reversed(_SIDES[question.name])],
        pinnings=(True,),
        quick=_EFFORT[question.name],
        full=_EFFORT[question.name],
        targets=(),
    )


def ratios(name: str, measurements: Iterable[Measurement]) -> dict[str, float]:
    """The ratio of each runtime, of question *name*."""
    by_side = {(each.contender, each.setting): each for each in collect(measurements) if each.metric == CALL}
    engine, floor = _SIDES[name]
    found = {}
    for contender, setting in by_side:
        if contender == engine and (floor, setting) in by_side:
            value = ratio(by_side[engine, setting], by_side[floor, setting], _PERCENT[name])
            if value is not None:
                found[setting.runtime] = value
    return found


def findings(name: str, measured: Mapping[str, float], bounds: Bounds, runtimes: Iterable[str]) -> list[Finding]:
    """What was *measured* of question *name* beside what is recorded, for the *runtimes* that are installed."""
    recorded = bounds.get(name, {})
    return [
        Finding(name, runtime, recorded[runtime], measured.get(runtime)) for runtime in runtimes if runtime in recorded
    ]


def read_bounds(path: Path = BOUNDS) -> dict[str, Any]:
    """What is recorded."""
    bounds: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return bounds


def record(name: str, measured: Mapping[str, float], path: Path = BOUNDS) -> None:
    """Make what was *measured* of question *name* what later runs are compared with."""
    bounds = read_bounds(path) if path.exists() else {}
    bounds[name] = {**bounds.get(name, {}), **{runtime: round(value, 2) for runtime, value in measured.items()}}
    path.write_text(json.dumps(bounds, indent=1) + "\n", encoding="utf-8")
