"""The facade in the hands of its hosts: arguments, threads, forks, signals, and every way in which a host can end."""

from __future__ import annotations

import functools
import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from engine import Engine, EngineClosedError, Function, InvalidEventError, Result, UnsupportedPlatformError, proc
from engine.clock import NS_PER_S
from engine.instance import Instance
from engine.verdict import Ended

if TYPE_CHECKING:
    from tests.conftest import DeathWatch, FunctionMaker

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60

SOURCE = """
    import os
    import subprocess
    import time

    def handler(event, context):
        if event == "sleep":
            time.sleep(30)
        if event == "signals":
            with open("/proc/self/task/%d/status" % os.getpid()) as status:
                # Not 32 and 33: they are glibc's, whose posix_spawn (make uses it) has them ignored.
                masks = [int(line.split()[1], 16) for line in status if line.startswith(("SigBlk:", "SigIgn:"))]
                return [("%x" % (mask & ~(3 << 31))).lstrip("0") for mask in masks]
        if isinstance(event, dict):
            daemon = subprocess.Popen(["sleep", "1000"], preexec_fn=os.setsid)
            with open(event["fifo"], "w") as fifo:
                fifo.write("%d %d" % (os.getpid(), daemon.pid))
            time.sleep(30)
        return [event, os.getpid(), context.getRequestID()]
"""

HOST = """
    import dataclasses, os, signal, sys, threading
    from engine import Engine, EngineClosedError, Function

    code, runtime, fifo = sys.argv[1:]
    function = Function(code=code, handler="index.handler", runtime=runtime, timeout_s=20.0)

    def tell(*words):
        print(*words, flush=True)

"""


@pytest.fixture
def code(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "index.py"
    path.write_text(textwrap.dedent(SOURCE), encoding="utf-8")
    os.mkfifo(tmp_path / "fifo")  # where a handler says that it runs
    yield path
    Engine().close()  # which removes the folder of a host that was killed


def start_host(program: str, code: Path, runtime: str) -> subprocess.Popen[str]:
    """A host program of its own, in development mode and with warnings as errors."""
    source = textwrap.dedent(HOST) + textwrap.dedent(program)
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", source, str(code), runtime, str(code.parent / "fifo")]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8", cwd=ROOT)


def output_of(program: str, code: Path, runtime: str) -> list[str]:
    """What a host program tells that ends well and without a word of complaint."""
    with start_host(program, code, runtime) as host:
        try:
            told, complaints = host.communicate(timeout=PATIENCE_S)
        finally:
            host.kill()

    assert ("", 0) == (complaints, host.returncode)
    return told.splitlines()


@pytest.mark.parametrize(
    "arguments",
    [
        {"billing_step_ms": 0},
        {"billing_step_ms": 10},
        {"billing_step_ms": -1},
        {"log_bytes": 0},
        {"log_bytes": -1},
        {"idle_timeout_s": 0},
        {"idle_timeout_s": -1.0},
        {"idle_timeout_s": float("nan")},
        {"idle_timeout_s": float("inf")},
        {"max_instances": 0},
        {"start_method": "thread"},
        {"runtimes": {"ruby": "/usr/bin/ruby"}},
    ],
    ids=repr,
)
def test_argument_that_cannot_work_is_refused(arguments: dict[str, Any]) -> None:
    """Before anything was made: no folder is left, and the message names the argument."""
    with pytest.raises(ValueError, match=next(iter(arguments))[:-1]):
        Engine(**arguments)


def test_other_platforms_are_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine needs Linux with pidfds, and says so when it is made."""
    monkeypatch.setattr(sys, "platform", "darwin")

    with pytest.raises(UnsupportedPlatformError, match="Linux only, not on darwin"):
        Engine()


def test_old_kernel_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 5.3 there is no pidfd_open."""

    def pidfd_open(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)

    with pytest.raises(UnsupportedPlatformError, match=r"Linux 5\.3 or newer"):
        Engine()


def test_making_an_engine_starts_nothing() -> None:
    """Neither a process nor a thread: both come with the first invocation."""
    children, threads = psutil.Process().children(), threading.active_count()
    with Engine():
        assert (children, threads) == (psutil.Process().children(), threading.active_count())


