"""structlog events: one for each invocation, start and kill, and silence unless the host asked for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from engine import Engine, Status

if TYPE_CHECKING:
    from tests.conftest import FunctionMaker

SOURCE = """
    import os
    import time

    def handler(event, context):
        if event == "fail":
            raise ValueError("no")
        if event == "hang":
            time.sleep(30)
        if event == "exit":
            os._exit(3)
        return 1
"""


@pytest.fixture
def events() -> list[dict[str, Any]]:
    """What the engine of the test has said, oldest first."""
    return []


@pytest.fixture
def telling_engine(events: list[dict[str, Any]]) -> Iterator[Engine]:
    """An engine whose events land in *events*."""

    def keep(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        events.append(dict(event))
        raise structlog.DropEvent

    with Engine(logger=structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[keep])) as engine:
        yield engine


def _named(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == name]


def test_each_invocation_tells_how_it_finished(
    telling_engine: Engine, events: list[dict[str, Any]], make_function: FunctionMaker, runtime: str
) -> None:
    """One event with what a dashboard needs, success or not."""
    function = make_function(SOURCE, name="shop")
    results = [telling_engine.invoke(function, event) for event in (None, "fail", None)]
    told = _named(events, "invocation_finished")

    assert 3 == len(told)
    for result, event in zip(results, told, strict=True):
        expected = {
            "request_id": result.summary.request_id,
            "function": "shop",
            "runtime": runtime,
            "status": result.status.value,
            "cold_start": result.cold_start,
            "duration_ms": result.summary.duration_ms,
            "billed_duration_ms": result.summary.billed_duration_ms,
            "memory_used_mb": result.summary.memory_used_mb,
        }
        assert expected == {key: event.get(key) for key in expected}


def test_start_of_an_instance_is_told_once(
    telling_engine: Engine, events: list[dict[str, Any]], make_function: FunctionMaker
) -> None:
    """A warm start starts nothing."""
    function = make_function(SOURCE, name="shop")
    for _ in range(3):
        telling_engine.invoke(function, None)

    assert ["shop"] == [event["function"] for event in _named(events, "instance_started")]


def test_end_of_an_instance_is_told_with_its_reason(
    telling_engine: Engine, events: list[dict[str, Any]], make_function: FunctionMaker
) -> None:
    """Why an instance is no more is known at that moment, and told then."""
    function = make_function(SOURCE)
    exited = telling_engine.invoke(function, "exit")
    hung = telling_engine.invoke(dataclasses.replace(function, timeout_s=0.1), "hang")
    telling_engine.invoke(function, None)
    telling_engine.close()

    assert (Status.EXITED, Status.TIMEOUT) == (exited.status, hung.status)
    assert ["exited", "timeout", "closed"] == [event["reason"] for event in _named(events, "instance_killed")]


def test_engine_is_silent_by_default(
    engine: Engine, make_function: FunctionMaker, capfd: pytest.CaptureFixture[str]
) -> None:
    """A library does not print: not its events, and not what the function wrote."""
    function = make_function(SOURCE + "\n    print('only in the log')\n", timeout_s=0.1)
    for event in (None, "fail", "hang", "exit"):
        engine.invoke(function, event)

    assert ("", "") == capfd.readouterr()
