"""Nothing escapes and nothing is left: what a function starts dies with its instance, and all of it with the engine.

Every process that is started here writes its number and its start time into a file of the test, so that the very
processes are looked for and not others that were given their numbers since. Each ends by itself after 20 seconds,
and no test starts more than 300.
"""

from __future__ import annotations

import dataclasses
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from engine import Engine, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine import Function
    from tests.conftest import FunctionMaker

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60
PROMISED_S = 1.0  # how long the engine's death may be survived
DEADLINE_S = 0.5  # a family has to be there by then

FAMILY = """
    import ctypes, os, signal, subprocess, sys, time

    MOST, LIFE_S = 300, 20.0
    born_at = time.time()
    libc = ctypes.PyDLL(None)

    def announce(pid=None):
        # -> whether more may be started
        pid = pid or os.getpid()
        with open("/proc/%d/stat" % pid) as stat:
            started = stat.read().rpartition(")")[2].split()[19]
        fd = os.open(os.environ["PIDS"], os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, ("%d %s\\n" % (pid, started)).encode())
        count = len(os.read(fd, 100000).splitlines()) if os.lseek(fd, 0, 0) == 0 else MOST
        os.close(fd)
        return count < MOST and time.time() - born_at < LIFE_S

    def live():
        give_up_at = born_at + LIFE_S
        while time.time() < give_up_at:
            time.sleep(0.05)
        os._exit(0)

    def fork(child):
        # Fork a process that runs *child*, and wait until it said that it is ready.
        reading, writing = os.pipe()
        if os.fork() == 0:
            try:
                announce()
                child(lambda: os.write(writing, b"!"))
                live()
            finally:
                os._exit(1)
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)

    def grandchild(ready):
        fork(lambda ready: (fork(lambda ready: ready()), ready()))
        ready()

    def daemon(ready):
        def second(ready):
            os.chdir("/")
            libc.close(0), libc.close(1), libc.close(2)
            ready()
        os.setsid()
        if os.fork():
            os._exit(0)
        announce()
        fork(second)
        ready()

    def renamed(ready):
        libc.prctl(15, b"kworker/0:0", 0, 0, 0)
        os.setsid()
        os.nice(5)
        ready()

    def deaf(ready):
        signals = (ctypes.c_ulong * 16)()
        libc.sigfillset(signals)
        libc.pthread_sigmask(0, signals, None)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        ready()

    def stopped(ready):
        ready()
        os.kill(os.getpid(), signal.SIGSTOP)

    def program(ready):
        announce(subprocess.Popen(["sleep", "20"], preexec_fn=os.setsid).pid)
        ready()

    def shell(ready):
        out = subprocess.Popen(
            ["sh", "-c", "setsid sleep 20 & echo $!; (sleep 20 & echo $!); wait"], stdout=subprocess.PIPE
        ).stdout
        [announce(int(out.readline())) for _ in range(2)]
        ready()

    def hydra(ready):
        # One generation forks the next one and dies: its number is never the one that was listed.
        ready()
        while announce():
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(0.005)

    def undead(ready):
        # Killed parents make it multiply: the kernel tells it of their death.
        def regenerate(*_):
            for _ in range(2):
                if announce() and os.fork() == 0:
                    libc.prctl(1, signal.SIGTERM, 0, 0, 0)
                    announce()
        signal.signal(signal.SIGTERM, regenerate)
        libc.prctl(1, signal.SIGTERM, 0, 0, 0)
        regenerate()
        ready()

    def renounced():
        # An instance adopts the orphans below it. Without that they would go to the zygote; but it is kept to it.
        libc.prctl(36, 0, 0, 0, 0)
        fork(daemon)

    def handler(event, context):
        if event is None:
            return "calm"
        announce()
        form, ending = event
        escape = globals()[form]
        escape() if form == "renounced" else fork(escape)
        if ending == "exit":
            os._exit(3)
        if ending == "deadline":
            live()
        return form
"""

FORMS = [
    "grandchild",
    "daemon",
    "renamed",
    "deaf",
    "stopped",
    "program",
    "shell",
    "hydra",
    "undead",
    "renounced",
]


