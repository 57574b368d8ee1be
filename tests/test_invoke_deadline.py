"""Deadlines: whatever a function does, it ends when its time is over, with everything that it started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from engine import Engine, Status

if TYPE_CHECKING:
    from engine import Result
    from tests.conftest import FunctionMaker, Invoker

pytestmark = pytest.mark.slow  # each of these runs into a deadline of half a second

TIMEOUT_S = 0.5
"""Those that do not hang keep it also where others have the processor for a while."""

HANGS = {
    "busy loop": "while True: pass",
    "sleep": "time.sleep(30)",
    "sleep again and again": "while True: time.sleep(0.001)",
    "regular expression that never ends": "re.match(r'(a+)+$', 'a' * 64 + 'b')",
    "number too large to compute": "pow(3, 10 ** 9)",
    "C code that holds the GIL": "ctypes.PyDLL(None).sleep(30)",
    "C code that does not": "ctypes.CDLL(None).sleep(30)",
    "read from a pipe": "os.read(os.pipe()[0], 1)",
    "lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "SIGTERM ignored": "ctypes.CDLL(None).signal(15, ctypes.c_void_p(1)); time.sleep(30)",
    "all signals blocked": "block_all_signals(); time.sleep(30)",
    "exceptions swallowed": "swallow()",
    # The signal may reach another thread first, so this one must have more to do.
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP); time.sleep(30)",
    "output without end": "while True: os.write(1, b'x' * 65536)",
    "threads": "start_threads(); time.sleep(30)",
    "a subprocess awaited": "subprocess.call(['sleep', '30'])",
    "a shell awaited": "os.system('sleep 30')",
}

HANGING = """
    import ctypes, os, re, signal, subprocess, threading, time

    def block_all_signals():
        libc = ctypes.CDLL(None)
        signals = (ctypes.c_ulong * 16)()
        libc.sigfillset(signals)
        libc.pthread_sigmask(0, signals, None)

    def swallow():
        while True:
            try:
                time.sleep(30)
            except BaseException:
                pass

    def start_threads():
        for _ in range(20):
            threading.Thread(target=swallow).start()

    def handler(event, context):
        if event == "hang":
            %s
        return os.getpid()
"""


def _assert_timeout(result: Result, timeout_s: float = TIMEOUT_S) -> None:
    assert (Status.TIMEOUT, 4010, None) == (result.status, result.error_code, result.value)
    assert {
        "errorMessage": f"call invoke timeout {timeout_s:g}s",
        "errorType": "timeout",
        "stackTrace": [],
    } == result.error
    assert timeout_s * 1000 == result.summary.duration_ms
    assert timeout_s * 1000 == result.summary.billed_duration_ms


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS)
def test_function_that_hangs_is_a_timeout_and_the_next_start_is_cold(
    engine: Engine, make_function: FunctionMaker, hang: str
) -> None:
    """Killed at the deadline, billed to the deadline, replaced by a new instance."""
    function = make_function(HANGING % hang, timeout_s=TIMEOUT_S)
    before = engine.invoke(function, None)
    hung = engine.invoke(function, "hang")
    after = engine.invoke(function, None)

    _assert_timeout(hung)
    assert (False, True) == (hung.cold_start, after.cold_start)
    assert Status.SUCCESS is after.status
    assert before.value != after.value
    assert not psutil.pid_exists(before.value)


def test_main_thread_function_with_a_signal_handler_is_a_timeout(invoke: Invoker) -> None:
    """On the main thread a function can really ignore SIGTERM; that does not help it."""
    source = """
        import signal

        def handler(event, context):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
                signal.signal(number, signal.SIG_IGN)
            while True:
                pass
    """
    _assert_timeout(invoke(source, main_thread=True, timeout_s=TIMEOUT_S))


FAMILY = """
    import json, os, signal, subprocess, time

    def child():
        process = subprocess.Popen(["sleep", "30"])
        return [process.pid]

    def daemon():
        # Forked twice and in a session of its own: not our child, not our group, not our session.
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in (signal.SIGHUP, signal.SIGTERM):
                    os.system("true")
                os.write(writing, str(os.getpid()).encode())
                os.close(0), os.close(1), os.close(2)
                time.sleep(30)
            os._exit(0)
        return [int(os.read(reading, 20))]

    def shell_with_children():
        process = subprocess.Popen(
            ["sh", "-c", "sleep 30 & echo $!; setsid sleep 30 & echo $!; echo $$; wait"], stdout=subprocess.PIPE
        )
        return [int(process.stdout.readline()) for _ in range(3)]

    def handler(event, context):
        if event is None:
            return "fine"
        pids = [os.getpid()] + child() + daemon() + shell_with_children()
        with open(event["pids"], "w") as out:
            json.dump(pids, out)
        if event.get("die"):
            os._exit(1)
        if event.get("return"):
            return pids
        time.sleep(30)
