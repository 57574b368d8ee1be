"""From a return value to the payload of a reply: what is sent, what is refused, and where the culprit is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sandbox.conftest import Trial


def test_place_of_what_json_cannot_express_is_told(trial: Trial) -> None:
    """As a path from the return value, in the manner of JSONPath: the first culprit, in the order of the value."""
    trial(
        """
        from sandbox.results import _find_offender
        nan, thing = float("nan"), object()
        circle, ring = [], {"in": [{}]}
        circle.append(circle)
        ring["in"][0]["back"] = ring
        shared = [1]
        deep = thing
        for _ in range(5000):
            deep = [deep]
        cases = [
            (thing, "$"), (nan, "$"), (float("inf"), "$"), ([1, nan, thing], "$[1]"), ((1, (2, thing)), "$[1][1]"),
            ({"a": [1, {"b": thing}]}, "$.a[1].b"), ({"snake_case": thing}, "$.snake_case"),
            ({"a b": nan}, '$["a b"]'), ({"a-b": nan}, '$["a-b"]'), ({"1a": nan}, '$["1a"]'), ({"": nan}, '$[""]'),
            ({"a.b": nan}, '$["a.b"]'), ({'"': nan}, '$["\\\\""]'), ({1: nan}, '$["1"]'), ({None: nan}, "$.None"),
            ({(1, 2): 3}, "$"), ([{(1, 2): 3}], "$[0]"),
            (circle, "$[0]"), (ring, "$.in[0].back"), ([shared, shared, thing], "$[2]"),
            (deep, None), (None, None), ([1, "a", {"b": 2.5}], None), ([], None),
            ([b"\\xff" if PY2 else b"bytes"], "$[0]"), ([set([1])], "$[0]"), ([1j], "$[0]"),
        ]
        for value, expected in cases:
            assert _find_offender(value) == expected, (expected, _find_offender(value))
        """
    )


def test_place_is_looked_for_in_bounded_time(trial: Trial) -> None:
    """A hundred lists that hold the next one twice are 2 ** 100 paths: the search ends, and has no place to tell."""
    trial(
        """
        from sandbox import results
        results._MAX_STEPS = 10000
        tangle = object()
        for _ in range(100):
            tangle = [1, 2, tangle] if tangle.__class__ is object else [tangle, tangle]
        wide = [1]
        for _ in range(100):
            wide = [wide, wide]
        assert results._find_offender(wide) is None
        """
    )


def test_place_is_part_of_the_message(trial: Trial) -> None:
    """With the kind of json's own exception; a value that is fine is its text."""
    trial(
        """
        from sandbox.results import encode, InvalidResult
        refused = raised(encode, {"a": [set()]})
        assert type(refused) is InvalidResult
        assert refused.message == "Object of type set is not JSON serializable (at $.a[0])", refused.message
        assert (refused.type_name, refused.too_large) == ("TypeError", False)
        assert encode({"a": [1, "é"]}) == b'{"a": [1, "\\\\u00e9"]}'
        """
    )


@pytest.mark.slow
def test_six_mib_are_the_limit(trial: Trial) -> None:
    """Of JSON text, or of the text itself where it is a string: a body is sent without its quotes and escapes."""
    trial(
        """
        from sandbox.results import encode, MAX_BODY_BYTES
        limit = MAX_BODY_BYTES
        assert limit == 6 * 1024 * 1024
        fits = ["x" * limit, "é" * (limit // 2), ["x" * (limit - 4)]]
        over = ["x" * (limit + 1), "é" * (limit // 2) + "x", ["x" * (limit - 3)]]
        if PY2:
            fits.append(b"x" * limit)
            over.append(b"x" * (limit + 1))
        for value in fits:
            assert len(encode(value)) == len(json.dumps(value))
        for value in over:
            refused = raised(encode, value)
            assert (refused.type_name, refused.too_large) == ("ResultTooLarge", True), refused.message
            assert "of 6291456 bytes" in refused.message
        """
    )
