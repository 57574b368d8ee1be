"""Time is integer nanoseconds of a clock that a child reads as the same number."""

from __future__ import annotations

import subprocess

import pytest

from engine import Engine
from engine.clock import monotonic_ns, ms_from_ns, ns_from_seconds
from engine.model import MAX_SECONDS


@pytest.mark.parametrize(
    ("seconds", "expected_ns"),
    [
        (3, 3_000_000_000),
        (3.0, 3_000_000_000),
        (0.001, 1_000_000),
        (0.3, 300_000_000),
        (0.1 + 0.2, 300_000_000),
        (1e-9, 1),
        (1.005, 1_005_000_000),
        (MAX_SECONDS, 604_800_000_000_000),
        (604_799.999_999_9, 604_799_999_999_900),
    ],
)
def test_seconds_become_the_nearest_whole_nanoseconds(seconds: float, expected_ns: int) -> None:
    """An int, without the float's last bits: a limit of 0.3 s is 300 ms."""
    found = ns_from_seconds(seconds)

    assert (expected_ns, int) == (found, type(found))


@pytest.mark.parametrize(
    ("duration_ns", "expected_ms"),
    [(0, 0.0), (1, 0.0), (499, 0.0), (1_500, 0.002), (65_828_412, 65.828), (10**12, 1e6)],
)
def test_milliseconds_have_three_decimals(duration_ns: int, expected_ms: float) -> None:
    """As the platform prints them."""
    assert expected_ms == ms_from_ns(duration_ns)


def test_child_reads_the_same_clock(engine: Engine, runtime: str) -> None:
    """A deadline travels as a number: what a child reads lies between two readings here, on 2.7 too."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from sandbox.compat import monotonic_ns; print(monotonic_ns())"
    )
    root = __file__.rsplit("/", 2)[0]
    executable = engine.runtimes.find(runtime).executable
    before = monotonic_ns()
    told = int(subprocess.check_output([executable, "-B", "-c", program, root]))

    # A float of seconds, which 3.x's older versions have, is exact to a microsecond.
    assert before - 1_000 <= told <= monotonic_ns() + 1_000
