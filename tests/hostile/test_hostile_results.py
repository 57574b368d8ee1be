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


@pytest.mark.slow
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
    "a part that raises": ("[trap(fail)]", "RuntimeError", "never"),
    "an error of a hundred megabytes": ("trap(shout)", "Loud", "x" * 1000),
    "an error with hostile text": ("trap(mumble)", "Mumble", "the value could not be serialised"),
    "a list that raises": ("List([1])", "ZeroDivisionError", "division"),
    "a key of a megabyte": ("{'k' * 10 ** 6: object()}", "TypeError", "(at $.kkk"),
    "an object of an anonymous class": ("Anonymous()", "TypeError", "Object of type Masked is not JSON serializable"),
    "an object of a class with an endless name": ("type('N' * 10 ** 7, (), {})()", "TypeError", "Object of type NNNN"),
}


@pytest.mark.parametrize(("value", "kind", "message"), HOSTILE_VALUES.values(), ids=HOSTILE_VALUES)
def test_value_that_json_cannot_express_is_invalid(arena: Arena, value: str, kind: str, message: str) -> None:
    """Told with what is wrong and where, in bounded text; the instance serves on."""
    more = """
def fail():
    raise RuntimeError("never")

class Loud(Exception):
    def __str__(self): return "x" * 10 ** 8

def shout():
    raise Loud()

class Mumble(Exception):
    def __str__(self): raise RuntimeError("never")

def mumble():
    raise Mumble()

class List(list):
    __iter__ = __getitem__ = __len__ = lambda self, *args: 1 / 0

class Mask(type):
    __name__ = property(lambda cls: 1 / 0)

Anonymous = Mask("Masked", (), {})
"""
    _assert_invalid(arena(f"return {value}", more, memory_mb=1024, timeout_s=20.0), kind, message)


@pytest.mark.slow
def test_serialisation_that_loops_is_a_timeout(arena: Arena) -> None:
    """The function's own containers run on the function's own time."""
    aftermath = arena("return trap(spin)", timeout_s=0.5)

    assert (Status.TIMEOUT, 500.0) == (aftermath.result.status, aftermath.result.summary.duration_ms)
    assert not aftermath.instance_survived


@pytest.mark.slow
def test_serialisation_without_end_is_out_of_memory(arena: Arena) -> None:
    """Two gigabytes that are gathered while a return is written fill the function's memory, and end it."""
    more = """
def gather():
    hoard = []
    for _ in range(2000):
        hoard.append("x" * 10 ** 6)
"""
    aftermath = arena("return trap(gather)", more, timeout_s=25.0)

    assert (Status.OUT_OF_MEMORY, 4205) == (aftermath.result.status, aftermath.result.error_code)
    assert not aftermath.instance_survived


def test_exit_while_serialising_is_a_function_error(arena: Arena) -> None:
    """SystemExit from inside a value is an exception of the function's like any other."""
    aftermath = arena("return [trap(lambda: sys.exit(3))]")

    assert (Status.FUNCTION_ERROR, "SystemExit") == (
        aftermath.result.status,
        (aftermath.result.error or {})["errorType"],
    )
    assert aftermath.instance_survived


LIARS = {
    "a float that prints as text": ("Real(0.5)", 0.5),
    "a text with other methods": ("Text('plain')", "plain"),
}


@pytest.mark.parametrize(("value", "expected"), LIARS.values(), ids=LIARS)
def test_subclass_cannot_break_out_of_its_json(arena: Arena, value: str, expected: object) -> None:
    """Floats and texts are what they are underneath: nothing is injected into the reply."""
    more = """
class Real(float):
    __str__ = __repr__ = __format__ = lambda self, *args: '0.5]'

class Text(str):
    __str__ = __repr__ = encode = __getitem__ = lambda self, *args: '"'
"""
    aftermath = arena(f"return {value}", more)

    assert (Status.SUCCESS, expected) == (aftermath.result.status, aftermath.result.value)
    assert aftermath.instance_survived
