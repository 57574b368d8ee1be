"""Mistakes that a review found in what hosts may do; each host is a program of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from engine import Engine, RuntimeNotFoundError
from tests.conftest import REQUIRED_RUNTIMES

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 20
"""A host that waits once for what never comes takes longer: the engine gives up after 30 seconds."""

SOURCE = """
    import os
    import signal
    import subprocess
    import time

    def handler(event, context):
        if event == "sleep":
            time.sleep(60)
        if event == "exit":
            os._exit(3)
        if event == "signals":
            terminated = subprocess.Popen(["sleep", "60"])
            terminated.terminate()
            with open("/proc/self/task/%d/status" % os.getpid()) as status:
                # Not 32 and 33: they are glibc's, whose posix_spawn (make uses it) has them ignored.
                masks = [int(line.split()[1], 16) for line in status if line.startswith(("SigBlk:", "SigIgn:"))]
                masks = [("%x" % (mask & ~(3 << 31))).lstrip("0") for mask in masks]
            ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
            return [terminated.wait() == -signal.SIGTERM, ours, masks]
        if event == "descriptors":
            opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
            for each in opened:
                os.close(each)
            return len(opened)
"""

HOST = """
    import dataclasses, resource, signal, sys, threading
    from engine import Engine, Function

    def on_every_runtime(act):
        for runtime in sys.argv[2:]:
            function = Function(code=sys.argv[1], handler="index.handler", runtime=runtime, timeout_s=20.0)
            print(runtime, *act(function))

    def run(function, event):
        if event == "sleep":
            function = dataclasses.replace(function, timeout_s=0.3)
        result = engine.invoke(function, event)
        return result.value if result.ok else result.status.value
"""


@pytest.fixture(scope="module")
def runtimes(engine: Engine) -> list[str]:
    """All of the three that are there: starting a host takes longer than asking it about one more."""
    found = []
    for label in REQUIRED_RUNTIMES:
        try:
            engine.warm_up([label])
        except RuntimeNotFoundError:
            continue  # the runtime fixture of the other tests says so
        found.append(label)
    return found


def output_of(program: str, tmp_path: Path, runtimes: list[str]) -> list[str]:
    """What a host tells about each runtime, which ends well, in time, and without a word of complaint."""
    code = tmp_path / "index.py"
    code.write_text(textwrap.dedent(SOURCE), encoding="utf-8")
    source = textwrap.dedent(HOST) + textwrap.dedent(program)
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", source, str(code), *runtimes]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=PATIENCE_S)

    assert ("", 0) == (done.stderr, done.returncode)
    return done.stdout.splitlines()


@pytest.mark.slow
def test_thread_that_blocks_the_signal_of_a_childs_end_gets_its_timeouts(tmp_path: Path, runtimes: list[str]) -> None:
    """A mask goes from the thread that starts a zygote into the zygote, which then never learns of a death."""
    program = """
        def work():
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
            with Engine() as there:
                globals()["engine"] = there
                on_every_runtime(lambda function: [run(function, event) for event in ("sleep", None, "sleep")])

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """

    assert [f"{each} timeout None timeout" for each in runtimes] == output_of(program, tmp_path, runtimes)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_signals_that_a_host_ignores_or_blocks_are_as_ever_for_a_function(
    tmp_path: Path, runtimes: list[str], method: str
) -> None:
    """What it starts can be terminated, Control-C is what it is, and a timeout is one."""
    program = f"""
        for number in signal.valid_signals() - {{signal.SIGKILL, signal.SIGSTOP}}:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with Engine(start_method="{method}") as engine:
            on_every_runtime(lambda function: [*run(function, "signals"), run(function, "sleep")])
        """
    ignored = 1 << 13 - 1 | 1 << 25 - 1  # SIGPIPE and SIGXFSZ, by every interpreter
    expected = f"True True ['', '{ignored:x}'] timeout"

    assert [f"{each} {expected}" for each in runtimes] == output_of(program, tmp_path, runtimes)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_host_of_few_descriptors_has_functions_of_many(tmp_path: Path, runtimes: list[str], method: str) -> None:
    """Its soft limit of 40 is its own: a function may open those of its description."""
    program = f"""
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

        def act(function):
            global engine
            with Engine(start_method="{method}") as engine:  # one for each: 40 are few
                return [run(function, "descriptors"), run(function, "sleep")]

        on_every_runtime(act)
        """

    assert [f"{each} 100 timeout" for each in runtimes] == output_of(program, tmp_path, runtimes)


@pytest.mark.slow
def test_interrupt_at_a_lock_does_not_leave_it_taken(tmp_path: Path, runtimes: list[str]) -> None:
    """One in 800 did that came during starts and kills: whoever needed the lock next, such as close(), never had it."""
    program = """
        def interrupting_once_at_each(places):
            def trace(frame, event, _):
                place = event, frame.f_code, frame.f_back and (frame.f_back.f_code, frame.f_back.f_lineno)
                is_of_a_lock = event in ("call", "return") and frame.f_code.co_filename == threading.__file__
                if is_of_a_lock and place not in places:
                    sys.settrace(None)
                    places.add(place)
                    raise KeyboardInterrupt
                return trace

            return trace

        def act(function):
            global engine
            places, again = set(), []
            while True:
                with Engine() as engine:
                    run(function, None)
                    try:
                        sys.settrace(interrupting_once_at_each(places))
                        run(function, "exit")
                        run(function, None)
                        sys.settrace(None)
                    except KeyboardInterrupt:
                        again = [run(function, event) for event in ("exit", None, "exit", None)]
                    else:
                        return again

        on_every_runtime(act)
        """

    assert [f"{runtimes[-1]} exited None exited None"] == output_of(program, tmp_path, runtimes[-1:])
