"""Events: any JSON goes in, as objects or as text; what is none is refused before a process exists."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from engine import Engine, InvalidEventError, Status

if TYPE_CHECKING:
    from tests.conftest import FunctionMaker, Invoker

MAX_EVENT_BYTES = 6 * 1024 * 1024
ECHO = "def handler(event, context):\n    return event\n"


@pytest.mark.parametrize("event", [{}, [], "", 0, None, False, "text", {"key": "value"}, [{"a": [1, 2.5, None]}]])
def test_event_may_be_any_json_value(invoke: Invoker, event: object) -> None:
    """Not only objects."""
    assert event == invoke(ECHO, event).value


def test_event_in_bytes_is_json_text_as_it_is(invoke: Invoker) -> None:
    """Spaces, escapes, numbers: the function's own json reads what was given."""
    source = """
        def handler(event, context):
            return [event["n"] == 12345678901234567890123, event["f"], event["s"]]
    """
    text = '{ "n" : 12345678901234567890123,\n"f":1.0e2, "s":"\\u00fc ü" }'

    assert [True, 100.0, "ü ü"] == invoke(source, text.encode("utf-8")).value


def test_event_has_the_types_of_the_functions_own_json(invoke: Invoker, runtime: str) -> None:
    """As json.loads gives them on that Python."""
    source = """
        def handler(event, context):
            return [type(each).__name__ for each in event]
    """
    text = "unicode" if runtime == "python2.7" else "str"

    assert ["dict", "list", text, "int", "float", "bool", "NoneType"] == invoke(
        source, [{}, [], "t", 1, 1.0, True, None]
    ).value


def test_event_tuple_is_a_list_and_keys_are_text(invoke: Invoker) -> None:
    """Python values become events by the rules of the json module."""
    assert {"1": [1, 2]} == invoke(ECHO, {1: (1, 2)}).value


def test_event_of_one_invocation_does_not_reach_the_next(engine: Engine, make_function: FunctionMaker) -> None:
    """A handler may keep and change its event; the caller's object stays as it was."""
    function = make_function("def handler(event, context):\n    event['n'] += 1\n    return event\n")
    event = {"n": 1}

    assert [{"n": 2}, {"n": 2}] == [engine.invoke(function, event).value for _ in range(2)]
    assert {"n": 1} == event


def _circular() -> list[Any]:
    event: list[Any] = []
    event.append(event)
    return event


NOT_JSON = {
    "set": {1},
    "object": object(),
    "NaN": float("nan"),
    "Infinity inside": {"a": [float("inf")]},
    "key": {(1, 2): 3},
    "circular": _circular(),
    "text that is no JSON": b"{not json",
    "empty text": b"",
    "text cut off": b'{"a": 1',
    "two values": b"1 2",
    "NaN as text": b"[NaN]",
    "not UTF-8": b'"\xff"',
}


@pytest.mark.parametrize("event", NOT_JSON.values(), ids=NOT_JSON)
def test_event_that_is_not_json_is_refused_before_a_process_exists(make_function: FunctionMaker, event: object) -> None:
    """An exception of the caller's, not a failure of the function's."""
    function = make_function(ECHO)
    with Engine() as engine:
        before = psutil.Process().children(recursive=True)
        with pytest.raises(InvalidEventError):
            engine.invoke(function, event)

        assert before == psutil.Process().children(recursive=True)


def test_event_over_six_mebibytes_is_refused(engine: Engine, make_function: FunctionMaker) -> None:
    """As text and as an object; the message has the limit."""
    function = make_function(ECHO)
    for event in (json.dumps("x" * (MAX_EVENT_BYTES - 1)).encode("ascii"), "x" * (MAX_EVENT_BYTES - 1)):
        with pytest.raises(InvalidEventError, match=str(MAX_EVENT_BYTES)):
            engine.invoke(function, event)


@pytest.mark.slow
def test_event_of_exactly_six_mebibytes_arrives(invoke: Invoker) -> None:
    """The limit itself is allowed."""
    event = json.dumps("x" * (MAX_EVENT_BYTES - 2)).encode("ascii")
    result = invoke("def handler(event, context):\n    return len(event)\n", event, memory_mb=512, timeout_s=30.0)

    assert MAX_EVENT_BYTES == len(event)
    assert (Status.SUCCESS, MAX_EVENT_BYTES - 2) == (result.status, result.value)


def test_refused_event_leaves_the_engine_as_it_was(own_engine: Engine, make_function: FunctionMaker) -> None:
    """Also for submit and map, where it comes late."""
    function = make_function(ECHO)
    with pytest.raises(InvalidEventError):
        own_engine.submit(function, {1}).result()
    with pytest.raises(InvalidEventError):
        list(own_engine.map(function, [1, {1}]))

    assert 2 == own_engine.invoke(function, 2).value
