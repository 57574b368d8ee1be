"""The bill of real invocations: every started step counts, whatever the outcome."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from engine import Engine, Status

if TYPE_CHECKING:
    from engine import Summary
    from tests.conftest import FunctionMaker, Invoker

FAST = "def handler(event, context):\n    return 1\n"


def _assert_rounded_up(summary: Summary, step_ms: int = 1) -> None:
    """Not from duration_ms alone: its third decimal is rounded, the bill is made from nanoseconds."""
    assert 0 == summary.billed_duration_ms % step_ms
    assert summary.billed_duration_ms >= step_ms
    assert summary.billed_duration_ms - step_ms <= summary.duration_ms <= summary.billed_duration_ms


def test_bill_is_the_duration_rounded_up_to_a_millisecond(engine: Engine, make_function: FunctionMaker) -> None:
    """Cold or warm, fast or slow; durations have three decimals."""
    function = make_function("import time\n\ndef handler(event, context):\n    time.sleep(event)\n")
    for seconds in (0, 0, 0.0007, 0.0123, 0.02):
        summary = engine.invoke(function, seconds).summary

        _assert_rounded_up(summary)
        assert isinstance(summary.billed_duration_ms, int)
        assert round(summary.duration_ms, 3) == summary.duration_ms >= seconds * 1000


@pytest.mark.parametrize("step_ms", [1, 100, 1000])
def test_billing_step_is_the_engines_choice(make_function: FunctionMaker, step_ms: int) -> None:
    """The steps of older bills: 100 ms and a second."""
    function = make_function(FAST)
    with Engine(billing_step_ms=step_ms) as engine:
        _assert_rounded_up(engine.invoke(function, None).summary, step_ms)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("raise ValueError", Status.FUNCTION_ERROR),
        ("return {1}", Status.INVALID_RESULT),
        ("os._exit(1)", Status.EXITED),
        ("time.sleep(30)", Status.TIMEOUT),
    ],
)
def test_failures_are_billed_as_well(invoke: Invoker, body: str, status: Status) -> None:
    """Up to the moment they ended."""
    timeout_s = 0.1 if status is Status.TIMEOUT else 30.0
    result = invoke(f"import os, time\n\ndef handler(event, context):\n    {body}\n", timeout_s=timeout_s)

    assert status is result.status
    _assert_rounded_up(result.summary)


def test_loading_is_not_billed_and_initializing_is_billed_apart(engine: Engine, make_function: FunctionMaker) -> None:
    """A cold start tells its phases; a warm one has none."""
    function = make_function(
        """
        import time

        time.sleep(0.1)

        def initializer(context):
            time.sleep(0.1)

        def handler(event, context):
            return 1
        """,
        initializer="index.initializer",
    )
    began = time.monotonic()
    cold = engine.invoke(function, None).summary
    took_ms = (time.monotonic() - began) * 1000
    warm = engine.invoke(function, None).summary

    assert cold.load_duration_ms is not None
    assert cold.initializer_duration_ms is not None
    assert cold.initializer_billed_duration_ms is not None
    assert 100 <= cold.load_duration_ms
    assert 100 <= cold.initializer_duration_ms
    assert (
        cold.initializer_billed_duration_ms - 1 <= cold.initializer_duration_ms <= cold.initializer_billed_duration_ms
    )
    assert cold.load_duration_ms + cold.initializer_duration_ms + cold.duration_ms <= took_ms
    _assert_rounded_up(cold)
    phases = (warm.load_duration_ms, warm.initializer_duration_ms, warm.initializer_billed_duration_ms)
    assert (None, None, None) == phases


def test_without_an_initializer_there_is_no_initializer_bill(invoke: Invoker) -> None:
    """None, not zero: nothing ran."""
    summary = invoke(FAST).summary

    assert summary.load_duration_ms is not None
    assert (None, None) == (summary.initializer_duration_ms, summary.initializer_billed_duration_ms)


def test_a_load_error_bills_no_handler_time_beyond_the_least(invoke: Invoker) -> None:
    """The handler never ran; what the engine charges for that is at most one step."""
    summary = invoke("import time\n\ntime.sleep(0.1)\nraise ValueError\n").summary

    assert summary.billed_duration_ms <= 1


def test_a_function_cannot_forge_its_duration(invoke: Invoker) -> None:
    """The clock is the engine's: patching every clock of the child changes nothing."""
    source = """
        import time

        sleep = time.sleep
        for name in ("time", "clock", "monotonic", "perf_counter", "monotonic_ns", "time_ns"):
            setattr(time, name, lambda: 0)

        def handler(event, context):
            sleep(0.05)
    """
    summary = invoke(source).summary

    assert summary.duration_ms >= 50
    assert summary.billed_duration_ms >= 50


def test_summary_reads_the_same_everywhere(invoke: Invoker) -> None:
    """to_dict() and render() carry the numbers of the summary."""
    result = invoke(FAST)
    summary, told, text = result.summary, result.to_dict()["summary"], result.render()

    assert summary.request_id == told["request_id"]
    assert (summary.duration_ms, summary.billed_duration_ms) == (told["duration_ms"], told["billed_duration_ms"])
    assert f"duration: {summary.duration_ms:.3f}ms, billing duration: {summary.billed_duration_ms}ms" in text
    assert f"memory used: {summary.memory_used_mb:.3f}MB, billing memory: 128MB" in text