def test_closed_engine_refuses_everything(make_function: FunctionMaker) -> None:
    """Every front door, each time; closing it again is nothing."""
    function = make_function(SOURCE)
    engine = Engine()
    engine.close()
    engine.close()

    with pytest.raises(EngineClosedError):
        engine.invoke(function, None)
    with pytest.raises(EngineClosedError):
        engine.submit(function, None)
    with pytest.raises(EngineClosedError):
        list(engine.map(function, [1]))
    with pytest.raises(EngineClosedError):
        engine.warm_up(["python3"])
    with pytest.raises(EngineClosedError):
        engine.release_idle()
    with pytest.raises(EngineClosedError), engine:
        engine.invoke(function, None)


@pytest.mark.parametrize("function", [None, "index.handler"], ids=repr)
def test_what_is_no_function_is_a_type_error(engine: Engine, function: Any) -> None:
    """And not something that fails further down."""
    with pytest.raises(TypeError, match=f"must be an engine.Function, not {type(function).__name__}"):
        engine.invoke(function, None)


def test_wrong_event_costs_no_instance(own_engine: Engine, make_function: FunctionMaker) -> None:
    """It is refused before anything is started."""
    children = psutil.Process().children()
    with pytest.raises(InvalidEventError):
        own_engine.invoke(make_function(SOURCE), {1, 2})

    assert children == psutil.Process().children()


def test_request_id_is_the_callers_or_a_new_uuid(engine: Engine, make_function: FunctionMaker) -> None:
    """The function, the summary and the log carry the same one."""
    function = make_function(SOURCE)
    given, first, second = (engine.invoke(function, 1, request_id=each) for each in ("mine", None, None))

    assert ("mine", "mine") == (given.value[2], given.summary.request_id)
    assert first.summary.request_id == first.value[2]
    assert first.value[2] != second.value[2]
    for result in (first, second):
        assert [8, 4, 4, 4, 12] == [len(part) for part in result.value[2].split("-")]
        assert "4" == result.value[2][14]
        assert result.value[2][19] in "89ab"


def test_two_engines_have_settings_of_their_own(make_function: FunctionMaker) -> None:
    """And instances of their own, at the same time."""
    function = make_function("def handler(event, context):\n    print('0123456789')\n    return 1\n")
    with Engine(log_bytes=4) as short, Engine(billing_step_ms=1000) as coarse:
        one, two = short.invoke(function, None), coarse.invoke(function, None)

    assert ("789\n", 7) == (one.log, one.log_dropped_bytes)
    assert (1000, "0123456789\n") == (two.summary.billed_duration_ms, two.log)


@pytest.mark.slow
def test_engine_serves_many_threads_at_once(own_engine: Engine, make_function: FunctionMaker) -> None:
    """Each gets the result of its own event; no more instances than callers, and one zygote for all of them."""
    function = make_function(SOURCE)
    others = len(psutil.Process().children())
    with ThreadPoolExecutor(4) as callers:
        results = list(callers.map(lambda n: own_engine.invoke(function, n, request_id=str(n)), range(40)))

    assert [[n, str(n)] for n in range(40)] == [[result.value[0], result.value[2]] for result in results]
    assert 1 <= len({result.value[1] for result in results}) <= 4
    assert others + 1 == len(psutil.Process().children())


def test_max_instances_is_never_passed(make_function: FunctionMaker) -> None:
    """Further callers wait for one."""
    with Engine(max_instances=1) as engine, ThreadPoolExecutor(4) as callers:
        function = make_function(SOURCE)
        results = list(callers.map(functools.partial(engine.invoke, function), range(12)))

    assert list(range(12)) == [result.value[0] for result in results]
    assert 1 == len({result.value[1] for result in results})


def test_submit_gives_a_future_of_the_same_result(own_engine: Engine, make_function: FunctionMaker) -> None:
    """Its errors come out of the future, as they come out of invoke()."""
    function = make_function(SOURCE)
    fine, wrong = own_engine.submit(function, 1, request_id="mine"), own_engine.submit(function, {1, 2})

    assert [1, "mine"] == [fine.result(PATIENCE_S).value[index] for index in (0, 2)]
    assert isinstance(wrong.exception(PATIENCE_S), InvalidEventError)


