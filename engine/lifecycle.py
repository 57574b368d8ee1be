"""The life of an instance as a table: every legal move is a row, and nothing else assigns a state."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from engine.errors import IllegalTransitionError


class State(enum.Enum):
    """Where an instance is in its life."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    DOOMED = "doomed"
    REAPED = "reaped"

    # Identity, at C speed: a Python-level Enum.__hash__ would be a tenth of a warm invocation's table look-up.
    __hash__ = object.__hash__


class Event(enum.Enum):
    """What can happen to it."""

    READY = "ready"
    INVOKE = "invoke"
    REPLY = "reply"
    KILL = "kill"
    EXIT = "exit"

    __hash__ = object.__hash__


TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = MappingProxyType(
    {
        State.STARTING: {Event.READY: State.IDLE, Event.KILL: State.DOOMED, Event.EXIT: State.REAPED},
        State.IDLE: {Event.INVOKE: State.BUSY, Event.KILL: State.DOOMED, Event.EXIT: State.REAPED},
        State.BUSY: {Event.REPLY: State.IDLE, Event.KILL: State.DOOMED, Event.EXIT: State.REAPED},
        # A reply can race with our SIGKILL. The deadline already won: drop it.
        State.DOOMED: {Event.REPLY: State.DOOMED, Event.KILL: State.DOOMED, Event.EXIT: State.REAPED},
        State.REAPED: {},
    }
)


def next_state(state: State, event: Event) -> State:
    """Return where *event* leads from *state*.

    Raises:
        IllegalTransitionError: The table has no such row.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransitionError(f"event {event.value!r} is not legal in state {state.value!r}") from None
