"""JSON on the engine's side: orjson where it says the same as the standard library's json, else json itself.

orjson turns integers over 64 bits into floats and NaN into null without a word; it refuses lone surrogates,
keys that are not strings, subclasses and nesting over 1024. A payload that it would change, or refuse, goes
through json: slower, and right.
"""

from __future__ import annotations

import decimal
import enum
import json
import uuid
from typing import Any, Final

import orjson

from engine.errors import InvalidEventError
from engine.model import MAX_PAYLOAD_BYTES

# Subclasses, dataclasses and dates are no JSON: left to json, which refuses them or treats them as their base.
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

# 19 digits in a row may be an integer over 64 bits; anything shorter is not. Found by translate() and a search for
# a constant: on 6 MiB that takes a tenth of the time of a regular expression.
_DIGITS_TO_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")
MAX_REQUEST_ID_CHARS: Final = 128
"""Three times the platform's own UUIDs."""

_LONG_NUMBER: Final = b"0" * 19


def encode_event(event: object) -> bytes:
    """Return *event* as JSON text; bytes are taken for JSON text already, and checked.

    Raises:
        InvalidEventError: It is not JSON, or over 6 MiB.
    """
    text = _checked_text(event) if isinstance(event, bytes) else _encode(event)
    if len(text) > MAX_PAYLOAD_BYTES:
        raise InvalidEventError(f"the event has {len(text)} bytes of JSON; the limit is {MAX_PAYLOAD_BYTES} (6 MiB)")
    return text


def checked_request_id(request_id: str) -> str:
    """Return *request_id* when it can stand in a line of a log.

    Raises:
        InvalidEventError: It is no printable text of 1 to 128 characters.
    """
    text = isinstance(request_id, str) and request_id.isprintable()
    if not text or not 0 < len(request_id) <= MAX_REQUEST_ID_CHARS:
        raise InvalidEventError(f"request_id must be 1 to {MAX_REQUEST_ID_CHARS} printable characters: {request_id!r}")
    return request_id


def decode(text: bytes) -> Any:
    """Return what json.loads makes of *text*: integers of any size, floats to the last bit, lone surrogates.

    Raises:
        ValueError: *text* is not JSON.
    """
    if _LONG_NUMBER not in text.translate(_DIGITS_TO_ZERO):
        try:
            return orjson.loads(text)
        except ValueError:
            pass  # a lone surrogate, a number beyond a double, deep nesting: json knows them
    try:
        # As text: of bytes, json.loads guesses the encoding, and takes UTF-16 and a byte order mark for JSON.
        return json.loads(text.decode("utf-8"), parse_int=_int_of_any_size, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply for this interpreter to decode") from None


def _encode(event: object) -> bytes:
    try:
        text = orjson.dumps(event, option=_OPTIONS)
        if b"null" not in text or orjson.loads(text) == event:  # a null is a None, or a NaN that orjson changed
            return text
    except TypeError:
        pass
    try:
        return json.dumps(event, allow_nan=False, separators=(",", ":"), default=_as_orjson_does).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEventError(f"the event is not JSON: {error}") from error


def _as_orjson_does(value: object) -> object:
    """What orjson knows besides JSON and has no option against: the two must not differ by what else is in an event."""
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _checked_text(text: bytes) -> bytes:
    stripped = text.strip(b" \t\r\n")
    if len(stripped) > MAX_PAYLOAD_BYTES:
        return stripped
    try:
        decode(stripped)
    except ValueError as error:
        raise InvalidEventError(f"the event is not JSON: {error}") from error
    return stripped


def _int_of_any_size(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:
        # 3.11 refuses more than 4300 digits at once, because int() takes quadratic time; Decimal does not.
        return int(decimal.Decimal(digits))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