def test_map_is_lazy_and_in_order(engine: Engine, make_function: FunctionMaker) -> None:
    """Nothing is taken before the first result is asked for, and then no more than a window: it may be endless."""
    taken: list[int] = []

    def events() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    results = engine.map(make_function(SOURCE), events())

    assert [] == taken
    assert [0, 1, 2] == [next(results).value[0] for _ in range(3)]
    assert len(taken) <= 3 + 1024
    results.close()


def test_close_ends_what_is_running(make_function: FunctionMaker, tmp_path: Path, wait_until_dead: DeathWatch) -> None:
    """At once, and whoever waits for it is told that the engine was closed."""
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    function = make_function(
        """
        import os
        import time

        def handler(event, context):
            with open(event, "w") as fifo:
                fifo.write(str(os.getpid()))
            time.sleep(30)
        """,
        timeout_s=30.0,
    )
    with Engine() as engine:
        running = engine.submit(function, str(fifo))
        pid = int(fifo.read_text())

    assert isinstance(running.exception(PATIENCE_S), EngineClosedError)
    assert not psutil.pid_exists(pid)


def test_engine_is_closed_by_who_learns_of_a_result(make_function: FunctionMaker) -> None:
    """A done-callback runs on the thread that invoked, which need not wait for its own end."""
    closed: Future[list[bool]] = Future()

    def close(done: Future[Result]) -> None:
        try:
            engine.close()
            closed.set_result([psutil.pid_exists(done.result().value[1]), engine._finalizer.alive])
        except BaseException as error:  # noqa: BLE001  # told to who waits
            closed.set_exception(error)

    engine = Engine()
    engine.submit(make_function(SOURCE), None).add_done_callback(close)

    assert [False, False] == closed.result(PATIENCE_S)
    assert engine._executor is not None
    engine._executor.shutdown()  # its thread is told to end, and may not have done so yet


def test_forgotten_engine_leaves_nothing(make_function: FunctionMaker) -> None:
    """Without a close(): when nobody holds it any more, its processes, threads, folder and descriptors are gone."""
    before = set(os.listdir(tempfile.gettempdir()))
    engine = Engine()
    pid = engine.invoke(make_function(SOURCE), None).value[1]
    submitted = engine.submit(make_function(SOURCE), None).result(PATIENCE_S).value[1]
    del engine
    gc.collect()

    assert [False, False] == [psutil.pid_exists(each) for each in (pid, submitted)]
    assert before == set(os.listdir(tempfile.gettempdir()))


