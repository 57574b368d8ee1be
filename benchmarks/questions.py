"""Which questions there are, in the order in which they are asked."""

from __future__ import annotations

import importlib
from typing import Final

from benchmarks.harness import Question

NAMES: Final = (
    "warm_invoke",
    "cold_start",
    "peers_warm",
    "peers_cold",
    "preload",
    "container_start",
    "deadline",
    "throughput",
    "large_payload",
    "log_volume",
    "import_time",
    "first_invoke",
    "many_instances",
)


def load(name: str) -> Question:
    """Import the question of that name; a measurement pays for no other."""
    question: Question = importlib.import_module(f"benchmarks.{name}").QUESTION
    return question
