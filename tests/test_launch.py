"""Real zygotes of every runtime: what they start, how they report an end, and that nothing outlives them."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import termios
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from engine import Engine, InstanceStartError, ProtocolError, launch, proc
from engine.channel import EXIT
from engine.clock import NS_PER_MS, NS_PER_S
from engine.launch import ExitReport, Process, Zygote, ZygoteSpec
from engine.runtimes import Interpreter

if TYPE_CHECKING:
    from tests.conftest import DeathWatch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def interpreter(engine: Engine, runtime: str) -> Interpreter:
    return engine.runtimes.find(runtime)


@pytest.fixture
def zygote(interpreter: Interpreter) -> Iterator[Zygote]:
    with closing(Zygote(ZygoteSpec(interpreter))) as zygote:
        yield zygote


def started(zygote: Zygote, method: str = "fork") -> Process:
    return zygote.start(method, {}, 4096)


def killed(zygote: Zygote, process: Process) -> ExitReport:
    os.kill(process.pid, signal.SIGKILL)
    process.channel.close()
    return zygote.wait_exit(process.pid)


def wait_for_exit(process: Process) -> None:
    """Wait as the engine does; the pipes of a dying process end a moment before its pidfd tells."""
    while not EXIT & process.channel.wait(30 * NS_PER_S):
        assert [] == process.channel.receive()
        process.channel.read_output()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_instance_is_a_child_of_its_zygote(zygote: Zygote, method: str) -> None:
    """So the host gets no SIGCHLD for it, and its own waitpid(-1) cannot take its status."""
    process = started(zygote, method)

    assert zygote.pid == proc.parent(process.pid)
    assert os.getpid() == proc.parent(zygote.pid)
    assert "signal SIGKILL" == killed(zygote, process).describe()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_instance_ends_when_its_request_pipe_does(zygote: Zygote, method: str) -> None:
    """Nobody has to signal a healthy instance that is not needed any more."""
    process = started(zygote, method)
    process.channel.close()

    assert "exit status 0" == zygote.wait_exit(process.pid).describe()
    assert not psutil.pid_exists(process.pid)


def test_exit_is_on_the_channel_before_it_was_reaped(zygote: Zygote) -> None:
    """The pidfd tells at once; the report with the status comes for whoever asks."""
    process = started(zygote)
    os.kill(process.pid, signal.SIGTERM)

    wait_for_exit(process)
    assert "signal SIGTERM" == zygote.wait_exit(process.pid).describe()
    process.channel.close()


def test_reports_are_kept_for_whoever_asks_for_them(zygote: Zygote) -> None:
    """Instances end in any order, and are asked after in any other."""
    first, second, third = (started(zygote) for _ in range(3))
    os.kill(first.pid, signal.SIGKILL)
    os.kill(second.pid, signal.SIGTERM)
    third.channel.close()
    told = [zygote.wait_exit(each.pid).describe() for each in (third, second, first)]
    first.channel.close()
    second.channel.close()

    assert ["exit status 0", "signal SIGTERM", "signal SIGKILL"] == told


@pytest.mark.slow
def test_zygote_serves_many_threads_at_once(zygote: Zygote) -> None:
    """Commands and reports of one do not get to another."""
    signals = [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGABRT] * 4

    def start_and_kill(number: int) -> str:
        process = started(zygote)
        with closing(process.channel):
            os.kill(process.pid, number)
            wait_for_exit(process)
            return zygote.wait_exit(process.pid).describe()

    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(start_and_kill, signals))

    assert [f"signal {each.name}" for each in signals] == told


def test_exit_in_the_middle_of_a_command_does_no_harm(zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIGCHLD between two parts of a command is not the end of it (2.7: EINTR)."""
    send = socket.socket.send
    parts: list[bytes] = []

    def send_and_interrupt(control: socket.socket, command: bytes, *flags: int) -> int:
        for parts[len(parts) :] in ([command[:3]], [command[3:40]], [command[40:]]):
            send(control, parts[-1], *flags)
            unread = bytearray(b"\1\0\0\0")
            while any(unread):  # until the zygote has taken it
                fcntl.ioctl(control, termios.TIOCOUTQ, unread)
            while psutil.Process(zygote.pid).status() != psutil.STATUS_SLEEPING:  # and waits for the next one
                pass
            os.kill(zygote.pid, signal.SIGCHLD)
        return len(command)

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "send", send_and_interrupt)
        process = started(zygote)

    assert 3 == len(parts)
    assert "signal SIGKILL" == killed(zygote, process).describe()