class Owner:
    """Has an engine whose log knows its owner."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.engine = Engine(logger=self)

    def info(self, event: str, **_: Any) -> None:
        self.told.append(event)


def test_engine_whose_log_knows_its_owner_is_forgotten_with_that(make_function: FunctionMaker) -> None:
    """As a log that structlog.bind() made for it does."""
    owner = Owner()
    pid = owner.engine.invoke(make_function(SOURCE), None).value[1]
    told = owner.told
    del owner
    gc.collect()

    assert not psutil.pid_exists(pid)
    assert ["instance_started", "invocation_finished"] == told


@pytest.mark.slow
def test_host_that_never_closes_its_engine_ends_without_a_word(code: Path, runtime: str) -> None:
    """Nothing hangs, nothing is complained about, and nothing is left: the fixture counts processes and folders."""
    program = """
        engine = Engine()
        tell(engine.invoke(function, 1).value[0])
        tell(engine.submit(function, 2).result().value[0])
        """

    assert ["1", "2"] == output_of(program, code, runtime)


@pytest.mark.slow
def test_forked_copy_of_a_host_is_refused(code: Path, runtime: str) -> None:
    """It says why, and may end as it likes: the engine of the original goes on, in the same instance."""
    program = """
        with Engine() as engine:
            before = engine.invoke(function, 1).value
            pid = os.fork()
            if pid == 0:
                for refused in (engine.invoke, engine.submit):
                    try:
                        refused(function, 1)
                    except EngineClosedError as error:
                        tell("forked copy" in str(error))
                engine.close()
                with Engine() as own:
                    tell(own.invoke(function, "own").value[0])
                sys.exit(0)
            _, status = os.waitpid(pid, 0)
            after = engine.invoke(function, 2).value
            tell(status, before[1] == after[1], after[0])
        """

    assert ["True", "True", "own", "0 True 2"] == output_of(program, code, runtime)


@pytest.mark.slow
def test_killed_host_leaves_no_process(code: Path, runtime: str, wait_until_dead: DeathWatch) -> None:
    """By SIGKILL, in the middle of an invocation: the zygote, the instance and what it started are gone."""
    with start_host("Engine().invoke(function, {'fifo': fifo})", code, runtime) as host:
        instance, daemon = map(int, (code.parent / "fifo").read_text().split())
        zygote = proc.parent(instance)
        host.kill()
        host.communicate(timeout=PATIENCE_S)

    assert zygote > 1
    for pid in (daemon, instance, zygote):
        wait_until_dead(pid)


@pytest.mark.slow
def test_folder_of_a_killed_host_is_removed_by_the_next_engine(code: Path, runtime: str) -> None:
    """SIGKILL leaves it nobody; the folders of engines that live are left alone."""
    before = set(os.listdir(tempfile.gettempdir()))
    with start_host("engine = Engine()\ntell('ready')\nsys.stdin.read()", code, runtime) as host:
        assert host.stdout is not None
        host.stdout.readline()
        with Engine():
            during = set(os.listdir(tempfile.gettempdir()))
        host.kill()
        host.communicate(timeout=PATIENCE_S)
    left = set(os.listdir(tempfile.gettempdir()))
    Engine().close()

    assert 2 == len(during - before)
    assert 1 == len(left - before)
    assert before == set(os.listdir(tempfile.gettempdir()))


@pytest.mark.slow
def test_copy_of_a_host_keeps_nothing_alive(code: Path, runtime: str, wait_until_dead: DeathWatch) -> None:
    """It holds a copy of every descriptor and lives on; that its original died is noticed all the same."""
    program = """
        engine = Engine()
        instance = engine.invoke(function, 1).value[1]
        copy = os.fork()
        if copy == 0:
            sys.stdin.read()
            os._exit(0)
        tell(instance, copy)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    with start_host(program, code, runtime) as host:
        assert host.stdout is not None
        instance, copy = map(int, host.stdout.readline().split())
        host.wait(PATIENCE_S)
        wait_until_dead(instance)
        copy_lived_on = proc.is_alive(copy)
        host.communicate(timeout=PATIENCE_S)

    assert copy_lived_on


@pytest.mark.slow
def test_interrupted_invocation_leaves_nothing(code: Path, runtime: str) -> None:
    """KeyboardInterrupt passes through invoke(); by then the tree is dead, and the engine goes on."""
    program = """
        def interrupt():
            with open(fifo) as running:
                pids.extend(running.read().split())
            os.kill(os.getpid(), signal.SIGINT)

        pids = []
        with Engine() as engine:
            threading.Thread(target=interrupt).start()
            try:
                engine.invoke(function, {"fifo": fifo})
            except KeyboardInterrupt:
                tell("interrupted", [os.path.exists("/proc/" + pid) for pid in pids])
            tell(engine.invoke(function, "next").value[0])
        """

    assert ["interrupted [False, False]", "next"] == output_of(program, code, runtime)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_signals_of_a_host_are_not_the_functions(code: Path, runtime: str, method: str) -> None:
    """What it blocks or ignores is kept across an exec: a function has those of a fresh interpreter all the same."""
    program = f"""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        for number in signal.valid_signals() - {{signal.SIGKILL, signal.SIGSTOP}}:
            signal.signal(number, signal.SIG_IGN)
        with Engine(start_method="{method}") as engine:
            tell(*engine.invoke(function, "signals").value)
        """
    ignored = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1

    assert [f" {ignored:x}"] == output_of(program, code, runtime)