class Announced:
    """The processes that announced themselves in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def numbers(self) -> list[tuple[int, str]]:
        """Return number and start time of each, in the order of their announcements."""
        with suppress(FileNotFoundError):
            lines = self.path.read_text().splitlines()
            return list(dict.fromkeys((int(pid), started) for pid, started in map(str.split, lines)))
        return []

    def alive(self) -> list[int]:
        """Return those that run, wait or are zombies."""
        return [pid for pid, started in self.numbers() if started == _started(pid)]

    def outlive(self, seconds: float) -> list[int]:
        """Return those that are not dead *seconds* from now."""
        return _alive_after(seconds, self.numbers())


def _alive_after(seconds: float, numbers: list[tuple[int, str]]) -> list[int]:
    """Return who of *numbers* is not dead in time, told by pidfds: a zombie that nobody reaps is dead."""
    until = time.monotonic() + seconds
    survivors = []
    for pid, started in numbers:
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if _started(pid) == started and not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                survivors.append(pid)
            os.close(pidfd)
    return survivors


def _below(pid: int) -> list[tuple[int, str]]:
    """Return number and start time of everything below *pid*."""
    pids = [each.pid for each in psutil.Process(pid).children(recursive=True)]
    return [(each, started) for each in pids if (started := _started(each))]


def _started(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


@pytest.fixture
def announced(tmp_path: Path) -> Announced:
    return Announced(tmp_path / "pids")


@pytest.fixture
def family(make_function: FunctionMaker, announced: Announced) -> Function:
    """A function that starts a family of the form that the event names, and ends as it names."""
    return make_function(FAMILY, user_data={"PIDS": str(announced.path)}, timeout_s=PATIENCE_S, memory_mb=512)


def hasty(family: Function) -> Function:
    """The same function, with a deadline that it runs into."""
    return dataclasses.replace(family, timeout_s=DEADLINE_S)


def _below_zygotes() -> list[psutil.Process]:
    return [each for zygote in psutil.Process().children() for each in zygote.children(recursive=True)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ending", ["deadline", "exit"])
def test_kill_takes_the_whole_tree(
    engine: Engine, family: Function, announced: Announced, form: str, ending: str
) -> None:
    """When a result of a kill is there, not one process of the instance is."""
    function = hasty(family) if ending == "deadline" else family
    result = engine.invoke(function, [form, ending])
    left = announced.alive()

    assert {"deadline": Status.TIMEOUT, "exit": Status.EXITED}[ending] is result.status
    assert [] == left
    assert [] == _below_zygotes()
    assert len(announced.numbers()) >= 2
    assert "calm" == engine.invoke(function, None).value


@pytest.mark.parametrize("form", FORMS)
def test_what_a_return_leaves_behind_dies_with_the_instance(
    engine: Engine, family: Function, announced: Announced, form: str
) -> None:
    """It lives on between invocations, as on the platform, and not a moment longer than the instance."""
    result = engine.invoke(family, [form, "return"])
    instance, *helpers = announced.alive()
    again = engine.invoke(family, None)
    instance_lived_on = announced.alive()[0] == instance
    engine.release_idle()

    assert (Status.SUCCESS, form) == (result.status, result.value)
    assert ("calm", False) == (again.value, again.cold_start)
    assert helpers
    assert instance_lived_on
    assert [] == announced.alive()
    assert [] == _below_zygotes()


def test_close_takes_idle_and_busy_families(own_engine: Engine, family: Function, announced: Announced) -> None:
    """Whatever runs or waits when an engine is closed is gone when close() returns."""
    own_engine.invoke(family, ["daemon", "return"])
    own_engine.invoke(family, ["hydra", "return"])
    own_engine.close()

    assert [] == announced.alive()
    assert len(announced.numbers()) >= 4


def test_strays_of_one_instance_are_not_those_of_another(
    engine: Engine, family: Function, make_function: FunctionMaker, announced: Announced
) -> None:
    """The death of one instance takes what it started, and nothing that a neighbour on the same zygote did."""
    neighbour = make_function(FAMILY, user_data={"PIDS": str(announced.path)}, timeout_s=10.0, name="neighbour")
    engine.invoke(neighbour, ["daemon", "return"])
    before = announced.alive()
    result = engine.invoke(hasty(family), ["daemon", "deadline"])

    assert Status.TIMEOUT is result.status
    assert before == announced.alive()
    assert engine.invoke(neighbour, None).cold_start is False


HOST = """
    import dataclasses, os, random, sys, threading
    from engine import Engine, Function

    code, runtime, pids = sys.argv[1:4]
    function = Function(
        code=code, handler="index.handler", runtime=runtime, user_data={"PIDS": pids}, timeout_s=20.0, memory_mb=512
    )
    hasty = dataclasses.replace(function, timeout_s=0.2)
    def tell(*words):
        print(*words, flush=True)