def test_host_without_room_for_descriptors_is_told_so(zygote: Zygote) -> None:
    """The kernel leaves out what is over the host's limit; what came is given back, and the next start works."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    free = [number for number in range(used) if not os.path.exists(f"/proc/self/fd/{number}")]
    fillers = [os.dup(0) for _ in free]
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, hard))
    before = len(os.listdir("/proc/self/task"))
    try:
        with pytest.raises(InstanceStartError, match=r"(?i)too many open files"):
            started(zygote)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)

    assert before == len(os.listdir("/proc/self/task"))
    assert "signal SIGKILL" == killed(zygote, started(zygote)).describe()


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exit status 0"),
        (3 << 8, "exit status 3"),
        (255 << 8, "exit status 255"),
        (signal.SIGKILL, "signal SIGKILL"),
        (signal.SIGSEGV | 0x80, "signal SIGSEGV"),
        (50, "signal 50"),
    ],
)
def test_report_names_exit_status_or_signal(status: int, text: str) -> None:
    """With and without a core dump, and for a real-time signal that has no name."""
    assert text == ExitReport(status, 0).describe()


def test_close_leaves_nothing(interpreter: Interpreter) -> None:
    """When it returns the zygote and all of its instances are gone, reaped as well."""
    zygote = Zygote(ZygoteSpec(interpreter))
    processes = [started(zygote, method) for method in ("fork", "spawn")]
    zygote.close()
    for process in processes:
        process.channel.close()

    assert [False] * 3 == [psutil.pid_exists(pid) for pid in (zygote.pid, *(each.pid for each in processes))]


def test_closed_zygote_says_so(interpreter: Interpreter) -> None:
    """Whoever was on the way to it gets an error of the engine's, and not one of a descriptor that is no more."""
    zygote = Zygote(ZygoteSpec(interpreter))
    process = started(zygote)
    zygote.close()
    process.channel.close()

    assert not zygote.is_alive()
    with pytest.raises(InstanceStartError):
        zygote.wait_exit(process.pid)
    with pytest.raises(InstanceStartError):
        started(zygote)


def test_instances_die_with_their_zygote(zygote: Zygote, wait_until_dead: DeathWatch) -> None:
    """However it ends: what cannot be reaped and reported any more must not live on."""
    processes = [started(zygote, method) for method in ("fork", "spawn")]
    os.kill(zygote.pid, signal.SIGKILL)
    for process in processes:
        wait_until_dead(process.pid)
        process.channel.close()

    assert not zygote.is_alive()


def test_dead_zygote_says_so(zygote: Zygote) -> None:
    """Neither a new instance nor a report can be had from it; and it can be closed like any other."""
    process = started(zygote)
    os.kill(zygote.pid, signal.SIGKILL)
    with pytest.raises(InstanceStartError, match=f"the zygote.*{zygote.interpreter.runtime}"):
        zygote.wait_exit(process.pid)
    with pytest.raises(InstanceStartError, match="the zygote"):
        started(zygote)
    process.channel.close()


@pytest.fixture
def fake(tmp_path: Path) -> Interpreter:
    """Something that is run as an interpreter; the test writes what it does."""
    path = tmp_path / "python"
    path.write_text("")
    path.chmod(0o755)
    return Interpreter("python3.9", str(path), (3, 9, 0), "caller")


def test_broken_interpreter_is_told_with_its_last_words(fake: Interpreter) -> None:
    """Who it was, and what it said: enough to repair it."""
    Path(fake.executable).write_text("#!/bin/sh\necho 'libpython: cannot open shared object file' >&2\nexit 127\n")

    with pytest.raises(InstanceStartError) as caught:
        Zygote(ZygoteSpec(fake))
    assert "the zygote died" in str(caught.value)
    assert f"python3.9 ({fake.executable})" in str(caught.value)
    assert str(caught.value).endswith("it said:\nlibpython: cannot open shared object file")


