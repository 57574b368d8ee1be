"""The life of an instance as a table: every pair of a state and an event is either a row or our own bug."""

from __future__ import annotations

import itertools

import pytest

from engine.errors import IllegalTransitionError
from engine.lifecycle import TRANSITIONS, Event, State, next_state

LEGAL = {
    (State.STARTING, Event.READY): State.IDLE,
    (State.STARTING, Event.KILL): State.DOOMED,
    (State.STARTING, Event.EXIT): State.REAPED,
    (State.IDLE, Event.INVOKE): State.BUSY,
    (State.IDLE, Event.KILL): State.DOOMED,
    (State.IDLE, Event.EXIT): State.REAPED,
    (State.BUSY, Event.REPLY): State.IDLE,
    (State.BUSY, Event.KILL): State.DOOMED,
    (State.BUSY, Event.EXIT): State.REAPED,
    (State.DOOMED, Event.REPLY): State.DOOMED,
    (State.DOOMED, Event.KILL): State.DOOMED,
    (State.DOOMED, Event.EXIT): State.REAPED,
}
"""Written out once more on purpose: a row that is added or lost by mistake shows."""

PAIRS = list(itertools.product(State, Event))


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=[f"{state.value}-{event.value}" for state, event in PAIRS])
def test_every_pair_leads_where_it_should_or_is_refused(state: State, event: Event) -> None:
    """A legal event moves; any other one is an IllegalTransitionError that names both."""
    expected = LEGAL.get((state, event))
    if expected is not None:
        assert expected is next_state(state, event)
    else:
        with pytest.raises(IllegalTransitionError, match=f"'{event.value}' is not legal in state '{state.value}'"):
            next_state(state, event)


def test_every_life_can_end() -> None:
    """From each state a kill and an exit lead to REAPED, which nothing leaves."""
    for state in set(State) - {State.REAPED}:
        assert State.REAPED is next_state(next_state(state, Event.KILL), Event.EXIT)

    assert {} == TRANSITIONS[State.REAPED]


def test_doomed_instance_never_serves_again() -> None:
    """No event leads from DOOMED back to a state that an invocation could start from."""
    assert {State.DOOMED, State.REAPED} == set(TRANSITIONS[State.DOOMED].values())


def test_table_cannot_be_changed() -> None:
    """Nobody adds a row at run time."""
    with pytest.raises(TypeError):
        TRANSITIONS[State.REAPED] = {}  # type: ignore[index]  # what is tested


def test_every_state_is_in_the_table() -> None:
    """A new state without a row of its own would be a KeyError of another kind."""
    assert set(State) == set(TRANSITIONS)
