"""Any JSON value goes through a function on each runtime and comes back equal to what json.loads makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine import Engine, Function, Status

# Edges on purpose: around what a double holds exactly, what orjson can take, and where repr changes its form.
_INTEGERS = st.one_of(
    st.integers(),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64 - 1, 2**64, 10**18, 10**300]),
    st.integers(min_value=-(2**2000), max_value=2**2000),
)
_FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([-0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1e16, 1e22, 1e-5, 0.1, 1e15 + 0.3]),
)
# categories=None would leave surrogates out; JSON text can carry every one of them.
_TEXT = st.one_of(
    st.text(st.characters(exclude_categories=())), st.sampled_from(["\ud800", "\udc00\ud83d", "\0", "\x7f\u2028"])
)
_SCALARS = st.one_of(st.none(), st.booleans(), _INTEGERS, _FLOATS, _TEXT)
JSON_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(_TEXT, inner, max_size=5)),
    max_leaves=20,
)


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = {"": [value]}
    return value


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory, runtime: str) -> Function:
    """Returns its event, and counts its invocations so that warm starts are proved."""
    code: Path = tmp_path_factory.mktemp("echo") / "index.py"
    code.write_text("def handler(event, context):\n    return event\n", encoding="utf-8")
    return Function(code=code, handler="index.handler", runtime=runtime, timeout_s=30.0)


@pytest.mark.slow
@settings(deadline=None, max_examples=100, print_blob=True)
@example(value=_nested(100))
@example(value={"k" * 70_000: "v" * 70_000})
@example(value=[2**200, -(2**200), 1e308, -0.0])
@given(value=JSON_VALUES)
def test_any_json_value_comes_back_equal(engine: Engine, echo: Function, value: Any) -> None:
    """Equal, and of the same kind: 1, 1.0 and True are three values, and so are 0.0 and -0.0."""
    result = engine.invoke(echo, value)
    expected = json.loads(json.dumps(value))

    assert Status.SUCCESS is result.status
    assert expected == result.value
    assert json.dumps(expected, sort_keys=True) == json.dumps(result.value, sort_keys=True)
