"""Functions that print: without end, in one line, after their time, and into other invocations' logs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from engine import Engine, Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import FunctionMaker
    from tests.hostile.conftest import Arena, Neighbour


@pytest.mark.slow
@pytest.mark.parametrize("printing", ["print('line')", "os.write(2, b'line\\n' * 10000)", "os.system('echo line')"])
def test_printing_without_end_is_a_timeout(arena: Arena, printing: str) -> None:
    """Killed at the deadline, with the newest 4096 bytes and the count of all that was dropped."""
    attack = f"give_up_at = time.time() + GIVE_UP_S\nwhile time.time() < give_up_at:\n    {printing}"
    result = arena(attack, timeout_s=0.5).result

    assert (Status.TIMEOUT, 500.0) == (result.status, result.summary.duration_ms)
    assert len(result.log) <= 4096
    assert {"line"} >= set(result.log.splitlines()[1:-1])
    assert result.log_dropped_bytes > 4096 or "echo" in printing


@pytest.mark.slow
def test_line_of_a_gigabyte_leaves_its_end(arena: Arena) -> None:
    """A gigabyte without a line break through a log of 4 KB, under a memory limit of 128 MB."""
    attack = """
        line = b"x" * 2 ** 20
        for _ in range(1024):
            write(1, line)
        write(1, b"end")
        return "printed"
    """
    aftermath = arena(attack, timeout_s=25.0, memory_mb=128)

    assert (Status.SUCCESS, "printed") == (aftermath.result.status, aftermath.result.value)
    assert "x" * 4093 + "end" == aftermath.result.log
    assert 2**30 - 4093 == aftermath.result.log_dropped_bytes
    assert aftermath.instance_survived


@pytest.mark.slow
def test_line_of_a_gigabyte_in_memory_is_out_of_memory(arena: Arena) -> None:
    """The text itself does not fit."""
    aftermath = arena("print('x' * 2 ** 30)\nreturn 'printed'", timeout_s=25.0, memory_mb=128)

    assert (Status.OUT_OF_MEMORY, 4205) == (aftermath.result.status, aftermath.result.error_code)
    assert not aftermath.instance_survived


def test_output_that_is_no_text_is_shown(arena: Arena) -> None:
    """Bytes that are no UTF-8 become U+FFFD, and terminal commands stay what they are."""
    aftermath = arena("write(1, b'\\xff\\xfe\\x00\\x1b[2J')\nreturn 1")

    assert "\ufffd\ufffd\x00\x1b[2J" == aftermath.result.log


LATE = """
    import threading
    from arms import *

    def speak(events):
        for event in events:
            event.wait(GIVE_UP_S)
            write(1, b"late\\n")
            with open(os.environ["TOLD"], "w") as fifo:
                fifo.write("told")

    def handler(event, context):
        if event == "attack":
            now = threading.Event()
            thread = threading.Thread(target=speak, args=([now],))
            thread.daemon = True
            thread.start()
            write(1, b"in time\\n")
            threading.Timer(0.02, now.set).start()
        return "calm"
"""


def test_output_between_invocations_is_in_no_log(
    engine: Engine, armed: FunctionMaker, neighbour: Neighbour, tmp_path: Path
) -> None:
    """A thread that waits for the end of its invocation to print cannot put words into the next one's log."""
    os.mkfifo(tmp_path / "told")
    function = armed(LATE, user_data={"TOLD": str(tmp_path / "told")})
    attacked = engine.invoke(function, "attack")
    assert "told" == (tmp_path / "told").read_text()
    neighbour.check()
    after = engine.invoke(function, None)

    assert ["in time"] == attacked.log.splitlines()[:1]
    assert ("calm", "", False) == (after.value, after.log, after.cold_start)


def test_forged_frame_of_a_log_stays_inside_it(arena: Arena) -> None:
    """Who prints the platform's own lines prints them into its own log: the first and the last line are ours."""
    forged = "Finish invoke request 'forged', duration: 0.001ms, billing duration: 0ms, memory used: 0.001MB"
    result = arena(f'print("{forged}")').result
    lines = result.render_log().splitlines()

    assert forged == lines[1]
    assert f"Start invoke request '{result.summary.request_id}'" in lines[0]
    assert f"Finish invoke request '{result.summary.request_id}'" in lines[-1]
    assert f"billing duration: {result.summary.billed_duration_ms}ms" in lines[-1]
