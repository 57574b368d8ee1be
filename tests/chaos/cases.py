"""The plan of a storm: which invocations there are, in which order, and what may come of each.

A plan is made of a seed alone, before anything runs: the same seed gives the same invocations in the same order.
How the threads interleave is the scheduler's and differs from run to run; what is true of each result does not.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from engine import Function
from tests.chaos.kinds import KINDS, Texts, leave_helpers

RUNTIMES: Final = ("python2.7", "python3.6", "python3.9")

CODE: Final = Path(__file__).resolve().parents[1] / "handlers" / "chaos.py"

_FAMILIES: Final[Mapping[str, Mapping[str, Any]]] = {
    # What a kind can do to the instance that serves the next one decides which function it belongs to.
    "calm": {"timeout_s": 30.0, "initializer": "chaos.initializer"},
    "brief20": {"timeout_s": 0.02},
    "brief50": {"timeout_s": 0.05},
    "brief100": {"timeout_s": 0.1},
    "small": {"timeout_s": 30.0, "memory_mb": 64},
    "tiny_disk": {"timeout_s": 30.0, "tmp_mb": 1},
    "few_processes": {"timeout_s": 30.0, "max_processes": 16},
    "hostile": {"timeout_s": 2.0},
    "hostile_brief": {"timeout_s": 0.1},
    "hostile_later": {"timeout_s": 1.0},
    "forger": {"timeout_s": 2.0},
    "target": {"timeout_s": 1.0, "isolation": "process"},
    "load_raise": {"user_data": {"CHAOS_LOAD": "raise"}},
    "load_sys.exit": {"user_data": {"CHAOS_LOAD": "sys.exit"}},
    "load_exit": {"user_data": {"CHAOS_LOAD": "exit"}},
    "load_hang": {"user_data": {"CHAOS_LOAD": "hang"}, "load_timeout_s": 0.1},
    "initializer_raise": {"user_data": {"CHAOS_INITIALIZER": "raise"}, "initializer": "chaos.initializer"},
    "initializer_exit": {"user_data": {"CHAOS_INITIALIZER": "exit"}, "initializer": "chaos.initializer"},
    "initializer_hang": {
        "user_data": {"CHAOS_INITIALIZER": "hang"},
        "initializer": "chaos.initializer",
        "initializer_timeout_s": 0.05,
    },
}


@dataclass(frozen=True)
class Case:
    """One invocation of the plan, or one map, and what may come of it.

    Attributes:
        number: Its place in the plan.
        kind: What it does, in a word.
        function: What serves it.
        event: The event, see make_event().
        allowed: How it may end.
        value: What it returns on success; a large one is a callable that makes it.
        least_ms: It takes at least this long on success.
        least_mb: It needs at least this much memory on success.
        printed_bytes: How much it prints on success apart from its two marks; None for what is not known.
        marks_end: Whether its log ends with its mark on success.
        signals: What it is struck with from outside, at ``strike_after_s`` from its report.
        before: What happens first: ``reopen`` the engine, ``release_idle``, or ``strike`` whoever reported last.
        request_id: Its id; None to have the engine make one.
        is_timeline_wanted: Whether it asks for a timeline.
        copies: How often a map has it, one behind the other; 0 for a single call.
        taken: How many results of the map are taken before it is left.
    """

    number: int
    kind: str
    function: Function
    event: Mapping[str, Any]
    allowed: Texts
    value: Any = None
    least_ms: float = 0.0
    least_mb: float = 0.0
    printed_bytes: int | None = 0
    marks_end: bool = True
    signals: tuple[str, ...] = ()
    strike_after_s: float = 0.0
    before: str = ""
    request_id: str | None = None
    is_timeline_wanted: bool = False
    copies: int = 0
    taken: int = 0

    @property
    def nonce(self) -> str:
        """What only this invocation knows."""
        return str(self.event["nonce"])

    def make_event(self) -> dict[str, Any]:
        """Return the event; a large value in it is a callable until now."""
        value = self.event.get("value")
        return {**self.event, **({"value": value()} if callable(value) else {})}


_DEADLY: Final = frozenset(("exit_now", "abort", "hang", "struck", "attack_and_hang", "forge_own"))
"""Kinds that leave helpers behind at times, for their end to take along."""

_UNMAPPED: Final = frozenset(("hostile", "hostile_brief", "hostile_later", "forger", "target"))
"""Families that steal tokens, which may move output and time among the events of one map, or are struck by pid."""


def plan(seed: int, invocations: int, runtimes: tuple[str, ...] = RUNTIMES) -> list[Case]:
    """Return the invocations of *seed*, in the order in which they are begun."""
    numbers = random.Random(seed)
    functions = {
        (family, runtime): Function(code=CODE, handler="chaos.handler", runtime=runtime, name=family, **description)
        for family, description in _FAMILIES.items()
        for runtime in runtimes
    }
    names, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
    cases = []
    for number in range(invocations):
        kind = numbers.choices(names, weights)[0]
        draft = KINDS[kind][1](numbers)
        if kind in _DEADLY and numbers.random() < 0.3:
            draft.event["helpers"] = leave_helpers(numbers)
            draft.more["printed_bytes"] = None
        nonce = f"n{number}x{numbers.randrange(16**8):08x}"
        case = Case(
            number=number,
            kind=kind,
            function=functions[draft.family, numbers.choice(runtimes)],
            event={**draft.event, "do": draft.do, "nonce": nonce},
            allowed=draft.allowed,
            request_id=numbers.choice((None, f"request-{nonce}")),
            is_timeline_wanted=numbers.random() < 0.1,
            **draft.more,
        )
        if not case.before:
            case = replace(case, before=numbers.choices(("", "release_idle", "reopen"), (97, 1.5, 1.5))[0])
        if case.function.name not in _UNMAPPED and numbers.random() < 0.1:
            copies = numbers.randrange(2, 12)
            taken = numbers.choice((copies, numbers.randrange(1, copies)))
            case = replace(case, copies=copies, taken=taken, request_id=None, is_timeline_wanted=False)
        cases.append(case)
    return cases