def test_last_words_are_the_last_ones(fake: Interpreter) -> None:
    """An interpreter that says much is quoted at its end."""
    Path(fake.executable).write_text("#!/bin/sh\nyes first | head -n 10000 >&2\necho last >&2\n")

    with pytest.raises(InstanceStartError) as caught:
        Zygote(ZygoteSpec(fake))
    assert str(caught.value).endswith("first\nlast")
    assert len(str(caught.value)) < 5000


def test_interpreter_that_cannot_be_run_is_told(fake: Interpreter) -> None:
    """It was there when it was probed, and is no program now."""
    Path(fake.executable).chmod(0o644)

    with pytest.raises(InstanceStartError, match=f"{fake.executable} cannot be run: .*Permission denied"):
        Zygote(ZygoteSpec(fake))


def test_silent_interpreter_is_given_up(fake: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the longest time that a start may take; it is killed, and nothing of it stays."""
    monkeypatch.setattr(launch, "START_TIMEOUT_NS", 20 * NS_PER_MS)
    Path(fake.executable).write_text("#!/bin/sh\nexec sleep 1000\n")

    with pytest.raises(InstanceStartError, match="the zygote stayed silent"):
        Zygote(ZygoteSpec(fake))


@pytest.mark.parametrize(
    "frame",
    ["b'\\xff' * 100", "struct.pack('>II', 2, 0) + b'[]'", "struct.pack('>II', 3, 0) + b'no!'"],
    ids=["no frame", "no object", "no JSON"],
)
def test_interpreter_that_talks_nonsense_is_given_up(fake: Interpreter, frame: str) -> None:
    """Somebody's own program under the name of a Python: an error of the engine's, and nothing of it stays."""
    program = f"""\
        #!{sys.executable}
        import os, struct, sys, time
        os.write(int(sys.argv[5]), {frame})
        time.sleep(1000)
        """
    Path(fake.executable).write_text(textwrap.dedent(program))

    with pytest.raises(ProtocolError, match="from the zygote"):
        Zygote(ZygoteSpec(fake))


FORKING_HOST = """
    import os, sys
    from engine.launch import Zygote, ZygoteSpec
    from engine.runtimes import Interpreter

    zygote = Zygote(ZygoteSpec(Interpreter("python3", sys.argv[1], (3, 0, 0), "caller")))
    here = os.pipe()
    pid = os.fork()
    if pid == 0:
        before = len(os.listdir("/proc/self/fd"))
        zygote.abandon()
        os.write(here[1], b"%d" % (before - len(os.listdir("/proc/self/fd"))))
        os._exit(0)
    os.waitpid(pid, 0)
    process = zygote.start("fork", {}, 4096)
    process.channel.close()
    print(os.read(here[0], 10).decode(), zygote.wait_exit(process.pid).describe())
    zygote.close()
"""


@pytest.mark.slow
def test_abandoned_copy_leaves_the_zygote_alone() -> None:
    """A forked copy of the host closes its descriptors of it; the host goes on using it."""
    program = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(FORKING_HOST), sys.executable]
    done = subprocess.run(program, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)

    assert ("3 exit status 0\n", "", 0) == (done.stdout, done.stderr, done.returncode)


def test_thread_that_waits_for_an_exit_keeps_nobody_from_a_start(zygote: Zygote) -> None:
    """Whoever waits reads for all of them."""
    slow = started(zygote)
    with ThreadPoolExecutor() as executor:
        waiting = executor.submit(zygote.wait_exit, slow.pid)
        while not zygote._control._is_read:  # no more than the start of a thread
            pass
        others = [started(zygote) for _ in range(3)]
        told = [killed(zygote, each).describe() for each in others]
        is_waiting = not waiting.done()
        slow.channel.kill()
        last = waiting.result(10).describe()
        slow.channel.close()

    assert is_waiting
    assert ["signal SIGKILL"] * 4 == [*told, last]


def test_everybody_who_waits_is_told_that_the_zygote_died(zygote: Zygote) -> None:
    """Not the one thread alone that was reading for the others."""
    processes = [started(zygote) for _ in range(3)]
    with ThreadPoolExecutor() as executor:
        waiting = [executor.submit(zygote.wait_exit, each.pid) for each in processes]
        while not zygote._control._is_read:
            pass
        os.kill(zygote.pid, signal.SIGKILL)
        errors = [each.exception(10) for each in waiting]
    for process in processes:
        process.channel.close()

    assert [InstanceStartError] * 3 == [type(each) for each in errors]