@pytest.mark.slow
@pytest.mark.parametrize(
    "habit",
    [
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "signal.signal(signal.SIGCHLD, lambda *_: [None for _ in iter(reap, (0, 0))])",
        "threading.Thread(target=reap_for_ever, daemon=True).start()",
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
        "os.close(0); os.close(1); sys.modules['sandbox'] = signal",
        "os.chdir('/proc/self'); os.environ.clear(); os.setsid(); os.umask(0o777); sys.setswitchinterval(1e-6)",
    ],
)
def test_habits_of_a_host_do_not_break_the_engine(code: Path, runtime: str, habit: str) -> None:
    """Its signals, its waitpid(-1), its descriptors and its umask: results and kills are told as ever."""
    program = f"""
        def reap():
            try:
                return os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return (0, 0)

        def reap_for_ever():
            while True:
                try:
                    os.waitpid(-1, 0)
                except ChildProcessError:
                    threading.Event().wait(0.001)

        out = os.dup(1)
        {habit}
        with Engine() as engine:
            results = [engine.invoke(function, 1) for _ in range(2)]
            hasty = Function(code=code, handler="index.handler", runtime=runtime, timeout_s=0.05)
            results += [engine.invoke(hasty, "sleep"), engine.invoke(dataclasses.replace(hasty, timeout_s=20.0), 2)]
        os.write(out, b" ".join(result.status.value.encode() for result in results))
        """

    assert ["success success timeout success"] == output_of(program, code, runtime)


MODES = """
    import os

    def handler(event, context):
        umask = os.umask(0)
        paths = [os.path.dirname(__file__), __file__, os.environ["TMPDIR"]]
        return ["%o" % each for each in [umask] + [os.stat(path).st_mode & 0o777 for path in paths]]
"""


@pytest.mark.parametrize("kind", ["file", "archive"])
def test_umask_of_the_host_is_not_the_engines(tmp_path: Path, runtime: str, kind: str) -> None:
    """What the engine makes can be used by its owner, and a function has the usual umask: root would not notice."""
    code = tmp_path / ("index.py" if kind == "file" else "code.zip")
    if kind == "file":
        code.write_text(textwrap.dedent(MODES), encoding="utf-8")
    else:
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("src/index.py", textwrap.dedent(MODES))
    program = """
        os.umask(0o777)
        with Engine() as engine:
            handler = "index.handler" if code.endswith(".py") else "src/index.handler"
            result = engine.invoke(dataclasses.replace(function, handler=handler), None)
            lock = os.stat(os.path.join(engine._fleet._workspace.root, "lock")).st_mode & 0o777
        tell(*result.value, "%o" % lock)
        """

    folder, file = ("700", "644") if kind == "file" else ("755", "600")
    assert [f"22 {folder} {file} 700 600"] == output_of(program, code, runtime)


def test_engine_closed_while_a_function_is_staged_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that a file is copied into goes away under our feet: the engine is closed, and no file is missing."""
    (tmp_path / "index.py").write_text("def handler(event, context): pass\n", encoding="utf-8")
    engine = Engine()
    stage = engine._fleet._staging.stage

    def stage_too_late(function: Function) -> object:
        engine.close()
        return stage(function)

    monkeypatch.setattr(engine.runtimes, "find", lambda _runtime: None)
    monkeypatch.setattr(engine._fleet._staging, "stage", stage_too_late)
    with pytest.raises(EngineClosedError):
        engine.invoke(Function(code=tmp_path / "index.py", handler="index.handler"), None)


def test_round_that_was_kept_waiting_does_not_put_off_the_next_one(
    own_engine: Engine, make_function: FunctionMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle instances are looked at once a second; longer pauses are for what looks cost of a processor."""
    own_engine.invoke(make_function("def handler(event, context): pass"), None)
    look = Instance.inspect_idle

    def look_late(instance: Instance) -> Ended | None:
        threading.Event().wait(0.05)
        return look(instance)

    monkeypatch.setattr(Instance, "inspect_idle", look_late)

    assert own_engine._fleet._upkeep.do_what_is_due() <= 2 * NS_PER_S