"""

ENDLESS = """
    tell("ready")
    forms = ["grandchild", "daemon", "program", "hydra", "deaf", "stopped"]
    endings = ["deadline", "exit", "return"]
    dice = random.Random(int(sys.argv[4]))
    with Engine() as engine:
        for _ in range(100):
            engine.invoke(hasty, [dice.choice(forms), dice.choice(endings)])
"""

ENDINGS = {
    "os._exit": "os._exit(0)",
    "an exception": "raise RuntimeError('the host gives up')",
    "an exception in the block": "with engine:\n        raise RuntimeError('the host gives up')",
    "SIGKILL": "os.kill(os.getpid(), 9)",
    "SIGTERM": "os.kill(os.getpid(), 15)",
    "exec": "os.execv('/bin/true', ['true'])",
    "the end": "pass",
}


@pytest.fixture
def code(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "index.py"
    path.write_text(textwrap.dedent(FAMILY), encoding="utf-8")
    yield path
    Engine().close()  # which removes the folder of a host that was killed


def start_host(program: str, code: Path, runtime: str, announced: Announced, *more: str) -> subprocess.Popen[str]:
    source = textwrap.dedent(HOST) + textwrap.dedent(program)
    arguments = [str(code), runtime, str(announced.path), *more]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, "-c", source, *arguments], stdin=null, stdout=pipe, stderr=null, encoding="utf-8", cwd=ROOT
    )


def _own_folders() -> list[str]:
    return [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("fgengine-")]


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_however_its_host_ends_the_engine_takes_all_along(
    code: Path, runtime: str, announced: Announced, ending: str
) -> None:
    """Exit, exception, signal or exec: within a second nothing runs, and the next engine removes the folder."""
    folders = _own_folders()
    program = f"""
    engine = Engine()
    def work():
        for form in ("daemon", "program", "deaf"):
            engine.invoke(function, [form, 'return'])
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    tell("done")
    {ending}
    """
    with start_host(program, code, runtime, announced) as host:
        told, _ = host.communicate(timeout=PATIENCE_S)
        survivors = announced.outlive(PROMISED_S)

    assert "done\n" == told
    assert [] == survivors
    assert len(announced.numbers()) >= 6
    Engine().close()
    assert folders == _own_folders()


@pytest.mark.parametrize("seed", range(4))
def test_sigkill_of_the_host_at_any_moment_leaves_nothing(
    code: Path, runtime: str, announced: Announced, seed: int
) -> None:
    """While it starts, forks, kills, reaps: within a second nothing runs, and the next engine removes the folder."""
    folders = _own_folders()
    moment = threading.Event()
    with start_host(ENDLESS, code, runtime, announced, str(seed)) as host:
        assert host.stdout is not None
        assert "ready\n" == host.stdout.readline()
        moment.wait(random.Random(seed).uniform(0.0, 0.6))  # not for anything: any moment is what is tested
        below = _below(host.pid)
        host.kill()
        host.wait(PATIENCE_S)
        survivors = _alive_after(PROMISED_S, below + announced.numbers())

    assert [] == survivors
    Engine().close()
    assert folders == _own_folders()


def test_engine_outlives_the_thread_that_made_it(family: Function, announced: Announced) -> None:
    """The thread that forked a zygote ends, and nothing dies of it (prctl(2), PR_SET_PDEATHSIG, is per thread)."""
    made: list[Engine] = []

    def make() -> None:
        made.append(Engine())
        made[0].invoke(family, ["daemon", "return"])

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    with made[0] as engine:
        alive = announced.alive()
        result = engine.invoke(family, None)

    assert len(alive) >= 2
    assert ("calm", False) == (result.value, result.cold_start)
    assert [] == announced.alive()


def test_host_with_ten_thousand_descriptors_is_no_hindrance(code: Path, runtime: str, announced: Announced) -> None:
    """Inheritable ones at that: an instance sees none of them, by fork and by exec."""
    program = """
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (12000, max(hard, 12000)))
    null = os.open(os.devnull, os.O_RDONLY)
    for _ in range(10000):
        os.set_inheritable(os.dup(null), True)
    for method in ("fork", "spawn"):
        with Engine(start_method=method) as engine:
            result = engine.invoke(function, ["grandchild", "return"])
            counts = [len(os.listdir("/proc/%s/fd" % line.split()[0])) for line in open(pids)]
            tell(result.status.value, max(counts) < 20, engine.invoke(hasty, ["daemon", "deadline"]).status.value)
        os.unlink(pids)
    """
    try:
        with start_host(program, code, runtime, announced) as host:
            told, _ = host.communicate(timeout=PATIENCE_S)
    finally:
        if host.poll() is None:
            host.kill()

    assert ["success True timeout"] * 2 == told.splitlines()
    assert 0 == host.returncode


def test_engine_goes_on_when_a_zygote_was_killed(own_engine: Engine, family: Function, announced: Announced) -> None:
    """Its instances die with it; the invocation after that starts a new one."""
    own_engine.invoke(family, ["deaf", "return"])
    instance, helper = announced.numbers()
    zygote = psutil.Process(instance[0]).ppid()
    assert os.getpid() == psutil.Process(zygote).ppid()
    os.kill(zygote, signal.SIGKILL)
    survivors = _alive_after(10, [instance])  # long before it would be released for being idle
    result = own_engine.invoke(family, None)
    # Whoever kills a zygote takes away who would end this: nothing above it knows of it.
    if helper[1] == _started(helper[0]):
        os.kill(helper[0], signal.SIGKILL)

    assert [] == survivors
    assert (Status.SUCCESS, "calm", True) == (result.status, result.value, result.cold_start)


ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "engine", *sys.argv[1:]])
"""


