"""Functions that multiply, signal, stop and disfigure themselves: within their own instance, and no further.

No process that forks again is let loose before a small limit was seen to hold, and every fork is counted in a file
that all processes of the function share: 300 of them are the end in any case.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import psutil
import pytest

from engine import Engine, Function, InvalidFunctionError, Result, Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import FunctionMaker
    from tests.hostile.conftest import Arena, Neighbour

TOO_MANY = "runtime process is exited, killed for too many processes and threads"

# The group and the session of an instance are its own; nobody else may be hit, or nothing is signalled at all.
OWN_SESSION = "assert os.getsid(0) == os.getpid() == os.getpgid(0)\n"

SIGNALS = {
    "SIGTERM to its group": ("os.kill(0, signal.SIGTERM)", "signal SIGTERM"),
    "SIGKILL to its group": ("os.kill(0, signal.SIGKILL)", "signal SIGKILL"),
    "SIGHUP to its session": ("os.killpg(os.getsid(0), signal.SIGHUP)", "signal SIGHUP"),
    "SIGQUIT to its session": ("os.killpg(os.getsid(0), signal.SIGQUIT)", "signal SIGQUIT"),
    "a real-time signal": ("os.kill(os.getpid(), 40)", "signal"),
    "SIGALRM by a timer": ("signal.setitimer(signal.ITIMER_REAL, 0.01)", "signal SIGALRM"),
}


@pytest.mark.parametrize(("attack", "how"), SIGNALS.values(), ids=SIGNALS)
def test_signal_to_its_own_group_or_session_is_its_own_exit(arena: Arena, attack: str, how: str) -> None:
    """It hits the instance alone: the zygote, the neighbour and the engine are in sessions of their own."""
    aftermath = arena(f"import signal\n{OWN_SESSION}{attack}\nhang()")
    result = aftermath.result

    assert (Status.EXITED, 4204) == (result.status, result.error_code)
    assert (result.error or {})["errorMessage"].startswith(f"runtime process is exited, {how}")
    assert not aftermath.instance_survived


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["os.kill(0, signal.SIGSTOP)", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_stopping_itself_is_a_timeout(arena: Arena, attack: str) -> None:
    """A stopped process is killed at its deadline like one that runs."""
    result = arena(f"import signal\n{OWN_SESSION}{attack}\nhang()", timeout_s=0.5).result

    assert (Status.TIMEOUT, 500.0) == (result.status, result.summary.duration_ms)


def test_interrupt_of_itself_is_an_exit(arena: Arena) -> None:
    """KeyboardInterrupt comes up in the main thread, which is nobody's handler: the instance ends."""
    result = arena(f"import signal\n{OWN_SESSION}os.kill(os.getpid(), signal.SIGINT)\nhang()").result

    assert Status.EXITED is result.status


DISGUISES = {
    "niceness": "os.nice(10)",
    "working directory": "os.chdir('/')",
    "a working directory that is gone": "import tempfile\nos.chdir(tempfile.mkdtemp())\nos.rmdir(os.getcwd())",
    "umask": "os.umask(0o777)",
    "name": "import ctypes\nctypes.CDLL(None).prctl(15, b'innocent', 0, 0, 0)",
    "environment": "os.environ.clear()",
    "arguments": "sys.argv[:] = []",
    "no death with its parent": "import ctypes\nctypes.CDLL(None).prctl(1, 0, 0, 0, 0)",
    "no adoption of orphans": "import ctypes\nctypes.CDLL(None).prctl(36, 0, 0, 0, 0)",
    "not dumpable": "import ctypes\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)",
    "out-of-memory score": "open('/proc/self/oom_score_adj', 'w').write('500')",
    "pipe sizes": "import fcntl\n[fcntl.fcntl(fd, 1031, 4096) for fd in (1, 2)]",
    "its process group": "import subprocess\np = subprocess.Popen(['sleep', '20'])\nos.kill(p.pid, 9)\np.wait()",
}


@pytest.mark.parametrize("attack", DISGUISES.values(), ids=DISGUISES)
def test_disfigured_instance_serves_on(arena: Arena, attack: str) -> None:
    """What a function changes about its own process is no reason to end it, and goes no further."""
    aftermath = arena(f"{attack}\nreturn 'disfigured'")

    assert (Status.SUCCESS, "disfigured") == (aftermath.result.status, aftermath.result.value)
    assert aftermath.instance_survived


def test_function_that_removes_its_own_code_works_again_when_it_is_back(
    engine: Engine, armed: FunctionMaker, neighbour: Neighbour, tmp_path: Path
) -> None:
    """The invocation that did it ends well; the next one is told what is missing; a new copy works."""
    function = armed(
        """
        import shutil
        from arms import *

        def handler(event, context):
            if event == "attack":
                shutil.rmtree(os.path.dirname(os.path.abspath(__file__)))
            return "calm"
        """
    )
    shutil.copytree(function.code, tmp_path / "copy")
    attacked = engine.invoke(function, "attack")
    neighbour.check()
    with pytest.raises(InvalidFunctionError):
        engine.invoke(function, None)
    shutil.copytree(tmp_path / "copy", function.code)
    after = engine.invoke(function, None)
    neighbour.check()

    assert (Status.SUCCESS, "calm") == (attacked.status, attacked.value)
    assert (Status.SUCCESS, "calm") == (after.status, after.value)


