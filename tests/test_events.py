"""What the engine tells a log, and to whom: nobody, unless the host asked for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from structlog.testing import CapturingLogger

from engine.events import EventLog
from engine.instance import Instance
from engine.model import Credentials, Function, Status, Summary
from engine.result import Result

SECRET = "not for any log"


@dataclass
class FakeInstance:
    """What an event tells of an instance."""

    function: Function
    pid: int = 42


@dataclass
class Logger:
    """A structlog logger, as far as the engine uses one."""

    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def info(self, event: str, **values: object) -> None:
        self.told.append((event, values))


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    function = Function(
        code=tmp_path,
        handler="index.handler",
        runtime="python3.9",
        name="shop",
        user_data={"PASSWORD": SECRET},
        credentials=Credentials(secret_key=SECRET),
    )
    return cast("Instance", FakeInstance(function))


@pytest.fixture
def result() -> Result:
    summary = Summary(
        request_id="r",
        memory_size_mb=128,
        duration_ms=2.5,
        memory_used_mb=10.25,
        billed_duration_ms=3,
        load_duration_ms=4.5,
        initializer_duration_ms=5.5,
        initializer_billed_duration_ms=6,
    )
    return Result(status=Status.SUCCESS, summary=summary, cold_start=True, log=SECRET, body_bytes=SECRET.encode())


@pytest.fixture
def configured() -> Iterator[CapturingLogger]:
    """structlog as a host may have set it up."""
    target = CapturingLogger()
    structlog.configure(processors=[], logger_factory=lambda *arguments: target)
    yield target
    structlog.reset_defaults()


def tell_everything(events: EventLog, instance: Instance, result: Result) -> None:
    events.instance_started(instance, "r")
    events.invocation_finished(instance, result)
    events.instance_killed(instance, "idle")


def test_nothing_is_printed_unless_it_is_asked_for(
    instance: Instance, result: Result, capfd: pytest.CaptureFixture[str]
) -> None:
    """structlog prints to stdout as long as nobody has configured it: that must not be us."""
    assert not structlog.is_configured()
    tell_everything(EventLog(), instance, result)

    assert ("", "") == capfd.readouterr()


def test_structlog_is_not_imported_for_a_host_that_did_not(
    instance: Instance, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its import costs more than all the rest of the engine's."""
    monkeypatch.delitem(sys.modules, "structlog")
    tell_everything(EventLog(), instance, result)

    assert "structlog" not in sys.modules


def test_configured_structlog_gets_the_events(instance: Instance, result: Result, configured: CapturingLogger) -> None:
    """A host that uses structlog has them among its own, also when it was configured after the engine was made."""
    tell_everything(EventLog(), instance, result)

    assert ["info"] * 3 == [call.method_name for call in configured.calls]
    assert ["instance_started", "invocation_finished", "instance_killed"] == [
        call.kwargs["event"] for call in configured.calls
    ]


def test_logger_of_the_host_comes_first(instance: Instance, result: Result, configured: CapturingLogger) -> None:
    """Who passes one gets the events there, and nowhere else."""
    logger = Logger()
    tell_everything(EventLog(logger), instance, result)

    assert ([], 3) == (configured.calls, len(logger.told))


def test_events_carry_what_can_be_counted_and_no_more(instance: Instance, result: Result) -> None:
    """No log, no return value, no user data, no credentials."""
    logger = Logger()
    tell_everything(EventLog(logger), instance, result)
    who = {"function": "shop", "runtime": "python3.9", "pid": 42}

    assert [
        ("instance_started", {**who, "request_id": "r"}),
        (
            "invocation_finished",
            {
                **who,
                "request_id": "r",
                "status": "success",
                "cold_start": True,
                "duration_ms": 2.5,
                "billed_duration_ms": 3,
                "load_duration_ms": 4.5,
                "initializer_duration_ms": 5.5,
                "memory_size_mb": 128,
                "memory_used_mb": 10.25,
            },
        ),
        ("instance_killed", {**who, "reason": "idle", "request_id": None}),
    ] == logger.told
    assert SECRET not in repr(logger.told)
