"""JSON on the engine's side: orjson where it says the same as json, json itself at every edge where it does not."""

from __future__ import annotations

import codecs
import collections
import datetime
import enum
import json
import math
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.errors import InvalidEventError
from engine.model import MAX_PAYLOAD_BYTES
from engine.payload import checked_request_id, decode, encode_event

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**62, 2**66)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
    max_leaves=10,
)


class Name(str):
    __slots__ = ()


class Count(int):
    pass


class Colour(str, enum.Enum):
    RED = "red"


class Size(enum.Enum):
    SMALL = 1


IDENTIFIER = uuid.UUID("960d089c-c812-4fe7-9997-a72f773e4bcb")


@dataclass
class Point:
    x: int


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.slow
@given(value=JSON_VALUES)
@example(value=[None, 2**64, -0.0, "\ud800", {"\udfff": 1e308}])
def test_event_is_what_json_makes_of_it(value: Any) -> None:
    """The function's json.loads gives what the caller's json.dumps would have sent."""
    expected = json.loads(json.dumps(value))
    found = json.loads(encode_event(value))

    assert expected == found
    assert json.dumps(expected, sort_keys=True) == json.dumps(found, sort_keys=True)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (None, b"null"),
        (True, b"true"),
        ("é", '"é"'.encode()),
        ({"a": [1, 2.5, "b"]}, b'{"a":[1,2.5,"b"]}'),
        ({}, b"{}"),
        (2**63 - 1, b"9223372036854775807"),
        (2**64 - 1, b"18446744073709551615"),
        (2**64, b"18446744073709551616"),
        (-(2**63) - 1, b"-9223372036854775809"),
        ([None, 10**30], b"[null,1000000000000000000000000000000]"),
        ({1: "a"}, b'{"1":"a"}'),
        ({None: 1, True: 2, 1.5: 3}, b'{"null":1,"true":2,"1.5":3}'),
        ((1, (2,)), b"[1,[2]]"),
        (Name("n"), b'"n"'),
        ({Name("n"): Count(3)}, b'{"n":3}'),
        (Colour.RED, b'"red"'),
        (Size.SMALL, b"1"),
        ([None, Size.SMALL, Colour.RED], b'[null,1,"red"]'),
        (IDENTIFIER, b'"960d089c-c812-4fe7-9997-a72f773e4bcb"'),
        ([None, {"id": IDENTIFIER}], b'[null,{"id":"960d089c-c812-4fe7-9997-a72f773e4bcb"}]'),
        (collections.OrderedDict(b=1, a=2), b'{"b":1,"a":2}'),
        ("\ud800", b'"\\ud800"'),
    ],
)
def test_event_is_encoded_as_json_would(event: object, text: bytes) -> None:
    """Integers of any size, keys that json turns into text, subclasses as their base, lone surrogates.

    Enumerations and UUIDs are taken in any company: orjson knows them, json does not.
    """
    assert text == encode_event(event)


@pytest.mark.parametrize(
    "event",
    [
        math.nan,
        math.inf,
        -math.inf,
        [None, {"deep": [math.nan]}],
        {math.inf: 1},
        {1, 2},
        object(),
        print,
        [b"bytes inside"],
        bytearray(b"1"),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        Point(1),
        {(1, 2): 3},
        1j,
    ],
    ids=repr,
)
def test_event_that_is_not_json_is_refused(event: object) -> None:
    """What json refuses is refused, also where orjson would quietly make something of it."""
    with pytest.raises(InvalidEventError, match="the event is not JSON"):
        encode_event(event)


def test_event_that_contains_itself_is_refused() -> None:
    """No endless loop, and no RecursionError."""
    event: list[Any] = []
    event.append(event)

    with pytest.raises(InvalidEventError):
        encode_event(event)


def test_event_deeper_than_orjson_takes_is_encoded_all_the_same() -> None:
    """254 levels are its limit for writing, 1024 for reading."""
    assert b"[" * 500 + b"1" + b"]" * 500 == encode_event(nested(500))


def test_event_deeper_than_the_interpreter_takes_is_refused() -> None:
    """As text and as a value: an InvalidEventError, and no RecursionError."""
    depth = 200_000
    with pytest.raises(InvalidEventError):
        encode_event(nested(depth))
    with pytest.raises(InvalidEventError):
        encode_event(b"[" * depth + b"]" * depth)


def test_bytes_are_json_text_as_it_is() -> None:
    """Not decoded and encoded again: spelling, spaces inside, and every digit stay."""
    text = b'{ "b":1.0,\n"a" : [1E2, 100000000000000000000000.50, "\\u0041\\ud800"] }'

    assert text == encode_event(text)