RECURSION = {
    "in Python": ("down = lambda: down()\ndown()", Status.FUNCTION_ERROR),
    "in C": ("value = []\nfor _ in range(10 ** 5):\n    value = [value]\nrepr(value)", Status.FUNCTION_ERROR),
    "in Python without a limit": ("sys.setrecursionlimit(10 ** 9)\ndown = lambda: down()\ndown()", Status.EXITED),
    "in C without a limit": (
        "sys.setrecursionlimit(10 ** 9)\nvalue = []\nfor _ in range(10 ** 6):\n    value = [value]\nrepr(value)",
        Status.EXITED,
    ),
    "through a C callback": (
        "import ctypes\nsys.setrecursionlimit(10 ** 9)\nC = ctypes.CFUNCTYPE(None)\ndown = C(lambda: down())\ndown()",
        Status.EXITED,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "status"), RECURSION.values(), ids=RECURSION)
def test_recursion_is_an_error_or_a_crash_of_its_own(arena: Arena, attack: str, status: Status) -> None:
    """Up to the interpreter's limit an exception, beyond it a stack overflow."""
    aftermath = arena(attack, memory_mb=2048, timeout_s=25.0)

    assert status is aftermath.result.status
    assert (status is Status.FUNCTION_ERROR) is aftermath.instance_survived
    if status is Status.EXITED:
        assert "runtime process is exited, signal SIGSEGV" == (aftermath.result.error or {})["errorMessage"]


@pytest.mark.slow
def test_a_thousand_threads_are_allowed(arena: Arena) -> None:
    """The platform's limit is 1024 processes and threads."""
    attack = """
        import threading
        over = threading.Event()
        threads = [threading.Thread(target=over.wait, args=(GIVE_UP_S,)) for _ in range(1000)]
        for thread in threads:
            thread.start()
        count = threading.active_count()
        over.set()
        for thread in threads:
            thread.join()
        return count
    """
    aftermath = arena(attack, memory_mb=512, timeout_s=25.0)

    assert Status.SUCCESS is aftermath.result.status
    assert aftermath.result.value >= 1001
    assert aftermath.instance_survived


@pytest.fixture(params=["auto", "sample"])
def limiting_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Engines that keep limits by the kernel where it lets them, and by looking."""
    with Engine(memory_enforcement=request.param) as own:
        yield own


MULTIPLYING = """
    import threading
    from arms import *

    MOST = 300

    def note(what):
        # One byte in a file for each attempt and each failure of any process.
        fd = os.open(os.environ["COUNT"], os.O_RDWR | os.O_APPEND | os.O_CREAT)
        os.write(fd, what)
        os.lseek(fd, 0, 0)
        noted = os.read(fd, 10 * MOST)
        os.close(fd)
        return noted

    def may_go_on():
        # The bomb's own end.
        return note(b".").count(b".") <= MOST and time.time() < give_up_at

    def handler(event, context):
        global give_up_at
        give_up_at = time.time() + 10
        parent = os.getpid()
        if event == "children":  # all of one parent, none of which forks
            while may_go_on():
                try:
                    if os.fork() == 0:
                        time.sleep(10)
                        os._exit(0)
                except OSError:
                    note(b"x")
            if b"x" not in note(b""):
                hang()
        elif event == "bomb":  # each of which forks again
            while may_go_on():
                try:
                    os.fork()
                except OSError:
                    note(b"x")
        elif event == "threads":
            over = threading.Event()
            while may_go_on():
                try:
                    threading.Thread(target=over.wait, args=(10,)).start()
                except BaseException:
                    note(b"x")
            time.sleep(0.2)
            over.set()
        if os.getpid() != parent:
            time.sleep(10)
            os._exit(0)
        return note(b"").count(b"x") if event else "calm"
"""


@pytest.fixture
def multiplying(armed: FunctionMaker, tmp_path: Path) -> Function:
    """A function that starts up to 300 processes or threads, and may have 50."""
    settings = {"COUNT": str(tmp_path / "count")}
    return armed(MULTIPLYING, user_data=settings, max_processes=50, timeout_s=20.0, memory_mb=1024)


def _assert_limited(engine: Engine, function: Function, result: Result) -> None:
    """Forks failed at the limit, or the engine ended it all; nobody is left, and the function works again."""
    if Status.SUCCESS is result.status:
        assert result.value > 0
    else:
        assert (Status.EXITED, 4204) == (result.status, result.error_code)
        assert TOO_MANY == (result.error or {})["errorMessage"]
    engine.release_idle()
    assert [] == [each for zygote in psutil.Process().children() for each in zygote.children()]
    assert "calm" == engine.invoke(function, None).value


@pytest.mark.slow
def test_forks_and_threads_end_at_the_limit(
    limiting_engine: Engine, multiplying: Function, make_function: FunctionMaker, tmp_path: Path
) -> None:
    """Children of one parent first, then threads, and only when that limit held, processes that fork again.

    The limit is of one instance: a neighbour forks as before.
    """
    neighbour = make_function("import os\n\ndef handler(event, context):\n    return os.system('true')\n")
    for attack in ("children", "threads", "bomb"):
        (tmp_path / "count").unlink(missing_ok=True)
        result = limiting_engine.invoke(multiplying, attack)
        beside = limiting_engine.invoke(neighbour, None)

        assert (Status.SUCCESS, 0) == (beside.status, beside.value)
        _assert_limited(limiting_engine, multiplying, result)
