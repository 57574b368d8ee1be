"""Instances that die of themselves or of others: EXITED says how, and the next invocation works."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine import Engine, Result, Status

if TYPE_CHECKING:
    from tests.conftest import DeathWatch, FunctionMaker

DEATHS = {
    "os._exit(3)": "exit status 3",
    "os._exit(0)": "exit status 0",
    "ctypes.string_at(0)": "signal SIGSEGV",
    "os.abort()": "signal SIGABRT",
    "os.kill(os.getpid(), signal.SIGKILL)": "signal SIGKILL",
    "os.kill(os.getpid(), signal.SIGTERM)": "signal SIGTERM",
    "resource.setrlimit(resource.RLIMIT_CPU, (0, 0)) or [0 for _ in iter(int, 1)]": "signal SIG",
}


def _assert_exited(result: Result, how: str) -> None:
    assert (Status.EXITED, 4204, None) == (result.status, result.error_code, result.value)
    assert result.error is not None
    assert ("exited", []) == (result.error["errorType"], result.error["stackTrace"])
    assert result.error["errorMessage"].startswith(f"runtime process is exited, {how}")


@pytest.mark.parametrize(("death", "how"), DEATHS.items(), ids=DEATHS)
def test_death_in_a_handler_is_told_and_the_next_invocation_works(
    engine: Engine, make_function: FunctionMaker, death: str, how: str
) -> None:
    """Exit status or signal by name; a new instance takes over, and the failure is billed."""
    function = make_function(
        f"""
        import ctypes, os, resource, signal

        def handler(event, context):
            if event == "die":
                {death}
            return os.getpid()
        """
    )
    before = engine.invoke(function, None)
    died = engine.invoke(function, "die")
    after = engine.invoke(function, None)

    _assert_exited(died, how)
    assert died.summary.billed_duration_ms >= 1
    assert after.cold_start
    assert before.value != after.value


@pytest.mark.parametrize("where", ["import", "initializer"])
def test_death_before_the_handler_is_told_as_well(
    engine: Engine, make_function: FunctionMaker, tmp_path: Path, where: str
) -> None:
    """Load and initializer are no blind spots, and the next invocation starts over."""
    source = f"""
        import os

        def die_once(where):
            if where == "{where}" and not os.path.exists(os.environ["FLAG"]):
                open(os.environ["FLAG"], "w").close()
                os._exit(4)

        die_once("import")

        def initializer(context):
            die_once("initializer")

        def handler(event, context):
            return "fine"
    """
    function = make_function(source, initializer="index.initializer", user_data={"FLAG": str(tmp_path / "flag")})

    _assert_exited(engine.invoke(function, None), "exit status 4")
    assert "fine" == engine.invoke(function, None).value


def test_kill_from_outside_ends_the_invocation(
    own_engine: Engine, make_function: FunctionMaker, tmp_path: Path
) -> None:
    """Somebody's SIGKILL in the middle of an invocation is EXITED, and not a hang or an exception."""
    os.mkfifo(tmp_path / "pid")
    function = make_function(
        """
        import os
        import time

        def handler(event, context):
            if event:
                with open(event, "w") as fifo:
                    fifo.write(str(os.getpid()))
                time.sleep(30)
            return "fine"
        """,
        timeout_s=30.0,
    )
    running = own_engine.submit(function, str(tmp_path / "pid"))
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    _assert_exited(running.result(), "signal SIGKILL")
    assert "fine" == own_engine.invoke(function, None).value


def test_kill_of_an_idle_instance_costs_no_invocation(
    engine: Engine, make_function: FunctionMaker, wait_until_dead: DeathWatch
) -> None:
    """An instance that died while nobody used it is replaced before the next request is sent to it."""
    function = make_function("import os\n\ndef handler(event, context):\n    return os.getpid()\n")
    first = engine.invoke(function, None)
    os.kill(first.value, signal.SIGKILL)
    wait_until_dead(first.value)

    second = engine.invoke(function, None)

    assert (Status.SUCCESS, True) == (second.status, second.cold_start)
    assert first.value != second.value


def test_closing_every_descriptor_ends_in_a_result(engine: Engine, make_function: FunctionMaker) -> None:
    """A function that closes what it should not is the loser of it, and nobody else."""
    function = make_function(
        """
        import os

        def handler(event, context):
            if event == "close":
                os.closerange(3, 4096)
            return "fine"
        """,
        timeout_s=0.5,
    )
    closed = engine.invoke(function, "close")

    assert closed.status in (Status.EXITED, Status.TIMEOUT)
    assert "fine" == engine.invoke(function, None).value


def test_work_left_in_a_thread_does_not_end_the_instance(engine: Engine, make_function: FunctionMaker) -> None:
    """A thread that fails after the handler returned is the function's own affair."""
    function = make_function(
        """
        import os
        import threading

        def fail():
            raise SystemExit(5)

        def handler(event, context):
            thread = threading.Thread(target=fail)
            thread.start()
            thread.join()
            return os.getpid()
        """
    )
    first, second = engine.invoke(function, None), engine.invoke(function, None)

    assert (first.value, False) == (second.value, second.cold_start)


def test_a_copy_that_returns_from_the_handler_serves_nobody(
    engine: Engine, make_function: FunctionMaker, wait_until_dead: DeathWatch
) -> None:
    """A forked child that forgets to exit ends there: two processes must not read the same requests."""
    function = make_function(
        """
        import os

        def handler(event, context):
            return [os.fork() if event == "fork" else None, os.getpid()]
        """
    )
    first = engine.invoke(function, None).value[1]
    child, parent = engine.invoke(function, "fork").value
    wait_until_dead(child)

    assert first == parent
    assert [[None, first]] * 5 == [engine.invoke(function, None).value for _ in range(5)]
