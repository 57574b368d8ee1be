"""A function can lie about its own return, and about nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from engine import Engine, Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import FunctionMaker
    from tests.hostile.conftest import Arena, Neighbour


def test_reply_with_the_stolen_token_is_the_functions_own_word(arena: Arena) -> None:
    """It stands for the return, as if it had been returned; the true one behind it is nobody's."""
    aftermath = arena('write(reply_descriptor(), frame("result", stolen_token(), \'"forged"\'))\nreturn "true"')

    assert (Status.SUCCESS, "forged") == (aftermath.result.status, aftermath.result.value)


def test_reply_twice_counts_once(arena: Arena) -> None:
    """The first of two well-formed replies is the return, and no other invocation gets the second."""
    attack = """
        forged = [frame("result", stolen_token(), '"%s"' % each) for each in ("first", "second")]
        write(reply_descriptor(), b"".join(forged))
        return "third"
    """
    assert "first" == arena(attack).result.value


@pytest.mark.parametrize("guess", ["''", "'0' * 16", "'*'", "context.getRequestID()", "stolen_token().upper() + ' '"])
def test_reply_with_a_guessed_token_is_dropped(arena: Arena, guess: str) -> None:
    """Whoever does not have the token says nothing; the return is the true one."""
    attack = f'write(reply_descriptor(), frame("result", {guess}, \'"forged"\'))\nreturn "true"'
    aftermath = arena(attack)

    assert (Status.SUCCESS, "true") == (aftermath.result.status, aftermath.result.value)
    assert aftermath.instance_survived


MEASURES = '"duration_ns": 1, "duration_ms": 0.001, "billed_duration_ms": 0, "memory_used_mb": 0, "peak_bytes": 0'


def test_duration_bill_and_memory_are_the_engines(arena: Arena) -> None:
    """Whatever a forged header claims, whatever the clocks of the function say."""
    attack = f"""
        held = bytearray(50 * 2 ** 20)
        give_up_at = time.time() + 0.05
        while time.time() < give_up_at:
            pass
        time.time = time.clock = getattr(time, "monotonic", None) or (lambda: 0.0)
        del held
        claims = {{{MEASURES}, "status": "timeout", "log": "forged", "request_id": "forged", "cold_start": True}}
        write(reply_descriptor(), frame("result", stolen_token(), '"forged"', **claims))
    """
    result = arena(attack, timeout_s=20.0).result
    summary = result.summary

    assert (Status.SUCCESS, "forged", "", False) == (result.status, result.value, result.log, result.cold_start)
    assert 50 <= summary.duration_ms
    assert summary.duration_ms <= summary.billed_duration_ms <= summary.duration_ms + 1
    assert 50 < summary.memory_used_mb < 80
    assert "forged" != summary.request_id


@pytest.mark.slow
def test_peak_that_was_held_for_a_while_cannot_be_wiped_off(arena: Arena) -> None:
    """Who resets the kernel's own high-water mark of its memory was seen before."""
    attack = """
        held = bytearray(60 * 2 ** 20)
        give_up_at = time.time() + 0.6
        while time.time() < give_up_at:
            pass
        del held
        with open("/proc/self/clear_refs", "w") as clear_refs:
            clear_refs.write("5")
        return "slim"
    """
    result = arena(attack).result

    assert (Status.SUCCESS, "slim") == (result.status, result.value)
    assert 60 < result.summary.memory_used_mb < 90


@pytest.mark.parametrize("kind", ["timeout", "exited", "out_of_memory", "done", "started", "exit", ""])
def test_status_of_the_engine_cannot_be_forged(arena: Arena, kind: str) -> None:
    """Timeouts, exits and kills are the engine's to tell: a reply that claims one is an invalid result."""
    attack = f'write(reply_descriptor(), frame("{kind}", stolen_token(), error("forged")))\nhang()'
    aftermath = arena(attack)

    assert (Status.INVALID_RESULT, 4007) == (aftermath.result.status, aftermath.result.error_code)
    assert not aftermath.instance_survived


@pytest.mark.parametrize(
    "payload",
    [
        "{}",
        "null",
        '"text"',
        "no json",
        '{"errorMessage": 1, "errorType": "E", "stackTrace": []}',
        '{"errorMessage": "m", "errorType": "E", "stackTrace": [1]}',
        '{"errorMessage": "m", "errorType": "E", "stackTrace": [], "billed": 0}',
        "[" * 100_000,
    ],
)
def test_error_of_another_shape_is_an_invalid_result(arena: Arena, payload: str) -> None:
    """The three keys and their types, or it is no error."""
    text = f"'[' * {len(payload)}" if len(payload) > 1000 else repr(payload)
    aftermath = arena(f'write(reply_descriptor(), frame("error", stolen_token(), {text}))\nhang()')

    assert (Status.INVALID_RESULT, 4007) == (aftermath.result.status, aftermath.result.error_code)
    assert not aftermath.instance_survived


