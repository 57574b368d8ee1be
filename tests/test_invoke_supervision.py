"""What a function does between and beside its invocations: who is charged for it, and whom it does not touch."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine import Engine, Status, UnsupportedPlatformError
from engine.cgroups import mounts
from engine.channel import Channel
from engine.upkeep import Upkeep

if TYPE_CHECKING:
    from tests.conftest import DeathWatch, FunctionMaker

HIDING = """
    import ctypes, mmap, os, platform, threading, time

    SYS_EXIT = {"x86_64": 60}.get(platform.machine(), 93)

    def hold(megabytes):
        size = megabytes << 20
        block = mmap.mmap(-1, size)
        for at in range(0, size, 4096):
            block[at:at + 1] = b"x"
        time.sleep(20)

    def hide(megabytes):
        threading.Thread(target=hold, args=(megabytes,)).start()
        ctypes.CDLL(None).syscall(SYS_EXIT, 0)  # ends this thread, the main one, and no other

    def handler(event, context):
        if event["who"] == "child":
            if os.fork() == 0:
                hide(event["megabytes"])
            time.sleep(20)
        hide(event["megabytes"])
"""


@pytest.fixture
def sampling_engine() -> Iterator[Engine]:
    """No control group: what is found is found by looking."""
    with Engine(memory_enforcement="sample") as sampling:
        yield sampling


@pytest.mark.parametrize("who", ["instance", "child"])
def test_memory_of_a_process_whose_main_thread_ended_counts(
    sampling_engine: Engine, make_function: FunctionMaker, who: str
) -> None:
    """A main thread that ends first is a zombie without memory, and so are the files of its process in /proc."""
    function = make_function(HIDING, memory_mb=100, timeout_s=10.0, main_thread=True)
    result = sampling_engine.invoke(function, {"megabytes": 200, "who": who})

    assert Status.OUT_OF_MEMORY is result.status
    assert result.summary.memory_used_mb > 100


@pytest.mark.slow
@pytest.mark.parametrize("who", ["instance", "child"])
def test_memory_that_hides_behind_an_ended_main_thread_is_reported(
    sampling_engine: Engine, make_function: FunctionMaker, who: str
) -> None:
    """The peak as well as what is used now."""
    function = make_function(HIDING, memory_mb=200, timeout_s=0.8, main_thread=True)
    result = sampling_engine.invoke(function, {"megabytes": 64, "who": who})

    assert Status.TIMEOUT is result.status
    assert 64 < result.summary.memory_used_mb < 100


LEAVING = """
    import os, signal, sys, threading, time

    def handler(event, context):
        if event == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(20)  # the signal may take another thread first
        return [os.getpid(), event]
"""


@pytest.fixture
def on_first_request(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Runs something once, when the engine has made up its mind and is about to write a request."""

    def arm(act: Callable[[], None]) -> None:
        send = Channel.send

        def send_later(channel: Channel, data: bytes) -> None:
            monkeypatch.setattr(Channel, "send", send)
            act()
            send(channel, data)

        monkeypatch.setattr(Channel, "send", send_later)

    return arm


def test_death_before_the_request_was_taken_is_not_the_invocations(
    engine: Engine,
    make_function: FunctionMaker,
    on_first_request: Callable[[Callable[[], None]], None],
    wait_until_dead: DeathWatch,
) -> None:
    """Its request is for another instance: nothing of it was begun."""
    function = make_function(LEAVING)
    pid, _ = engine.invoke(function, 1).value

    def strike() -> None:
        os.kill(pid, signal.SIGKILL)
        wait_until_dead(pid)

    on_first_request(strike)
    result = engine.invoke(function, 2, request_id="the-second")

    assert (Status.SUCCESS, True, "the-second") == (result.status, result.cold_start, result.summary.request_id)
    assert 2 == result.value[1]
    assert pid != result.value[0]


