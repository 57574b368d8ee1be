"""Return values: what JSON can say comes back equal and exact, what it cannot is an INVALID_RESULT with a reason."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from engine import Status

if TYPE_CHECKING:
    from engine import Engine, Result
    from tests.conftest import FunctionMaker, Invoker

MAX_BODY_BYTES = 6 * 1024 * 1024
ECHO = "def handler(event, context):\n    return event\n"

VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "zero as float": 0.0,
    "minus zero": -0.0,
    "one as float": 1.0,
    "64 bits": 2**63 - 1,
    "64 bits below zero": -(2**63),
    "unsigned 64 bits": 2**64 - 1,
    "over 64 bits": 2**64,
    "200 bits": 2**200,
    "200 bits below zero": -(2**200),
    "4000 digits": 10**3999,
    "whole beyond a float": 2**53 + 1,
    "tenth": 0.1,
    "sum of tenths": 0.1 + 0.2,
    "smallest float": 5e-324,
    "largest float": 1.7976931348623157e308,
    "epsilon": 2.220446049250313e-16,
    "float with exponent": 1e22,
    "third": 1 / 3,
    "empty text": "",
    "ascii": "plain text",
    "quotes and backslashes": "\"'\\ / \b\f\n\r\t",
    "control characters": "\x00\x01\x1f\x7f",
    "accents": "grüß",
    "chinese": "你好世界",
    "emoji": "🎉",
    "line separators": "\u2028\u2029",
    "byte order mark": "\ufeff",
    "lone high surrogate": "\ud800",
    "lone low surrogate": "x\udfffy",
    "surrogates the wrong way round": "\udc00\ud800",
    "empty list": [],
    "empty object": {},
    "empty key": {"": ""},
    "keys of other languages": {"ключ": 1, "鍵": 2, "\ud800": 3},
    "mixed": [None, True, 1, 1.0, "1", [], {}, [[[]]], {"a": {"b": [{}]}}],
}


def _nested(depth: int) -> Any:
    value: Any = "innermost"
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


def _exactly(value: Any) -> str:
    """Text in which 1, 1.0 and True differ, and -0.0 from 0.0, as they do not by ==."""
    return json.dumps(value, sort_keys=True)


def _message(result: Result) -> str:
    assert result.error is not None
    assert {"errorMessage", "errorType", "stackTrace"} == set(result.error)
    return str(result.error["errorMessage"])


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_value_comes_back_equal_and_exact(invoke: Invoker, value: Any) -> None:
    """Through the event and back: every bit of a float, every digit of an integer, every half of a surrogate pair."""
    result = invoke(ECHO, value)

    assert (Status.SUCCESS, True, 0, None) == (result.status, result.ok, result.error_code, result.error)
    assert _exactly(value) == _exactly(result.value)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_body_is_the_text_of_the_functions_own_json(invoke: Invoker, value: Any) -> None:
    """json.dumps with its defaults: ", " and ": " between, and nothing beyond ASCII."""
    body = invoke(ECHO, value).body

    assert body is not None
    # 2.7 has no order of keys: objects have a test of their own.
    expected = json.dumps(value)
    if isinstance(value, dict):
        body, expected = json.dumps(json.loads(body), sort_keys=True), json.dumps(value, sort_keys=True)
    assert expected == body


def test_body_keeps_the_order_of_insertion(invoke: Invoker, runtime: str) -> None:
    """As the platform shows it, on every Python whose dicts have an order."""
    if runtime == "python2.7":
        pytest.skip("dicts of 2.7 have no order")
    source = "def handler(event, context):\n    return {'z': 1, 'a': [1.50, 'ü'], 'm': {'y': None, 'b': True}}\n"

    assert '{"z": 1, "a": [1.5, "\\u00fc"], "m": {"y": null, "b": true}}' == invoke(source).body


@pytest.mark.parametrize("depth", [10, 200])
def test_deep_nesting_comes_back(invoke: Invoker, depth: int) -> None:
    """Lists in objects in lists, 200 deep."""
    assert _nested(depth) == invoke(ECHO, _nested(depth)).value


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("(1, (2, 3))", [1, [2, 3]]),
        ("{1: 'a'}", {"1": "a"}),
        ("{None: 1}", {"null": 1}),
        ("u'\\u00fc'", "ü"),
        ("collections.OrderedDict([('b', 1), ('a', 2)])", {"b": 1, "a": 2}),
        ("collections.namedtuple('P', 'x y')(1, 2)", [1, 2]),
        ("10 ** 30 - 10 ** 30 + 7", 7),
        ("type('Text', (str,), {})('sub')", "sub"),
    ],
)
def test_python_values_become_the_json_that_python_makes_of_them(
    invoke: Invoker, expression: str, expected: Any
) -> None:
    """Tuples are lists and keys are text, by the rules of the json module."""
    source = f"import collections\n\ndef handler(event, context):\n    return {expression}\n"

    assert expected == invoke(source).value


def test_a_handler_without_return_returns_null(invoke: Invoker) -> None:
    """None in the value and null in the body."""
    result = invoke("def handler(event, context):\n    pass\n")

    assert (Status.SUCCESS, None, "null") == (result.status, result.value, result.body)


def test_value_is_none_and_body_is_none_on_failure(invoke: Invoker) -> None:
    """A failure has an error and no value."""
    result = invoke("def handler(event, context):\n    raise ValueError\n")

    assert (False, None, None) == (result.ok, result.value, result.body)


@pytest.mark.slow
def test_largest_payload_goes_both_ways(invoke: Invoker) -> None:
    """6 MiB of event and 6 MiB of result, to the byte."""
    text = "ab\u00fc" * ((MAX_BODY_BYTES - 2) // 8)
    event = json.dumps(text).encode("ascii")
    event += b" " * (MAX_BODY_BYTES - len(event))

    result = invoke(ECHO, event, memory_mb=512, timeout_s=30.0)

    assert text == result.value


@pytest.mark.slow
@pytest.mark.parametrize("over", [0, 1])
def test_result_limit_is_six_mebibytes_to_the_byte(invoke: Invoker, over: int) -> None:
    """The body's text counts; one byte more is an invalid result with the platform's number and the two sizes."""
    source = "def handler(event, context):\n    return ['x' * event]\n"
    result = invoke(source, MAX_BODY_BYTES - 4 + over, memory_mb=512, timeout_s=30.0)

    if not over:
        assert result.body is not None
        assert MAX_BODY_BYTES == len(result.body)
        return
    assert (Status.INVALID_RESULT, 4004) == (result.status, result.error_code)
    assert "exceeds the maximum allowed limit" in _message(result)
    assert str(MAX_BODY_BYTES) in _message(result)
    assert str(MAX_BODY_BYTES + 1) in _message(result)


@pytest.mark.parametrize(
    ("expression", "place", "what"),
    [
        ("{1, 2}", "$", "set"),
        ("{'items': [1, 2, {3}]}", "$.items[2]", "set"),
        ("{'a': {'b c': object()}}", '$.a["b c"]', "object"),
        ("[[0, [complex(1, 2)]]]", "$[0][1][0]", "complex"),
        ("{'when': datetime.date(2024, 1, 1)}", "$.when", "date"),
        ("{'ratio': float('nan')}", "$.ratio", "Out of range float"),
        ("[1.0, float('inf')]", "$[1]", "Out of range float"),
        ("[-float('inf')]", "$[0]", "Out of range float"),
        ("(x for x in 'ab')", "$", "generator"),
        ("handler", "$", "function"),
        ("{'k': {(1, 2): 3}}", "$.k", "key"),
    ],
)
def test_value_that_json_cannot_express_is_an_invalid_result(
    invoke: Invoker, expression: str, place: str, what: str
) -> None:
    """The message names the kind of value and where it is."""
    source = f"import datetime\n\ndef handler(event, context):\n    return {expression}\n"
    result = invoke(source)

    assert (Status.INVALID_RESULT, 4007) == (result.status, result.error_code)
    message = _message(result)
    assert message.startswith("function result is invalid, error: ")
    assert what in message
    assert f"(at {place})" in message


@pytest.mark.parametrize(
    ("build", "place"),
    [("value = []; value.append(value)", "$[0]"), ("value = {}; value['me'] = {'too': value}", "$.me.too")],
)
def test_circular_value_is_an_invalid_result(invoke: Invoker, build: str, place: str) -> None:
    """A value inside itself is named where it comes back to itself."""
    result = invoke(f"def handler(event, context):\n    {build}\n    return value\n")

    assert (Status.INVALID_RESULT, 4007) == (result.status, result.error_code)
    assert "Circular reference" in _message(result)
    assert f"(at {place})" in _message(result)


def test_bytes_are_text_on_python2_and_invalid_on_python3(invoke: Invoker, runtime: str) -> None:
    """Each Python's own json decides; bytes that are no UTF-8 are named with their place on both."""
    fine = invoke("def handler(event, context):\n    return b'ascii'\n")
    broken = invoke("def handler(event, context):\n    return {'raw': [b'\\xff\\xfe']}\n")

    assert ("ascii" if runtime == "python2.7" else None) == fine.value
    assert (Status.INVALID_RESULT, 4007) == (broken.status, broken.error_code)
    assert "(at $.raw[0])" in _message(broken)


