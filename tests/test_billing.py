"""The bill: whole steps, a started step counts, and no float is anywhere near it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.billing import billed_duration_ms
from engine.clock import NS_PER_MS, NS_PER_S, NS_PER_US


@pytest.mark.parametrize(
    ("duration_ns", "billed_ms"),
    [
        (0, 1),
        (1, 1),
        (500 * NS_PER_US, 1),
        (NS_PER_MS - 1, 1),
        (NS_PER_MS, 1),
        (NS_PER_MS + 1, 2),
        (65_828_000, 66),
        (85_482_000, 86),
        (2_049_000, 3),
        (3 * NS_PER_S, 3000),
        (3 * NS_PER_S + 1, 3001),
    ],
)
def test_duration_is_rounded_up_to_whole_milliseconds(duration_ns: int, billed_ms: int) -> None:
    """A started millisecond is a billed one, and no invocation is free; with figures from the platform's own logs."""
    assert billed_ms == billed_duration_ms(duration_ns)


@pytest.mark.parametrize(
    ("duration_ms", "step_ms", "billed_ms"),
    [(0, 100, 100), (1, 100, 100), (100, 100, 100), (101, 100, 200), (1031, 100, 1100), (1, 1000, 1000)],
)
def test_larger_steps_reproduce_older_bills(duration_ms: int, step_ms: int, billed_ms: int) -> None:
    """100 ms, and a second before that."""
    assert billed_ms == billed_duration_ms(duration_ms * NS_PER_MS, granularity_ms=step_ms)


@given(whole_ms=st.integers(min_value=1, max_value=10**15))
def test_whole_milliseconds_are_billed_as_they_are(whole_ms: int) -> None:
    """Float seconds would round about half of them one step too far."""
    assert whole_ms == billed_duration_ms(whole_ms * NS_PER_MS)


@given(duration_ns=st.integers(min_value=1, max_value=10**18), step_ms=st.sampled_from([1, 100, 1000]))
def test_bill_is_the_smallest_number_of_steps_that_covers_the_duration(duration_ns: int, step_ms: int) -> None:
    """Less than one step too much, and never too little."""
    billed_ms = billed_duration_ms(duration_ns, granularity_ms=step_ms)

    assert 0 == billed_ms % step_ms
    assert (billed_ms - step_ms) * NS_PER_MS < duration_ns <= billed_ms * NS_PER_MS


@pytest.mark.parametrize(("duration_ns", "step_ms"), [(-1, 1), (1, 0), (1, -100)])
def test_what_cannot_be_a_duration_or_a_step_is_refused(duration_ns: int, step_ms: int) -> None:
    """A clock that ran backwards would be our own bug: told, and not billed."""
    with pytest.raises(ValueError, match=r"must (not be negative|be at least 1)"):
        billed_duration_ms(duration_ns, granularity_ms=step_ms)