def states(pid: int) -> Iterator[str]:
    """The state of each thread: S for one that sleeps, T for one that was stopped."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        yield stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def test_instance_that_was_halted_before_its_request_is_replaced(
    engine: Engine, make_function: FunctionMaker, on_first_request: Callable[[Callable[[], None]], None]
) -> None:
    """Whoever stopped it did so earlier, and this invocation must not time out for it."""
    function = make_function(LEAVING, timeout_s=5.0)
    pid, _ = engine.invoke(function, 1).value

    def halt() -> None:
        os.kill(pid, signal.SIGSTOP)
        while {"T"} != set(states(pid)):
            pass  # nobody tells who is no parent

    on_first_request(halt)
    result = engine.invoke(function, 2)

    assert (Status.SUCCESS, True) == (result.status, result.cold_start)
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("timeout_s", [0.005, 0.2])
def test_instance_that_halts_itself_times_out(engine: Engine, make_function: FunctionMaker, timeout_s: float) -> None:
    """It had taken its request: that is what the function makes of it."""
    function = make_function(LEAVING, timeout_s=timeout_s)

    assert Status.TIMEOUT is engine.invoke(function, "stop").status


HELPER = """
    import os, time

    def handler(event, context):
        if event is None:
            return os.getpid()
        event, told = event
        tmp = os.environ["TMPDIR"]
        if os.fork() == 0:
            os.read(os.open(told, os.O_RDONLY), 1)  # until there is nobody at the other end
            if event == "memory":
                kept = b"x" * (150 << 20)
            elif event == "disk":
                with open(os.path.join(tmp, "big"), "wb") as big:
                    big.write(b"x" * (16 << 20))
            elif event == "forks":
                for _ in range(30):
                    if os.fork() == 0:
                        break
            time.sleep(20)
            os._exit(0)
        return os.getpid()
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["memory", "disk", "forks"])
def test_what_an_idle_instance_left_behind_is_held_to_its_limits(
    sampling_engine: Engine, make_function: FunctionMaker, wait_until_dead: DeathWatch, tmp_path: Path, what: str
) -> None:
    """Memory of a child, files and forks: nobody waits for it, and it must not grow without end all the same."""
    returned = tmp_path / "returned"
    os.mkfifo(returned)
    function = make_function(HELPER, memory_mb=100, tmp_mb=8, max_processes=20)
    pid = sampling_engine.invoke(function, [what, str(returned)]).value
    os.close(os.open(returned, os.O_WRONLY))
    wait_until_dead(pid)

    assert Status.SUCCESS is sampling_engine.invoke(function, None).status


GROWING_HELPER = """
    import mmap, os, time

    def handler(event, context):
        if event is None:
            started = time.time()
            while time.time() - started < 0.05:  # long enough that the kernel is asked what it killed
                pass
            return os.getpid()
        pid = os.fork()
        if pid == 0:
            os.read(os.open(event, os.O_RDONLY), 1)  # until there is nobody else at the other end
            block = mmap.mmap(-1, 400 << 20)
            for at in range(0, 400 << 20, 4096):
                block[at:at + 1] = b"x"
            os._exit(0)
        return os.getpid()
"""


@pytest.mark.slow
def test_kill_of_the_kernel_while_idle_is_not_the_next_invocations(
    make_function: FunctionMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper of an idle instance runs out of memory: whoever is called next gets another instance, and no charge."""
    monkeypatch.setattr(Upkeep, "_look_at_idle", lambda *_: False)  # the janitor would find it as well, a second later
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    function = make_function(GROWING_HELPER, memory_mb=128)
    try:
        engine = Engine(memory_enforcement="cgroup")
    except UnsupportedPlatformError as error:
        pytest.skip(str(error))
    with engine:
        first = engine.invoke(function, str(fifo))
        (idle,) = engine._fleet._pools[function]._idle
        group = idle._blank.group
        assert group is not None
        os.close(os.open(fifo, os.O_WRONLY))
        deadline = time.monotonic() + 20
        while not group.oom_kills() and time.monotonic() < deadline:  # the kernel tells nobody
            pass
        was_hit = group.oom_kills()
        second = engine.invoke(function, None)

    assert was_hit
    assert (Status.SUCCESS, True) == (second.status, second.cold_start), second.render()
    assert first.value != second.value


def test_exit_while_loading_tells_its_memory(engine: Engine, make_function: FunctionMaker) -> None:
    """Nobody looked in time; who reaped it was told its peak."""
    function = make_function("import os\nheld = b'x' * (64 << 20)\nos._exit(3)\n")
    result = engine.invoke(function, None)

    assert Status.EXITED is result.status
    assert 68 < result.summary.memory_used_mb < 100


def test_next_engine_sweeps_groups_though_it_has_none_of_its_own(make_function: FunctionMaker) -> None:
    """An engine that was killed leaves groups; whichever engine starts next removes them."""
    function = make_function("def handler(event, context):\n    return open('/proc/self/cgroup').read()\n")
    program = f"""if True:
        import os, signal
        from engine import Engine, Function, UnsupportedPlatformError
        try:
            engine = Engine(memory_enforcement="cgroup")
        except UnsupportedPlatformError as error:
            raise SystemExit(f"no groups: {{error}}")
        print(engine.invoke(Function(code={str(function.code)!r}, handler="index.handler",
                                     runtime={function.runtime!r}), None).value, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if "no groups" in killed.stderr:
        pytest.skip(killed.stderr)
    names = set(re.findall(r"fgengine-\d+-\S+-[0-9a-f]{8}", killed.stdout))
    with Engine(memory_enforcement="sample"):
        left = [path for tree in mounts.trees() for name in names for path in Path(tree.own).glob(name)]

    assert -signal.SIGKILL == killed.returncode
    assert names
    assert [] == left
