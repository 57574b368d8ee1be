"""From verdicts to failures: which status, which of the platform's numbers, which text, and what is believed."""

from __future__ import annotations

import json

import pytest

from engine.model import Status
from engine.outcome import CHECKED_BODY_BYTES, INITIALIZE, INVOKE, LOAD, Failure, Phase, returned_value
from engine.protocol import Frame
from engine.result import ERROR_CODES
from engine.verdict import Ended, Verdict

PHASES = {"load": LOAD, "initialize": INITIALIZE, "invoke": INVOKE}
ERROR = {"errorMessage": "function invocation exception, error: no", "errorType": "E", "stackTrace": ["a", "b"]}


def ended(how: Ended) -> Verdict:
    return Verdict(how, 1, 1)


def replied(kind: str, payload: object = ERROR) -> Verdict:
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Verdict(Ended.REPLIED, 1, 1, Frame(kind, "t", text))


def made(status: Status, code: int, message: str) -> Failure:
    """A failure that the engine itself words: its type is the status, and it has no stack trace."""
    return Failure(status, code, {"errorMessage": message, "errorType": status.value, "stackTrace": []})


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (LOAD, made(Status.LOAD_TIMEOUT, 4012, "load function timed out after 3s")),
        (INITIALIZE, made(Status.INITIALIZER_TIMEOUT, 4211, "runtime initialization timed out after 3s")),
        (INVOKE, made(Status.TIMEOUT, 4010, "call invoke timeout 3s")),
    ],
    ids=PHASES,
)
def test_timeout_has_a_status_and_a_text_of_its_phase(phase: Phase, expected: Failure) -> None:
    """In the platform's words, with the configured limit."""
    assert expected == phase.failure(ended(Ended.TIMED_OUT), 3.0)


@pytest.mark.parametrize(
    ("timeout_s", "text"),
    [(3.0, "3s"), (3, "3s"), (0.25, "0.25s"), (0.001, "0.001s"), (259200.0, "259200s"), (1234567.0, "1234567s")],
)
def test_timeout_is_written_as_people_write_seconds(timeout_s: float, text: str) -> None:
    """No trailing zeros, and no exponent for any length that a function can have."""
    failure = INVOKE.failure(ended(Ended.TIMED_OUT), timeout_s)

    assert failure is not None
    assert f"call invoke timeout {text}" == failure.error["errorMessage"]


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Ended.OUT_OF_MEMORY, made(Status.OUT_OF_MEMORY, 4205, "runtime memory limit exceeded")),
        (Ended.DISK_FULL, made(Status.DISK_FULL, 4207, "disk usage exceed limit")),
        (
            Ended.TOO_MANY_PROCESSES,
            made(Status.EXITED, 4204, "runtime process is exited, killed for too many processes and threads"),
        ),
    ],
)
def test_passed_limit_is_the_same_in_every_phase(phase: Phase, how: Ended, expected: Failure) -> None:
    """Limits hold from the first line of the module on, and the reason is the one of the kill."""
    assert expected == phase.failure(ended(how), 3.0)


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_exit_names_how_the_process_ended(phase: Phase) -> None:
    """The reaper's description comes after the platform's words."""
    expected = made(Status.EXITED, 4204, "runtime process is exited, exit status 3")

    assert expected == phase.failure(ended(Ended.EXITED), 3.0, "exit status 3")


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_broken_protocol_is_the_functions_own_doing(phase: Phase) -> None:
    """Somebody reached into the engine's private descriptors: a value with a reason, and no exception."""
    verdict = Verdict(Ended.BROKE_PROTOCOL, 1, 1, detail="a frame header of 0 bytes")
    expected = "function result is invalid, error: the instance sent a frame header of 0 bytes"

    assert made(Status.INVALID_RESULT, 4007, expected) == phase.failure(verdict, 3.0)


@pytest.mark.parametrize(
    ("phase", "kind"), [(LOAD, "done"), (INITIALIZE, "done"), (INVOKE, "result")], ids=list(PHASES)
)
def test_success_is_no_failure(phase: Phase, kind: str) -> None:
    """Each phase has one word for it."""
    assert phase.failure(replied(kind, b"1"), 3.0) is None


def test_return_value_that_is_not_json_is_an_invalid_result() -> None:
    """Only a forged reply can have one: the instance that it came from is not used again."""
    failure = INVOKE.failure(replied("result", b"not even JSON"), 3.0)

    assert failure is not None
    assert Status.INVALID_RESULT is failure.status
    assert not failure.instance_survives


def test_large_return_value_is_not_looked_into() -> None:
    """It is decoded when somebody asks for it, and shows then what it is."""
    assert INVOKE.failure(replied("result", b"x" * (CHECKED_BODY_BYTES + 1)), 3.0) is None


