"""What an invocation gives back: three parts as text, everything as JSON, and a value decoded when it is asked for."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

import pytest

from engine import payload
from engine.errors import ProtocolError
from engine.model import Status, Summary
from engine.result import Result

REQUEST_ID = "960d089c-c812-4fe7-9997-a72f773e4bcb"
STARTED_AT_S = 1_773_742_402.25  # 2026-03-17T10:13:22.250Z
ERROR = {
    "errorMessage": "function invocation exception, error: nö",
    "errorType": "ValueError",
    "stackTrace": ['File "./index.py", line 2, in handler', '    raise ValueError("nö")'],
}


def summary(**changes: Any) -> Summary:
    values = {
        "request_id": REQUEST_ID,
        "memory_size_mb": 128,
        "duration_ms": 2.049,
        "memory_used_mb": 36.53515625,
        "billed_duration_ms": 3,
    }
    return Summary(**{**values, **changes})


def success(body: bytes = b'{"greeting": "hi"}', **changes: Any) -> Result:
    values: dict[str, Any] = {"summary": summary(), "log": "working\n", "started_at_s": STARTED_AT_S}
    return Result(status=Status.SUCCESS, body_bytes=body, **{**values, **changes})


def failure(**changes: Any) -> Result:
    values: dict[str, Any] = {"summary": summary(), "log": "", "started_at_s": STARTED_AT_S, "error": ERROR}
    return Result(status=Status.FUNCTION_ERROR, error_code=4002, **{**values, **changes})


def test_render_of_a_warm_start_is_the_three_parts() -> None:
    """Return, summary, and the log between the platform's own lines, to the letter."""
    expected = f"""\
Function return
{{"greeting": "hi"}}

Execution summary
Request ID:        {REQUEST_ID}
Configured memory: 128 MB
Duration:          2.049 ms
Memory used:       36.535 MB
Billed duration:   3 ms

Log
2026-03-17T10:13:22Z Start invoke request '{REQUEST_ID}', version: latest
working
2026-03-17T10:13:22Z Finish invoke request '{REQUEST_ID}', duration: 2.049ms, billing duration: 3ms, \
memory used: 36.535MB, billing memory: 128MB
"""

    assert expected == success().render()


def test_render_of_a_cold_start_tells_what_it_took() -> None:
    """Loading is not billed, an initializer is; the column is as wide as its longest label."""
    cold = summary(load_duration_ms=11.5, initializer_duration_ms=4.2, initializer_billed_duration_ms=5)
    expected = f"""\
Request ID:           {REQUEST_ID}
Configured memory:    128 MB
Duration:             2.049 ms
Memory used:          36.535 MB
Billed duration:      3 ms
Load duration:        11.500 ms (cold start, not billed)
Initializer duration: 4.200 ms (billed 5 ms)
"""

    assert expected in success(summary=cold, cold_start=True).render()


def test_render_of_a_failure_shows_the_error_and_marks_the_log() -> None:
    """The error is JSON indented by four, text as people read it, and the log's last line says that it failed."""
    text = failure(version="v2").render()
    error, _, rest = text.partition("\n\nExecution summary\n")

    assert error.startswith('Function return\n{\n    "errorMessage": "function invocation exception, error: nö",\n')
    assert ERROR == json.loads(error.partition("\n")[2])
    assert f"Start invoke request '{REQUEST_ID}', version: v2\n2026" in rest
    assert f"Finish invoke request '{REQUEST_ID}'(invoke Failed), duration: 2.049ms" in rest


@pytest.mark.parametrize(
    ("log", "dropped", "between"),
    [
        ("", 0, ""),
        ("line\n", 0, "line\n"),
        ("no line break", 0, "no line break\n"),
        ("tail\n", 17, "[17 earlier bytes dropped]\ntail\n"),
        ("", 17, "[17 earlier bytes dropped]\n"),
        ("\n\n", 0, "\n\n"),
    ],
)
def test_log_stands_between_start_and_finish(log: str, dropped: int, between: str) -> None:
    """On lines of its own, with a word about what is not there."""
    lines = success(log=log, log_dropped_bytes=dropped).render_log()
    start, finish = lines.index("latest\n") + len("latest\n"), lines.rindex("2026-")

    assert between == lines[start:finish]


