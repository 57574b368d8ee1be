"""Functions whose return values fight the serialisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine import Status

if TYPE_CHECKING:
    from tests.hostile.conftest import Aftermath, Arena

RESULT_PREFIX = "function result is invalid, error: "


def _assert_invalid(aftermath: Aftermath, kind: str, message: str) -> None:
    result = aftermath.result
    assert (Status.INVALID_RESULT, 4007, None) == (result.status, result.error_code, result.value)
    assert result.error is not None
    assert kind == result.error["errorType"]
    assert result.error["errorMessage"].startswith(RESULT_PREFIX)
    assert message in result.error["errorMessage"]
    assert len(result.error["errorMessage"]) < 70_000
    assert aftermath.instance_survived


SELF_REFERENCES = {
    "list": ("value = []\nvalue.append(value)", "$[0]"),
    "dict": ("value = {}\nvalue['me'] = value", "$.me"),
    "list through dict": ("value = [{}]\nvalue[0]['back'] = value", "$[0].back"),
}


@pytest.mark.parametrize(("making", "place"), SELF_REFERENCES.values(), ids=SELF_REFERENCES)
def test_self_reference_is_invalid_and_its_place_is_told(arena: Arena, making: str, place: str) -> None:
    """The serialisation does not run after its own tail."""
    _assert_invalid(arena(f"{making}\nreturn value"), "ValueError", f"Circular reference detected (at {place})")


def test_nesting_without_end_is_invalid(arena: Arena, runtime: str) -> None:
    """A hundred thousand lists in each other are too deep for the interpreter, and do not overflow its stack."""
    attack = "value = []\nfor _ in range(100000):\n    value = [value]\nreturn value"
    kind = "RuntimeError" if runtime == "python2.7" else "RecursionError"

    _assert_invalid(arena(attack), kind, "recursion")


def test_nesting_with_the_recursion_limit_lifted_ends_in_a_crash(arena: Arena) -> None:
    """Who lifts the limit overflows the stack: the instance dies of it, and nobody else."""
    attack = """
        sys.setrecursionlimit(10 ** 9)
        value = []
        for _ in range(1000000):
            value = [value]
        return value
    """
    aftermath = arena(attack, timeout_s=20.0, memory_mb=1024)

    assert (Status.EXITED, 4204) == (aftermath.result.status, aftermath.result.error_code)
    assert "runtime process is exited, signal SIGSEGV" == (aftermath.result.error or {})["errorMessage"]
    assert not aftermath.instance_survived


HOSTILE_VALUES = {
    "an object": ("object()", "TypeError", "object is not JSON serializable (at $)"),
    "an object deep inside": ("{'a': [1, object()]}", "TypeError", "(at $.a[1])"),
    "a generator": ("(x for x in [1])", "TypeError", "generator is not JSON serializable"),
    "a class": ("dict", "TypeError", "type is not JSON serializable"),
    "a set": ("{'a': {1, 2}}", "TypeError", "(at $.a)"),
    "not a number": ("[1.0, float('nan')]", "ValueError", "(at $[1])"),
    "a mapping whose items() raises": ("Raising(a=1)", "RuntimeError", "never"),
    "a mapping whose items() are no pairs": ("Crooked(a=1)", "ValueError", "2-tuples"),
    "an error of a hundred megabytes": ("Shouting(a=1)", "Loud", "x" * 1000),
    "an error with hostile text": ("Mumbling(a=1)", "Mumble", "the value could not be serialised"),
    "an object of an anonymous class": ("Anonymous()", "TypeError", "Object of type Masked is not JSON serializable"),
    "an object of a class with an endless name": ("type('N' * 10 ** 7, (), {})()", "TypeError", "Object of type NNNN"),
}


@pytest.mark.parametrize(("value", "kind", "message"), HOSTILE_VALUES.values(), ids=HOSTILE_VALUES)
def test_value_that_json_cannot_express_is_invalid(
    arena: Arena, runtime: str, value: str, kind: str, message: str
) -> None:
    """Told with what is wrong and where, in bounded text; the instance serves on."""
    if runtime == "python2.7" and "Crooked" in value:
        message = "items must return 2-tuples" if message == "2-tuples" else message
    more = """
class Raising(dict):
    def items(self): raise RuntimeError("never")

class Crooked(dict):
    def items(self): return [1, 2, 3]

class Loud(Exception):
    def __str__(self): return "x" * 10 ** 8

class Shouting(dict):
    def items(self): raise Loud()

class Mumble(Exception):
    def __str__(self): raise RuntimeError("never")

class Mumbling(dict):
    def items(self): raise Mumble()

class Mask(type):
    __name__ = property(lambda cls: 1 / 0)