def test_white_space_around_json_text_is_dropped() -> None:
    """A file that ends with a line break is an event; the wire has no use for the break."""
    assert b'{"a": 1}' == encode_event(b' \t\r\n{"a": 1}\n\n')


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"{'a': 1}",
        b"[1,]",
        b"01",
        b"nul",
        b"1 2",
        b'"\n"',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"\xff",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"\x0b1",
        b"1\0",
        codecs.BOM_UTF8 + b"1",
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-16-le"),
        '{"a": 1}'.encode("utf-32-be"),
        "12".encode("utf-16-le"),
        "1".encode("utf-16-be"),
    ],
    ids=repr,
)
def test_bytes_that_are_no_json_text_in_utf_8_are_refused(text: bytes) -> None:
    """json.loads would take UTF-16 and a byte order mark from bytes; a function's json in 2.7 would not."""
    with pytest.raises(InvalidEventError, match="the event is not JSON"):
        encode_event(text)


@pytest.mark.parametrize("make", [str, lambda text: f'"{text}"'.encode()], ids=["value", "bytes"])
def test_six_mib_are_the_limit(make: Callable[[str], object]) -> None:
    """Of JSON text, to the byte."""
    fits = "x" * (MAX_PAYLOAD_BYTES - 2)

    assert MAX_PAYLOAD_BYTES == len(encode_event(make(fits)))
    with pytest.raises(InvalidEventError, match=f"{MAX_PAYLOAD_BYTES + 1} bytes of JSON; the limit is 6291456"):
        encode_event(make(fits + "x"))


def test_text_at_the_limit_is_checked() -> None:
    """The largest event is JSON like any other."""
    with pytest.raises(InvalidEventError, match="the event is not JSON"):
        encode_event(b"[" + b"x" * (MAX_PAYLOAD_BYTES - 1))


def test_text_over_the_limit_is_not_even_parsed() -> None:
    """A gigabyte of brackets costs no time before it is refused."""
    with pytest.raises(InvalidEventError, match="bytes of JSON"):
        encode_event(b"[" * (MAX_PAYLOAD_BYTES + 1))


@pytest.mark.parametrize("request_id", ["r", "960d089c-c812-4fe7-9997-a72f773e4bcb", "ünïcode id", "x" * 128])
def test_request_id_is_any_line_of_text(request_id: str) -> None:
    """It is the caller's to choose."""
    assert request_id == checked_request_id(request_id)


@pytest.mark.parametrize("request_id", ["", "x" * 129, "two\nlines", "\x1b[31m", "\0", "\ud800", 7, b"bytes"])
def test_request_id_that_could_forge_a_line_of_the_log_is_refused(request_id: Any) -> None:
    """It stands in the log, in a header and in an event of the host's own log."""
    with pytest.raises(InvalidEventError, match="request_id must be 1 to 128 printable characters"):
        checked_request_id(request_id)


@pytest.mark.slow
@given(value=JSON_VALUES)
def test_decode_is_json_loads(value: Any) -> None:
    """For whatever a function's own json wrote."""
    text = json.dumps(value).encode()
    expected = json.loads(text)
    found = decode(text)

    assert expected == found
    assert json.dumps(expected) == json.dumps(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"18446744073709551616", 2**64),
        (b"-9223372036854775809", -(2**63) - 1),
        (b"[9007199254740993, 12345678901234567890123]", [9007199254740993, 12345678901234567890123]),
        (b"0.1234567890123456789012345", 0.1234567890123456789012345),
        (b"-0.0", -0.0),
        (b"5e-324", 5e-324),
        (b'"\\ud800"', "\ud800"),
        (b'"\\udc00\\ud83d"', "\udc00\ud83d"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"1234567890123456789012345678901234567890"', "1234567890123456789012345678901234567890"),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b"null", None),
    ],
)
def test_decode_knows_the_edges(text: bytes, expected: object) -> None:
    """Integers over 64 bits and lone surrogates, which orjson changes or refuses."""
    found = decode(text)

    # Its repr as well: -0.0 equals 0.0, and True equals 1.
    assert (expected, repr(expected)) == (found, repr(found))


def test_number_beyond_a_double_is_infinite_as_in_json() -> None:
    """json.loads of 1e999 is inf: the one way for it to come from JSON text."""
    assert json.loads("1e999") == decode(b"1e999") == math.inf


def test_decode_takes_integers_of_more_digits_than_int_does() -> None:
    """3.11 and later refuse more than 4300 digits at once; a function on 2.7 knows no such limit."""
    digits = "7" * 10_000
    found = decode(f"[{digits}, -{digits}]".encode())

    assert 33219 == found[0].bit_length()
    assert [7, -7, 0] == [found[0] % 10, -(-found[1] % 10), found[0] + found[1]]


def test_decode_takes_what_is_deeper_than_orjson_reads() -> None:
    """1024 levels are its limit."""
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(b"[" * 1100 + b"]" * 1100)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        assert nested(1100) == decode(b"[" * 1100 + b"1" + b"]" * 1100)
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b"[Infinity]", b'"\xff"', b"[" * 200_000, b"1 2"])
def test_decode_of_what_is_not_json_is_a_value_error(text: bytes) -> None:
    """Whatever a function wrote behind the engine's back: one kind of exception."""
    with pytest.raises(ValueError):  # noqa: PT011  # the texts are json's own
        decode(text)