"""


def test_timeout_takes_the_whole_family(engine: Engine, make_function: FunctionMaker, tmp_path: Path) -> None:
    """Children, grandchildren, daemons in sessions of their own: the very pids that were reported are gone."""
    function = make_function(FAMILY, timeout_s=2.0)
    result = engine.invoke(function, {"pids": str(tmp_path / "pids")})
    pids = json.loads((tmp_path / "pids").read_text())

    _assert_timeout(result, 2.0)
    assert 6 == len(pids)
    assert [] == [pid for pid in pids if psutil.pid_exists(pid)]
    assert "fine" == engine.invoke(function, None).value


def test_death_takes_the_whole_family(engine: Engine, make_function: FunctionMaker, tmp_path: Path) -> None:
    """An instance that ends by itself leaves nobody behind either."""
    function = make_function(FAMILY, timeout_s=10.0)
    result = engine.invoke(function, {"pids": str(tmp_path / "pids"), "die": True})
    pids = json.loads((tmp_path / "pids").read_text())

    assert Status.EXITED is result.status
    assert [] == [pid for pid in pids if psutil.pid_exists(pid)]


def test_family_of_a_finished_invocation_lives_with_the_instance(
    engine: Engine, make_function: FunctionMaker, tmp_path: Path
) -> None:
    """What a function leaves running after a normal return goes on, as on the platform, and dies with the instance."""
    function = make_function(FAMILY, timeout_s=10.0)
    result = engine.invoke(function, {"pids": str(tmp_path / "pids"), "return": True})
    alive_before = [pid for pid in result.value if psutil.pid_exists(pid)]
    engine.release_idle()

    assert result.value == alive_before
    assert [] == [pid for pid in result.value if psutil.pid_exists(pid)]


def test_initializer_has_its_own_deadline(engine: Engine, make_function: FunctionMaker) -> None:
    """Its status, its number, its text; the instance is abandoned, and the handler's timeout has no say."""
    function = make_function(
        """
        import time

        def initializer(context):
            print("initializing")
            time.sleep(30)

        def handler(event, context):
            return "never"
        """,
        initializer="index.initializer",
        initializer_timeout_s=TIMEOUT_S,
        timeout_s=20.0,
    )
    for _ in range(2):
        result = engine.invoke(function, None)

        assert (Status.INITIALIZER_TIMEOUT, 4211, True) == (result.status, result.error_code, result.cold_start)
        assert {
            "errorMessage": "runtime initialization timed out after 0.5s",
            "errorType": "initializer_timeout",
            "stackTrace": [],
        } == result.error
        assert "initializing\n" == result.log
        assert TIMEOUT_S * 1000 == result.summary.initializer_duration_ms


def test_loading_has_its_own_deadline(invoke: Invoker) -> None:
    """An import that does not end is told as such."""
    result = invoke(
        "import time\n\ntime.sleep(30)\n\ndef handler(event, context):\n    return 1\n", load_timeout_s=TIMEOUT_S
    )

    assert (Status.LOAD_TIMEOUT, 4012) == (result.status, result.error_code)
    assert {
        "errorMessage": "load function timed out after 0.5s",
        "errorType": "load_timeout",
        "stackTrace": [],
    } == result.error


def test_slow_import_and_initializer_take_nothing_from_the_handlers_time(invoke: Invoker) -> None:
    """Each phase has its own clock: together they may last longer than timeout_s."""
    source = """
        import time

        time.sleep(0.6)

        def initializer(context):
            time.sleep(0.6)

        def handler(event, context):
            return context.getRemainingTimeInMilliSeconds()
    """
    result = invoke(source, initializer="index.initializer", timeout_s=TIMEOUT_S)

    assert Status.SUCCESS is result.status
    assert 0 < result.value <= 500


def test_a_whole_number_of_seconds_is_shown_as_one(invoke: Invoker) -> None:
    """1.0 is 1s in the message, as the platform writes it."""
    _assert_timeout(
        invoke("while_true = 1\ndef handler(event, context):\n    while while_true: pass\n", timeout_s=1.0), 1.0
    )


def test_timeouts_run_beside_each_other(own_engine: Engine, make_function: FunctionMaker) -> None:
    """Several invocations that hang at once each end at their own deadline."""
    functions = [
        make_function("import time\n\ndef handler(event, context):\n    time.sleep(30)\n", timeout_s=timeout_s)
        for timeout_s in (0.25, 0.3, 0.35)
    ]
    running = [own_engine.submit(function, None) for function in functions]

    for function, future in zip(functions, running, strict=True):
        _assert_timeout(future.result(), function.timeout_s)