def test_nesting_that_python_itself_cannot_write_is_an_invalid_result(invoke: Invoker) -> None:
    """A hundred thousand lists in each other end in a message, not in a crash."""
    source = """
        def handler(event, context):
            value = []
            for _ in range(100000):
                value = [value]
            return value
    """
    result = invoke(source)

    assert (Status.INVALID_RESULT, 4007) == (result.status, result.error_code)
    assert "recursion" in _message(result)


def test_instance_lives_on_after_an_invalid_result(engine: Engine, make_function: FunctionMaker) -> None:
    """The function was wrong, its instance was not."""
    function = make_function("def handler(event, context):\n    return {1} if event == 'set' else 'fine'\n")

    assert Status.INVALID_RESULT is engine.invoke(function, "set").status
    after = engine.invoke(function, None)
    assert ("fine", False) == (after.value, after.cold_start)


def test_a_patched_json_does_not_change_the_result(engine: Engine, make_function: FunctionMaker) -> None:
    """The body is made by the json that was there before the function's code."""
    function = make_function(
        """
        import json

        json.dumps = json.loads = lambda *args, **kwargs: 1 / 0

        def handler(event, context):
            return event
        """
    )

    assert [{"a": [1]}, None] == [engine.invoke(function, event).value for event in ({"a": [1]}, None)]