@pytest.mark.parametrize(
    ("phase", "kind", "status", "code"),
    [
        (LOAD, "error", Status.LOAD_ERROR, 4001),
        (INITIALIZE, "error", Status.INITIALIZER_ERROR, 4009),
        (INVOKE, "error", Status.FUNCTION_ERROR, 4002),
        (INVOKE, "invalid", Status.INVALID_RESULT, 4007),
        (INVOKE, "too_large", Status.INVALID_RESULT, 4004),
    ],
)
def test_reported_failure_is_passed_on(phase: Phase, kind: str, status: Status, code: int) -> None:
    """Text, type and trace are the function's; status and number are the engine's."""
    failure = phase.failure(replied(kind), 3.0)

    assert failure is not None
    assert (status, code, ERROR) == (failure.status, failure.error_code, failure.error)


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_instance_survives_a_handlers_failure_and_no_other(phase: Phase) -> None:
    """A failing import or initializer abandons the instance; a failing handler is everyday life."""
    failure = phase.failure(replied("error"), 3.0)

    assert failure is not None
    assert (phase is INVOKE) == failure.instance_survives


@pytest.mark.parametrize("how", [each for each in Ended if each is not Ended.REPLIED])
def test_instance_never_survives_what_is_no_reply(how: Ended) -> None:
    """What did not answer by the rules does not serve another invocation."""
    failure = INVOKE.failure(ended(how), 3.0)

    assert failure is not None
    assert not failure.instance_survives


@pytest.mark.parametrize(
    ("phase", "kind"),
    [
        (LOAD, "result"),
        (LOAD, "invalid"),
        (INITIALIZE, "too_large"),
        (INVOKE, "done"),
        (INVOKE, "exited"),
        (INVOKE, ""),
    ],
)
def test_frame_that_is_no_answer_to_the_phase_is_refused(phase: Phase, kind: str) -> None:
    """A child that knows the token may still send what was not asked for: a value, and the instance's end."""
    failure = phase.failure(replied(kind), 3.0)

    assert failure is not None
    assert (Status.INVALID_RESULT, False) == (failure.status, failure.instance_survives)
    assert repr(kind) in failure.error["errorMessage"]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"\xff",
        [],
        None,
        {},
        {**ERROR, "more": 1},
        {"errorMessage": "m", "errorType": "E"},
        {**ERROR, "errorMessage": 1},
        {**ERROR, "errorType": None},
        {**ERROR, "stackTrace": "a"},
        {**ERROR, "stackTrace": ["a", 1]},
        {**ERROR, "stackTrace": {"a": "b"}},
    ],
)
def test_error_of_another_shape_is_refused(payload: object) -> None:
    """The result promises three keys of three types, whoever wrote the frame."""
    failure = INVOKE.failure(replied("error", payload), 3.0)

    assert failure is not None
    assert (Status.INVALID_RESULT, False) == (failure.status, failure.instance_survives)
    assert {"errorMessage": str, "errorType": str, "stackTrace": list} == {
        key: type(value) for key, value in failure.error.items()
    }


def test_error_has_its_keys_in_the_platforms_order() -> None:
    """2.7's dictionaries have none, and the error is printed as it is."""
    failure = INVOKE.failure(replied("error", dict(reversed(ERROR.items()))), 3.0)

    assert failure is not None
    assert ["errorMessage", "errorType", "stackTrace"] == list(failure.error)


def test_lone_surrogates_in_an_error_are_spelt_out() -> None:
    """Nobody could print or send them; everything else arrives as it is, and the reply is no less valid for them."""
    error = {"errorMessage": "\ud800 \0 \U0001f600", "errorType": "\udfff", "stackTrace": ["é", "\ud800"]}
    failure = INVOKE.failure(replied("error", error), 3.0)

    assert failure is not None
    assert Status.FUNCTION_ERROR is failure.status
    assert {
        "errorMessage": "\\ud800 \0 \U0001f600",
        "errorType": "\\udfff",
        "stackTrace": ["é", "\\ud800"],
    } == failure.error


def test_every_status_has_a_number() -> None:
    """The platform's codes are complete, and only success is 0."""
    assert set(Status) == set(ERROR_CODES)
    assert [Status.SUCCESS] == [status for status, code in ERROR_CODES.items() if code == 0]


@pytest.mark.parametrize(("text", "value"), [(b"1", 1), (b"null", None), (b'{"a": [1.5]}', {"a": [1.5]})])
def test_returned_value_is_decoded(text: bytes, value: object) -> None:
    """A tuple of one: null is a value like any other."""
    assert (value,) == returned_value(replied("result", text))


@pytest.mark.parametrize(
    "verdict",
    [
        replied("result", b"not even JSON"),
        replied("result", b"1" * (CHECKED_BODY_BYTES + 1)),
        replied("error", b"1"),
        replied("done", b"1"),
        ended(Ended.TIMED_OUT),
        ended(Ended.OUT_OF_MEMORY),
        ended(Ended.EXITED),
        replied("result", b"1")._replace(ended=Ended.DISK_FULL),
    ],
)
def test_returned_value_is_left_to_the_phase_where_there_is_more_to_say(verdict: Verdict) -> None:
    """Whatever is not a small return value of a healthy instance."""
    assert returned_value(verdict) is None