Anonymous = Mask("Masked", (), {})
"""
    _assert_invalid(arena(f"return {value}", more, memory_mb=1024, timeout_s=20.0), kind, message)


def test_serialisation_that_loops_is_a_timeout(arena: Arena) -> None:
    """The function's own containers run on the function's own time."""
    more = "class Endless(dict):\n    def items(self): spin()\n"
    aftermath = arena("return Endless(a=1)", more, timeout_s=0.5)

    assert (Status.TIMEOUT, 500.0) == (aftermath.result.status, aftermath.result.summary.duration_ms)
    assert not aftermath.instance_survived


@pytest.mark.slow
def test_serialisation_without_end_is_out_of_memory(arena: Arena) -> None:
    """A mapping that never runs out of items fills the function's memory, and is ended for it."""
    more = """
class Endless(dict):
    def items(self):
        for number in range(10 ** 9):
            yield ("k" * 1000 + str(number), number)
"""
    if_27 = more.replace("range(10 ** 9)", "iter(int, 1)")
    aftermath = arena("return Endless(a=1)", if_27, timeout_s=25.0)

    assert (Status.OUT_OF_MEMORY, 4205) == (aftermath.result.status, aftermath.result.error_code)
    assert not aftermath.instance_survived


def test_exit_while_serialising_is_a_function_error(arena: Arena) -> None:
    """SystemExit from inside a value is an exception of the function's like any other."""
    more = "class Leaving(dict):\n    def items(self): raise SystemExit(3)\n"
    aftermath = arena("return Leaving(a=1)", more)

    assert (Status.FUNCTION_ERROR, "SystemExit") == (aftermath.result.status, (aftermath.result.error or {})["errorType"])
    assert aftermath.instance_survived


LIARS = {
    "a number that prints as text": ("Number(5)", 5),
    "a float that prints as text": ("Real(0.5)", 0.5),
    "a text with other methods": ("Text('plain')", "plain"),
    "a list with other methods": ("[List([1, 2])]", [[1, 2]]),
}


@pytest.mark.parametrize(("value", "expected"), LIARS.values(), ids=LIARS)
def test_subclass_cannot_break_out_of_its_json(arena: Arena, value: str, expected: object) -> None:
    """Numbers, texts and lists are what they are underneath: nothing is injected into the reply."""
    more = """
class Number(int):
    __str__ = __repr__ = __format__ = lambda self, *args: '5, "more": 6'

class Real(float):
    __str__ = __repr__ = __format__ = lambda self, *args: '0.5]'

class Text(str):
    __str__ = __repr__ = encode = __getitem__ = lambda self, *args: '"'

class List(list):
    __iter__ = __getitem__ = __len__ = lambda self, *args: 1 / 0
"""
    aftermath = arena(f"return {value}", more)

    assert (Status.SUCCESS, expected) == (aftermath.result.status, aftermath.result.value)
    assert aftermath.instance_survived


HANDLERS = {
    "a generator function": (
        "def handler(event, context):\n    yield 1\n",
        Status.INVALID_RESULT,
        "generator is not JSON serializable",
    ),
    "a class": (
        "class handler(object):\n    def __init__(self, event, context):\n        pass\n",
        Status.INVALID_RESULT,
        "Object of type handler is not JSON serializable",
    ),
    "a C function of other arguments": ("handler = len\n", Status.FUNCTION_ERROR, "argument"),
    "a text": ("handler = 'handler'\n", Status.LOAD_ERROR, "is not callable"),
    "a generator": ("handler = iter([1])\n", Status.LOAD_ERROR, "is not callable"),
    "an object whose call raises": (
        "class H(object):\n    def __call__(self, *args):\n        raise ValueError('called')\nhandler = H()\n",
        Status.FUNCTION_ERROR,
        "called",
    ),
    "an object whose class lies": (
        "class H(object):\n    __class__ = property(lambda self: 1 / 0)\n    def __call__(self, *args):\n"
        "        raise ValueError('called')\nhandler = H()\n",
        None,
        "",
    ),
    "a coroutine function": (
        "async def handler(event, context):\n    return 1\n",
        Status.LOAD_ERROR,
        "handler 'handler' is a coroutine function: define it with def and run the coroutine inside it",
    ),
    "an asynchronous generator": (
        "async def handler(event, context):\n    yield 1\n",
        Status.LOAD_ERROR,
        "handler 'handler' is a coroutine function: define it with def and run the coroutine inside it",
    ),
    "a partial of a coroutine function": (
        "import functools\nasync def run(event, context):\n    return 1\nhandler = functools.partial(run)\n",
        Status.INVALID_RESULT,
        "coroutine is not JSON serializable",
    ),
}