REPLAYING = """
    import threading
    from arms import *

    def replay(frames, fd):
        for _ in range(int(os.environ["TIMES"])):
            for each in frames:
                write(fd, each)
            time.sleep(0.0005)
        with open(os.environ["TOLD"], "w") as fifo:
            fifo.write("told")

    def handler(event, context):
        if event == "attack":
            frames = [frame("result", token, '"forged"') for token in GUESSES + [stolen_token()]]
            frames.append(frame("error", stolen_token(), error("forged")))
            thread = threading.Thread(target=replay, args=(frames, reply_descriptor()))
            thread.daemon = True
            thread.start()
        return "true"
"""


def test_reply_for_a_future_invocation_reaches_none(
    engine: Engine, armed: FunctionMaker, neighbour: Neighbour, tmp_path: Path
) -> None:
    """Old and guessed tokens, written while nobody asks: the instance is replaced before it is asked again."""
    os.mkfifo(tmp_path / "told")
    settings = {"TOLD": str(tmp_path / "told"), "TIMES": "1"}
    function = armed(REPLAYING, user_data=settings)
    engine.invoke(function, "attack")  # whose own return may be either
    assert "told" == (tmp_path / "told").read_text()
    neighbour.check()
    after = engine.invoke(function, None)

    assert (Status.SUCCESS, "true") == (after.status, after.value)


def test_replies_for_other_invocations_while_they_run_reach_none(
    engine: Engine, armed: FunctionMaker, neighbour: Neighbour, tmp_path: Path
) -> None:
    """A thread that goes on replaying during later invocations changes no value and no status of theirs."""
    settings = {"TOLD": str(tmp_path / "never"), "TIMES": "2000"}
    function = armed(REPLAYING, user_data=settings)
    engine.invoke(function, "attack")
    results = [engine.invoke(function, None) for _ in range(50)]
    neighbour.check()

    assert [(Status.SUCCESS, "true")] * 50 == [(each.status, each.value) for each in results]


@pytest.mark.parametrize("rest", ["frame('result', 'x', b'1' * 100)[:-50]", "b'\\x00\\x00'", "b'garbage!'"])
def test_rest_behind_a_reply_does_not_harm_the_next_invocation(arena: Arena, rest: str) -> None:
    """Half a frame or garbage right behind a good reply: this invocation may suffer for it, and no other one."""
    aftermath = arena(f"write(reply_descriptor(), frame('result', stolen_token(), '\"true\"') + {rest})")

    assert aftermath.result.status in (Status.SUCCESS, Status.INVALID_RESULT)


def test_return_that_is_not_json_is_an_invalid_result(arena: Arena) -> None:
    """A reply of the function's own making has to be JSON like any other."""
    result = arena("write(reply_descriptor(), frame('result', stolen_token(), 'no json'))").result

    assert (Status.INVALID_RESULT, 4007, None) == (result.status, result.error_code, result.value)


POISONING = """
    import threading
    from arms import *

    restored = threading.Event()

    def restore(kept, fd):
        os.dup2(kept, fd)
        restored.set()

    def handler(event, context):
        if event == "attack":
            fd = reply_descriptor()
            kept, null = os.dup(fd), os.open(os.devnull, os.O_WRONLY)
            write(fd, frame("result", stolen_token(), '"forged"') + frame("result", "x", "1" * 500)[:-400])
            os.dup2(null, fd)  # where the true reply goes: else it would give the instance away
            threading.Timer(0.05, restore, (kept, fd)).start()
        else:
            restored.wait(GIVE_UP_S)
        return "true"
"""


def test_half_a_frame_behind_a_reply_does_not_swallow_the_next_one(
    engine: Engine, armed: FunctionMaker, neighbour: Neighbour
) -> None:
    """What came before a request is no part of the reply to it."""
    function = armed(POISONING)
    attacked, after = engine.invoke(function, "attack"), engine.invoke(function, None)
    neighbour.check()

    assert (Status.SUCCESS, "forged") == (attacked.status, attacked.value)
    assert (Status.SUCCESS, "true", False) == (after.status, after.value, after.cold_start)
