"""Functions as people write them for FunctionGraph, with the events that its triggers send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Function, Status

HANDLERS = Path(__file__).parent / "handlers"


def _event(name: str) -> Any:
    return json.loads((HANDLERS / "events" / f"{name}.json").read_text(encoding="utf-8"))


def _function(module: str, runtime: str, **description: Any) -> Function:
    return Function(code=HANDLERS, handler=f"{module}.handler", runtime=runtime, **description)


@pytest.mark.parametrize("event", ["apig", "apig_base64"])
def test_apig_function_answers_with_status_headers_and_body(engine: Engine, runtime: str, event: str) -> None:
    """An HTTP answer is an ordinary JSON object, whether the body came as text or in base64."""
    result = engine.invoke(_function("apig", runtime, user_data={"GREETING": "hoi"}), _event(event))

    assert {
        "statusCode": 200,
        "isBase64Encoded": False,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps({"greeting": "hoi", "message": "hello, Zoë"}),
    } == result.value
    assert f"INFO POST {_event(event)['path']} for {_event(event)['requestContext']['requestId']}\n" in result.log


def test_apig_function_reports_a_bad_request_itself(engine: Engine, runtime: str) -> None:
    """A 400 is a success of the function: only the function knows what HTTP means."""
    result = engine.invoke(_function("apig", runtime), {**_event("apig"), "body": "{not json"})

    assert Status.SUCCESS is result.status
    assert 400 == result.value["statusCode"]
    assert " ERROR bad body: " in result.log


@pytest.mark.parametrize(
    ("event", "expected"),
    [("timer", {"action": "purge", "days": 30}), ("timer_text", {"action": "report", "days": 7})],
)
def test_timer_function_reads_its_user_event(engine: Engine, runtime: str, event: str, expected: Any) -> None:
    """user_event is text: JSON inside it is the function's own affair."""
    result = engine.invoke(_function("timer", runtime), _event(event))

    assert expected == result.value
    assert f"timer {_event(event)['trigger_name']} fired at {_event(event)['time']}\n" == result.log


def test_obs_function_walks_all_records(engine: Engine, runtime: str) -> None:
    """Both records arrive, in order, and a key beyond ASCII comes back whole."""
    result = engine.invoke(_function("obs", runtime), _event("obs_s3"))

    sizes = [record["size"] for record in result.value]
    assert [48213, 3072] == sizes
    assert "in/annual report(final).pdf" == result.value[0]["key"]
    assert "INFO ObjectCreated:Put: paperwork/in/annual report(final).pdf\n" in result.log


def test_obs_function_reads_the_obs_key_of_other_regions(engine: Engine, runtime: str) -> None:
    """The same function serves the regions that say obs instead of s3."""
    result = engine.invoke(_function("obs", runtime), _event("obs_native"))

    assert [{"bucket": "photos", "key": "photo.jpg", "size": 77120}] == result.value


def test_smn_function_reads_the_first_record(engine: Engine, runtime: str) -> None:
    """A text return comes back as that text."""
    result = engine.invoke(_function("smn", runtime), _event("smn"))

    assert "[ALARM] db-3: disk usage of db-3 is at 91 %" == result.value
    assert " WARNING alarm from ops-alarms\n" in result.log


def test_lts_function_decodes_json_within_json_within_base64(engine: Engine, runtime: str) -> None:
    """Log lines nested three encodings deep arrive as they were sent."""
    result = engine.invoke(_function("lts", runtime), _event("lts"))

    assert {"owner": "4f1c2d3e5a6b7c8d9e0f1a2b3c4d5e6f", "seen": 2, "warnings": 1} == result.value
    assert "web-1 line 118: 2024-11-05/03:40:01 [WARN] [pool.go:211] connections at 95 %\n" == result.log


def test_python2_only_function_runs_on_its_python(engine: Engine, runtime: str) -> None:
    """Print statements and urllib2 work on 2.7, and are an honest SyntaxError on everything newer."""
    result = engine.invoke(_function("legacy", runtime), {"name": "Zoë"})

    if runtime == "python2.7":
        assert {"name": "Zoë", "big": 2**70, "query": "a%20b"} == result.value
        assert "event has [u'name']\nrefused: unknown url type: nosuchscheme\n" == result.log
    else:
        assert Status.LOAD_ERROR is result.status
        assert result.error is not None
        assert "SyntaxError" == result.error["errorType"]
        assert "legacy.py" in result.error["errorMessage"]


def test_python3_only_function_runs_on_its_python(engine: Engine, runtime: str) -> None:
    """f-strings and coroutines work from 3.6 on, and are an honest SyntaxError on 2.7."""
    result = engine.invoke(_function("modern", runtime, name="shop"), {"prices": {"tea": 1200, "cup": 34}})

    if runtime == "python2.7":
        assert Status.LOAD_ERROR is result.status
        assert result.error is not None
        assert "SyntaxError" == result.error["errorType"]
    else:
        assert {"prices": {"tea": 1200, "cup": 34}, "total": 1234, "left": "998_766"} == result.value
        assert "shop: 1,234 of 1,000,000\n" == result.log