def _first_word(fifo: int) -> bytes:
    """Not blocking, or a command that ends too early would hang the test instead of failing it."""
    poll = select.poll()
    poll.register(fifo, select.POLLIN)
    return os.read(fifo, 100) if poll.poll(10_000) else b""


@pytest.mark.parametrize("keys", [b"\x03", b"\x03\x03\x03", b"\x1c"])
def test_control_c_on_a_terminal_ends_the_command_and_all_it_started(
    tmp_path: Path, runtime: str, announced: Announced, keys: bytes
) -> None:
    """Status 130 at once, nothing left, and the function never hears of it: it is not in the terminal's session."""
    folders = _own_folders()
    source = """
        import signal

        def handle(number, frame):
            with open(os.environ["PIDS"] + ".heard", "w") as heard:
                heard.write(str(number))

        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, handle)

        def on_the_terminal(event, context):
            announce()
            fork(daemon)
            with open(os.environ["FIFO"], "w") as fifo:
                fifo.write("running")
            live()
    """
    (tmp_path / "index.py").write_text(textwrap.dedent(FAMILY) + textwrap.dedent(source), encoding="utf-8")
    os.mkfifo(tmp_path / "fifo")
    options = ["--handler", "index.on_the_terminal", "-r", runtime, "--timeout", "20", "--main-thread"]
    data = [f"--env=PIDS={announced.path}", f"--env=FIFO={tmp_path / 'fifo'}"]
    fifo = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    controller, terminal = os.openpty()
    command = [sys.executable, "-c", ON_A_TERMINAL, "invoke", str(tmp_path), *options, *data]
    with subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True, cwd=ROOT
    ) as process:
        os.close(terminal)
        assert b"running" == _first_word(fifo)
        os.write(controller, keys)
        status = process.wait(PATIENCE_S)
        survivors = announced.outlive(PROMISED_S)
    os.close(controller)
    os.close(fifo)
    Engine().close()

    assert (130 if keys[0] == 3 else -signal.SIGQUIT) == status  # SIGQUIT is not handled, and dumps core as ever
    assert [] == survivors
    assert len(announced.numbers()) >= 3
    assert not (tmp_path / "pids.heard").exists()
    assert folders == _own_folders()