def test_stamp_of_the_last_line_is_when_the_handler_ended() -> None:
    """Start and duration add up, in whole seconds of UTC."""
    lines = success(summary=summary(duration_ms=800.0)).render_log().splitlines()

    assert ["2026-03-17T10:13:22Z", "2026-03-17T10:13:23Z"] == [lines[0][:20], lines[-1][:20]]


@pytest.mark.parametrize("body", [b"null", b'""', b'"text"', b"[1, 2.50]", b'{"a":  1}', b'"\\u00e9\\ud800"'])
def test_body_is_the_text_as_the_function_made_it(body: bytes) -> None:
    """Spaces, digits and escapes as the function's own json wrote them; it is the first part when rendered."""
    result = success(body)

    assert body.decode() == result.body == result.render_return()
    assert json.loads(body) == result.value


def test_value_is_decoded_when_it_is_first_asked_for_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever passes a result on does not pay for its 6 MiB."""
    decoded: list[bytes] = []

    def decode(text: bytes) -> object:
        decoded.append(text)
        return real(text)

    real = payload.decode
    monkeypatch.setattr(payload, "decode", decode)
    result = success(b'["value"]')
    untouched = list(decoded)

    assert [] == untouched
    assert result.value is result.value
    assert [b'["value"]'] == decoded


@pytest.mark.parametrize("body", [b"", b"nonsense", b"\xff\xfe", b"NaN", b'{"a": 1', b"1 2"])
def test_reply_that_the_function_forged_is_told_where_it_is_read(body: bytes) -> None:
    """It wrote behind the engine's back: status, log and summary can be read all the same."""
    result = success(body)

    assert result.ok
    assert isinstance(result.body, str)
    assert "Function return" in result.render()
    with pytest.raises(ProtocolError, match="not JSON"):
        _ = result.value


def test_failure_has_neither_value_nor_body() -> None:
    """None is also what a function may return: status and ok tell them apart."""
    result = failure()

    assert (None, None, False) == (result.value, result.body, result.ok)
    assert (None, "null", True) == (success(b"null").value, success(b"null").body, success(b"null").ok)


@pytest.mark.parametrize("result", [success(), success(b"null"), failure()], ids=["success", "none", "failure"])
def test_to_dict_can_be_written_as_json(result: Result) -> None:
    """Every key, with plain values: what comes back from JSON is the same."""
    found = result.to_dict()

    assert found == json.loads(json.dumps(found, allow_nan=False))
    assert {
        "status": result.status.value,
        "ok": result.ok,
        "value": result.value,
        "error": result.error,
        "error_code": result.error_code,
        "cold_start": result.cold_start,
        "memory_enforcement": result.memory_enforcement,
        "isolation": "process",
        "summary": dataclasses.asdict(result.summary),
        "log": result.log,
        "log_dropped_bytes": result.log_dropped_bytes,
    } == found


def test_json_text_has_the_return_value_as_it_was_made() -> None:
    """An integer that this interpreter refuses to print among them."""
    digits = b"9" * 5000
    text = success(digits).to_json(runtime="python2.7")

    assert f'"value": {digits.decode()}' in text
    assert {"runtime": "python2.7", **success(b"1").to_dict()} == json.loads(success(b"1").to_json(runtime="python2.7"))


def test_to_dict_has_the_plain_status() -> None:
    """A str, so that every serializer writes it."""
    assert str is type(success().to_dict()["status"])


def test_timeline_is_in_to_dict_where_there_is_one() -> None:
    """As pairs of numbers: JSON has no tuples."""
    timed = success(timeline=((0.0, 9.5), (2.0, 11.25)))

    assert [[0.0, 9.5], [2.0, 11.25]] == timed.to_dict()["timeline"]
    assert "timeline" not in success().to_dict()


def test_result_is_a_value() -> None:
    """Equal when everything is equal, and nobody changes it afterwards."""
    assert success() == success()
    assert success() != success(b"2")
    with pytest.raises(dataclasses.FrozenInstanceError):
        success().log = "forged"  # type: ignore[misc]  # what is tested


def test_result_can_be_sent_to_another_process() -> None:
    """Pickled before or after its value was read."""
    result = success()
    before = pickle.loads(pickle.dumps(result))
    value = result.value
    after = pickle.loads(pickle.dumps(result))

    assert result == before == after
    assert value == before.value == after.value


def test_repr_does_not_show_the_whole_return_value() -> None:
    """6 MiB in a log line or in a debugger help nobody."""
    assert len(repr(success(b'"' + b"x" * 100_000 + b'"'))) < 1000