def test_integers_longer_than_python_prints_by_default_come_back(invoke: Invoker, runtime: str) -> None:
    """Newer Pythons refuse to print over 4300 digits; where the function's own json does it, the value arrives."""
    result = invoke("def handler(event, context):\n    return 10 ** 5000\n")

    if runtime == "python3.9":
        assert (Status.INVALID_RESULT, 4007) == (result.status, result.error_code)
        assert "4300" in _message(result)
    else:
        assert 10**5000 == result.value


def test_result_of_a_warm_start_is_a_result_like_any_other(engine: Engine, make_function: FunctionMaker) -> None:
    """It is put together in a shorter way: field by field, and each of the right type, as the long way would."""
    function = make_function(ECHO)
    cold, warm = engine.invoke(function, [1]), engine.invoke(function, [1])

    assert (True, False, [1]) == (cold.cold_start, warm.cold_start, warm.value)
    assert warm == dataclasses.replace(warm)
    assert warm.summary == dataclasses.replace(warm.summary)
    assert vars(cold).keys() | {"value"} == vars(warm).keys()
    assert vars(cold.summary).keys() == vars(warm.summary).keys()
    assert "[1]" == warm.body
    changed = {"duration_ms", "memory_used_mb", "billed_duration_ms", "request_id", "load_duration_ms"}
    same = vars(warm.summary).keys() - changed
    assert {vars(cold.summary)[name] for name in same} == {vars(warm.summary)[name] for name in same}
    assert warm.summary.load_duration_ms is None
