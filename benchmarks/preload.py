"""What does a function with slow imports gain by having them preloaded?"""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.engines import EngineCold
from benchmarks.harness import Effort, Job, Question
from benchmarks.references import PlainSubprocess
from benchmarks.starts import time_starts

_STDLIB: Final = "standard library"
_NUMPY: Final = "numpy"

_FUNCTIONS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    _STDLIB: (
        "libraries",
        ("decimal", "email.message", "json", "logging.handlers", "sqlite3", "unittest", "xml.dom.minidom"),
    ),
    _NUMPY: ("numeric", ("numpy",)),
}
"""For each variant, the module of the function, and what it imports."""


def _missing(job: Job) -> str | None:
    """Which of the variant's modules the interpreter does not have."""
    modules = ", ".join(_FUNCTIONS[job.setting.variant][1])
    ran = subprocess.run(
        [job.python, "-c", f"import {modules}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    return ran.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] or None


def _of_variant(job: Job) -> Job:
    """The same job, on the variant's function."""
    return dataclasses.replace(job, module=_FUNCTIONS[job.setting.variant][0])


class Importing(PlainSubprocess):
    """``subprocess.run`` of the variant's function."""

    def unavailable(self, job: Job) -> str | None:
        return _missing(job)

    def start(self, job: Job, event: Any) -> None:
        super().start(_of_variant(job), event)


class EngineImporting(EngineCold):
    """Cold starts of the variant's function, with its imports preloaded or not."""

    def __init__(self, name: str, *, is_preloaded: bool) -> None:
        super().__init__("fork", name=name)
        self._is_preloaded = is_preloaded

    def unavailable(self, job: Job) -> str | None:
        return super().unavailable(job) or _missing(job)

    def start(self, job: Job, event: Any) -> None:
        if self._is_preloaded:
            self._fields = {"preload": _FUNCTIONS[job.setting.variant][1]}
        super().start(_of_variant(job), event)


_PLAIN_ENGINE: Final = "engine, fork"

QUESTION: Final = Question(
    name="preload",
    title="Cold start of a function with slow imports",
    contenders=(
        Importing(),
        EngineImporting(_PLAIN_ENGINE, is_preloaded=False),
        EngineImporting("engine, fork, preloaded", is_preloaded=True),
    ),
    base=_PLAIN_ENGINE,
    variants=(_STDLIB, _NUMPY),
    pinnings=(True,),
    with_host=True,
    full=Effort(rounds=2, calls=6, warm_up=1),
    quick=Effort(rounds=1, calls=3, warm_up=1),
    quick_variants=(_STDLIB,),
    measure=time_starts,
)
