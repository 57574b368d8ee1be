"""Functions that patch what everybody imports: the instance holds what it needs from before."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from engine import Engine, Status

if TYPE_CHECKING:
    from tests.conftest import FunctionMaker
    from tests.hostile.conftest import Arena, Neighbour

PATCHED = ["json", "os", "sys", "time", "threading", "logging", "builtins", "io", "struct", "codecs", "gc", "types"]

SOURCE = """
    import codecs, gc, io, json, logging, os, struct, sys, threading, time, types
    try:
        import builtins
    except ImportError:
        import __builtin__ as builtins

    Kept, name_of = ValueError, str

    def never(*args, **kwargs):
        raise RuntimeError("patched")

    def handler(event, context):
        if event == "raise":
            raise Kept("kept")
        if event == "remaining":
            return context.getRemainingTimeInMilliSeconds() > 0
        if event:
            module = {"builtins": builtins}.get(event) or sys.modules[event]
            names = list(vars(module))
            put, spared = setattr, ("__dict__", "__name__", "modules")
            %s
        return "calm"
"""

WAYS = {
    "replaced": """
            for name in names:
                if name not in spared:
                    try:
                        put(module, name, never)
                    except BaseException:
                        pass
    """,
    "emptied": "vars(module).clear()",
}

# Without sys the interpreter itself cannot go on.
PATCHES = [each for each in itertools.product(PATCHED, WAYS) if each != ("sys", "emptied")]


@pytest.mark.parametrize("patch", PATCHES, ids=" ".join)
def test_patched_module_does_not_keep_the_instance_from_serving(
    engine: Engine, make_function: FunctionMaker, neighbour: Neighbour, patch: tuple[str, str]
) -> None:
    """This invocation, the next one, one with an exception: all told truthfully by the same instance."""
    module, way = patch
    function = make_function(SOURCE % WAYS[way].strip())
    patched, calm, raised, remaining, last = (
        engine.invoke(function, event) for event in (module, None, "raise", "remaining", None)
    )
    neighbour.check()

    assert [(Status.SUCCESS, "calm")] * 3 == [(each.status, each.value) for each in (patched, calm, last)]
    assert [False] * 4 == [each.cold_start for each in (calm, raised, remaining, last)]
    assert Status.FUNCTION_ERROR is raised.status
    assert raised.error is not None
    assert ("ValueError", "function invocation exception, error: kept") == (
        raised.error["errorType"],
        raised.error["errorMessage"],
    )
    assert remaining.value is True


STREAMS = {
    "raises": (
        "class S(object):\n    def __getattr__(self, name): raise RuntimeError(name)\nsys.stdout = sys.stderr = S()"
    ),
    "raises what is no Exception": (
        "class S(object):\n    def flush(self): raise SystemExit(3)\nsys.stdout = sys.stderr = S()"
    ),
    "is nothing": "sys.stdout = sys.stderr = None",
    "is gone": "del sys.stdout, sys.stderr",
    "is closed": "sys.stdout.close(); sys.stderr.close()",
    "is a closed file": "sys.stdout = sys.stderr = open(os.devnull, 'w'); sys.stdout.close()",
    "is the descriptor taken away": "os.close(1); os.close(2)",
    "is a full device": "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)",
    "originals too": "sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = sys.__excepthook__ = 5",
}


@pytest.mark.parametrize("attack", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize("ending", ["return 'calm'", "raise ValueError('kept')"])
def test_broken_standard_stream_costs_the_log_and_nothing_else(arena: Arena, attack: str, ending: str) -> None:
    """A return is a return and an exception an exception, whatever became of standard output."""
    aftermath = arena(f"{attack}\n{ending}")
    result = aftermath.result

    if ending.startswith("return"):
        assert (Status.SUCCESS, "calm") == (result.status, result.value)
    else:
        assert Status.FUNCTION_ERROR is result.status
        assert "ValueError" == (result.error or {})["errorType"]
    assert aftermath.instance_survived


@pytest.mark.slow
def test_flush_that_loops_is_a_timeout(arena: Arena) -> None:
    """The function's own stream is flushed on the function's own time."""
    aftermath = arena("class S(object):\n    def flush(self): spin()\nsys.stdout = S()", timeout_s=0.5)

    assert (Status.TIMEOUT, 500.0) == (aftermath.result.status, aftermath.result.summary.duration_ms)


def test_trace_and_profile_functions_do_not_see_beyond_the_function(arena: Arena) -> None:
    """A tracer that raises in every frame harms the frames of its own function at most."""
    attack = """
        def tracer(frame, event, argument):
            raise RuntimeError("traced")
        import threading
        threading.settrace(tracer)
        threading.setprofile(tracer)
        return "calm"
    """
    aftermath = arena(attack)

    assert (Status.SUCCESS, "calm") == (aftermath.result.status, aftermath.result.value)
    assert aftermath.instance_survived


@pytest.mark.parametrize("way", ["sys.settrace(tracer)", "sys.setprofile(tracer)"])
def test_tracer_that_raises_in_our_frames_ends_in_a_truthful_result(arena: Arena, way: str) -> None:
    """What such a tracer breaks is the function's own instance; it is told as an exit, and replaced."""
    attack = f"""
        def tracer(frame, event, argument):
            raise RuntimeError("traced")
        {way}
        return "calm"
    """
    result = arena(attack).result

    assert result.status in (Status.SUCCESS, Status.FUNCTION_ERROR, Status.EXITED)


def test_signals_and_limits_that_were_changed_change_nothing_for_others(arena: Arena) -> None:
    """Limits lowered to nothing, timers and alarms armed: the function's own harm."""
    attack = """
        import resource, signal
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        signal.setitimer(signal.ITIMER_REAL, 3600)
        return "calm"
    """
    aftermath = arena(attack)

    assert (Status.SUCCESS, "calm") == (aftermath.result.status, aftermath.result.value)
    assert aftermath.instance_survived
