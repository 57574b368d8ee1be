"""From a handler's return value to the payload of its reply, or to a message that says what and where."""

import math

from sandbox.compat import PY2, integer_types, string_types, text_type
from sandbox.failures import MAX_MESSAGE_CHARS, name_of
from sandbox.wire import dumps

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

MAX_BODY_BYTES = 6291456
"""RUNTIME_MAX_RESP_BODY_SIZE of the platform: 6 MiB."""

_MAX_STEPS = 1000000
_MAX_DEPTH = 2000


class InvalidResult(Exception):  # noqa: N818  # an outcome of the function, not an error of ours
    """The return value cannot be sent. Carries the message, a type name and whether size was the reason."""

    def __init__(self, message, type_name, too_large=False):
        # type: (str, str, bool) -> None
        Exception.__init__(self, message)
        self.message = message
        self.type_name = type_name
        self.too_large = too_large


def encode(value, _dumps=dumps, _limit=MAX_BODY_BYTES, _text=string_types):
    # type: (Any, Any, int, tuple[type, ...]) -> bytes
    """The JSON text of *value*, as the function's own json makes it.

    Raises:
        InvalidResult: JSON cannot express it, or it is over 6 MiB.
    """
    try:
        body = _dumps(value).encode("ascii")
    except MemoryError:
        raise
    except Exception as error:
        raise InvalidResult(_with_place(error, value), name_of(type(error)))
    if len(body) > _limit:
        # The platform sends a string as it is, so its limit counts the text and not our JSON of it.
        size = _text_bytes(value) if isinstance(value, _text) else len(body)
        if size > _limit:
            message = "the return value of the function exceeds the maximum allowed limit: %d of %d bytes"
            raise InvalidResult(message % (size, _limit), "ResultTooLarge", too_large=True)
    return body


def _text_bytes(text):
    # type: (Any) -> int
    if not isinstance(text, text_type):
        return len(text)
    return len(text.encode("utf-8") if PY2 else text.encode("utf-8", "surrogatepass"))


def _with_place(error, value):
    # type: (Exception, Any) -> str
    try:
        message = str.__getitem__(str(error), slice(0, MAX_MESSAGE_CHARS))
    except Exception:  # noqa: BLE001  # an exception of the function's own making
        message = "the value could not be serialised"
    try:
        place = _find_offender(value)
    except Exception:  # noqa: BLE001  # the function's own containers: iterating them may raise anything
        place = None
    return message if place is None else "%s (at %s)" % (message, place[:MAX_MESSAGE_CHARS])


def _find_offender(value):
    # type: (Any) -> str | None
    """The path of the first part of *value* that JSON cannot express, in the manner of JSONPath."""
    stack = [("$", value, ())]  # type: list[tuple[str, Any, tuple[int, ...]]]
    steps = 0
    while stack and steps < _MAX_STEPS:
        steps += 1
        path, part, parents = stack.pop()
        if isinstance(part, (dict, list, tuple)):
            if id(part) in parents:
                return path
            if len(parents) > _MAX_DEPTH:
                return None  # too deep rather than wrong: the interpreter's own message says so
            inside = parents + (id(part),)
            children = part.items() if isinstance(part, dict) else enumerate(part)
            for key, child in reversed(list(children)):
                if isinstance(part, dict) and not _is_key(key):
                    return path
                step = _step(key) if isinstance(part, dict) else "[%d]" % key
                stack.append((path + step, child, inside))
        elif not _is_scalar(part):
            return path
    return None


def _is_key(key):
    # type: (Any) -> bool
    return _is_scalar(key)


def _is_scalar(part):
    # type: (Any) -> bool
    if isinstance(part, float):
        return not (math.isnan(part) or math.isinf(part))
    if PY2 and isinstance(part, str):
        try:
            part.decode("utf-8")
        except UnicodeDecodeError:
            return False
        return True
    return part is None or isinstance(part, string_types + integer_types)


def _step(key):
    # type: (Any) -> str
    text = key if isinstance(key, string_types) else str(key)
    plain = text.replace("_", "a")  # not a regular expression: importing re costs more than a cold start
    return "." + text if plain.isalnum() and not plain[0].isdigit() else "[%s]" % dumps(text)
