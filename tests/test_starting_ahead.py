"""What is started before anybody needs it: spare instances, and processes with preloaded modules."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import Engine, Function, InstanceStartError, InvalidFunctionError, Status, blank
from engine.blank import Kind, Stock
from engine.enforcement import Enforcement
from engine.guard import limits_of
from engine.launch import Zygote, ZygoteSpec
from engine.workspace import Workspace
from engine.zygotes import MAX_PRELOADED, Zygotes
from tests.conftest import DeathWatch, FunctionMaker

PATIENCE_S = 10
LIMITS = limits_of(128, 1024, 512)

WHO = """
    import os

    def handler(event, context):
        return os.getpid()
"""
STATE = """
    import os, random, signal, sys, threading

    def handler(event, context):
        signals = [str(signal.getsignal(n)) for n in range(1, 32)]
        return {
            "modules": sorted(sys.modules), "path": sys.path, "argv": sys.argv, "cwd": os.listdir(os.getcwd()),
            "descriptors": len(os.listdir("/proc/self/fd")), "threads": threading.active_count(),
            "environment": sorted(os.environ), "umask": os.umask(0), "signals": signals, "random": random.random(),
            "limits": open("/proc/self/limits").read(), "nice": os.nice(0),
        }
"""


def spare_pids(engine: Engine) -> list[int]:
    """The spares of *engine*, once there are as many as there will be."""
    stock = engine._fleet._starter._stock
    with stock._changed:
        assert stock._changed.wait_for(
            lambda: all(len(stock._blanks.get(each, ())) == stock._size for each in stock._wanted), PATIENCE_S
        )
        return [each.process.pid for blanks in stock._blanks.values() for each in blanks]


@pytest.fixture(params=["fork", "spawn"])
def spared(runtime: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine with one spare instance of the runtime, ready."""
    with Engine(start_method=request.param) as engine:
        engine.warm_up([runtime])
        assert 1 == len(spare_pids(engine))
        yield engine


def test_function_gets_the_spare_and_another_one_follows(spared: Engine, make_function: FunctionMaker) -> None:
    """One that needs an instance gets the one that is there; the next one is started in the background."""
    first = spare_pids(spared)
    results = [spared.invoke(make_function(WHO), None)]
    second = spare_pids(spared)
    results.append(spared.invoke(make_function(WHO), None))

    assert [first, second] == [[each.value] for each in results]
    assert [True, True] == [each.cold_start for each in results]
    assert first != second


def test_spare_is_as_new_as_one_started_on_the_spot(spared: Engine, make_function: FunctionMaker) -> None:
    """Whatever a function can see of itself is the same, but for what is random."""
    function = make_function(STATE)
    with Engine(spare_instances=0, start_method=spared._fleet._starter._start_method) as other:
        fresh = other.invoke(function, None).value
        again = other.invoke(make_function(STATE), None).value
    spare = spared.invoke(function, None).value
    numbers = [each.pop("random") for each in (fresh, again, spare)]

    assert fresh == spare
    assert 3 == len(set(numbers))


@pytest.mark.parametrize("enforcement", ["auto", "sample"])
def test_spare_keeps_the_limits_of_its_function(make_function: FunctionMaker, runtime: str, enforcement: Any) -> None:
    """It was started before anybody knew them, and with those of a function that says nothing."""
    source = """
        def handler(event, context):
            return len(b"x" * (event << 20))
    """
    with Engine(memory_enforcement=enforcement) as engine:
        outcomes = []
        for memory_mb, event in ((48, 60), (300, 200), (48, 8)):
            engine.warm_up([runtime])
            expected = spare_pids(engine)
            result = engine.invoke(make_function(source, memory_mb=memory_mb), event)
            outcomes.append(result.status)
            assert 1 == len(expected)

    assert [Status.OUT_OF_MEMORY, Status.SUCCESS, Status.SUCCESS] == outcomes


@pytest.mark.parametrize("limits", [limits_of(64, 16, 512), limits_of(512, 2048, 512), LIMITS])
def test_group_of_a_spare_is_given_the_limits_of_its_function(
    limits: Any, runtime: str, engine: Engine, tmp_path: Path
) -> None:
    """Larger and smaller ones: the kernel's own files tell it."""
    workspace = Workspace()
    enforcement = Enforcement("auto", workspace)
    zygotes, stock = Zygotes(), Stock(enforcement, str(tmp_path), 1, 4096)
    try:
        with zygotes.lease(ZygoteSpec(engine.runtimes.find(runtime))) as zygote:
            stock.order(Kind(zygote, "fork"), LIMITS)
            stock.fill()
            taken = stock.take(Kind(zygote, "fork"), limits)
            assert taken is not None
            group = taken.group
            if group is not None:
                kept = int(Path(group._memory, group._files.limit).read_text())
                tasks = Path(group._pids, "pids.max").read_text() if group._pids else str(limits.processes)
                assert (enforcement._limit_bytes(limits), limits.processes) == (kept, int(tasks))
            taken.discard()
    finally:
        stock.close()
        zygotes.close()
        enforcement.close()
        workspace.close()


def test_spare_that_died_is_not_handed_out(
    spared: Engine, make_function: FunctionMaker, wait_until_dead: DeathWatch
) -> None:
    """Killed from outside while nobody looked: the function gets another one, and no error."""
    (pid,) = spare_pids(spared)
    os.kill(pid, signal.SIGKILL)
    wait_until_dead(pid)
    result = spared.invoke(make_function(WHO), None)

    assert Status.SUCCESS is result.status
    assert pid != result.value


def test_zygote_that_died_takes_its_spare_with_it(
    spared: Engine, make_function: FunctionMaker, wait_until_dead: DeathWatch
) -> None:
    """The next start is made by another one."""
    (pid,) = spare_pids(spared)
    (zygote,) = spared._fleet._starter.zygotes.everything()
    os.kill(zygote.pid, signal.SIGKILL)
    wait_until_dead(pid)

    assert Status.SUCCESS is spared.invoke(make_function(WHO), None).status


def test_release_of_what_is_idle_ends_spares(spared: Engine, wait_until_dead: DeathWatch) -> None:
    """They are idle as well; nobody has asked for another one since."""
    (pid,) = spare_pids(spared)
    spared.release_idle()

    assert not psutil.pid_exists(pid)
    assert [] == spare_pids(spared)


def test_engine_without_spares_starts_nothing_ahead(make_function: FunctionMaker) -> None:
    """One process below the zygote: the instance that was asked for."""
    with Engine(spare_instances=0) as engine:
        pid = engine.invoke(make_function(WHO), None).value
        engine._fleet._janitor.wake()
        engine._fleet._starter.prepare()  # also when it is asked to

        assert [pid] == [each.pid for each in psutil.Process(psutil.Process(pid).ppid()).children()]


def test_one_caller_waits_for_the_spare_that_is_on_its_way(
    engine: Engine, runtime: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is there sooner than another one could be; a second caller starts one of its own at once."""
    workspace = Workspace()
    enforcement = Enforcement("sample", workspace)
    zygotes, stock = Zygotes(), Stock(enforcement, str(tmp_path), 1, 4096)
    begun, go = threading.Event(), threading.Event()
    start_blank = blank.start_blank

    def slow_start(*arguments: Any, **options: Any) -> Any:
        begun.set()
        assert go.wait(PATIENCE_S)
        return start_blank(*arguments, **options)

    monkeypatch.setattr(blank, "start_blank", slow_start)
    try:
        with ThreadPoolExecutor() as executor, zygotes.lease(ZygoteSpec(engine.runtimes.find(runtime))) as zygote:
            stock.order(Kind(zygote, "fork"), LIMITS)
            filled = executor.submit(stock.fill)
            assert begun.wait(PATIENCE_S)
            waiting = executor.submit(stock.take, Kind(zygote, "fork"), LIMITS)
            while not stock._claimed:  # no more than the start of a thread
                pass
            second = stock.take(Kind(zygote, "fork"), LIMITS)
            go.set()
            taken = waiting.result(PATIENCE_S)
            filled.result(PATIENCE_S)
        assert second is None
        assert taken is not None
        taken.discard()
    finally:
        go.set()
        stock.close()
        zygotes.close()
        workspace.close()


def test_variables_that_act_at_start_are_there_before_the_first_instruction(
    spared: Engine, make_function: FunctionMaker
) -> None:
    """A spare was started without them, so their function gets an interpreter of its own."""
    source = """
        import os, sys

        def handler(event, context):
            return [os.getpid(), sys.flags.optimize]
    """
    ready = spare_pids(spared)
    pid, optimize = spared.invoke(make_function(source, user_data={"PYTHONOPTIMIZE": "2"}), None).value

    assert 2 == optimize
    assert pid not in ready


def test_start_method_of_a_function_comes_before_the_engines(engine: Engine, make_function: FunctionMaker) -> None:
    """A spawned instance has a command line of its own; a forked one has its zygote's."""
    source = """
        def handler(event, context):
            with open("/proc/self/cmdline") as arguments:
                return arguments.read().split("\\0")[4]
    """
    roles = [engine.invoke(make_function(source, start_method=each), None).value for each in (None, "fork", "spawn")]

    assert ["zygote", "zygote", "instance"] == roles


# Preloading


LIBRARY = """
import os

LOADED_BY = os.getpid()
"""
USER = """
    import os
    import {library}

    def handler(event, context):
        return [{library}.LOADED_BY, os.getpid(), os.getppid()]
"""


@pytest.fixture
def libraries(tmp_path: Path) -> Path:
    """A folder of dependencies."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    for number in range(10):
        (folder / f"library{number}.py").write_text(LIBRARY)
    (folder / "broken.py").write_text("raise RuntimeError('not today')\n")
    return folder


def user_of(make_function: FunctionMaker, libraries: Path, number: int = 0, **description: Any) -> Function:
    library = f"library{number}"
    values = {"dependencies": [libraries], "preload": [library], **description}
    return make_function(USER.format(library=library), **values)


def test_preloaded_module_is_imported_once(own_engine: Engine, make_function: FunctionMaker, libraries: Path) -> None:
    """By the process that both instances are forked from, and not by that of functions without it."""
    values = [own_engine.invoke(user_of(make_function, libraries), None).value for _ in range(2)]
    plain = own_engine.invoke(user_of(make_function, libraries, preload=[]), None).value
    loaded_by, pids, parents = zip(*values, strict=True)

    assert parents == loaded_by
    assert 1 == len(set(parents))
    assert 2 == len(set(pids))
    assert plain[1] == plain[0]
    assert plain[2] != parents[0]


def test_preload_leaves_the_import_path_as_it_was(
    own_engine: Engine, make_function: FunctionMaker, libraries: Path
) -> None:
    """The function's own code comes first, its dependencies once, whether something was preloaded or not."""
    source = """
        import sys

        def handler(event, context):
            return sys.path[1:]
    """
    paths = [
        own_engine.invoke(make_function(source, dependencies=[libraries], preload=preload), None).value
        for preload in ([], ["library0"])
    ]

    assert paths[0] == paths[1]


def test_preloaded_random_numbers_differ_between_instances(
    own_engine: Engine, make_function: FunctionMaker, libraries: Path
) -> None:
    """numpy seeds its numbers when it is imported, and does not notice a fork."""
    (libraries / "numpy").mkdir()
    (libraries / "numpy" / "__init__.py").write_text("")
    (libraries / "numpy" / "random.py").write_text(
        "from __future__ import absolute_import\nimport random\nstate = random.Random(1)\nseed = state.seed\n"
    )
    source = """
        import numpy.random
        import random

        def handler(event, context):
            return [numpy.random.state.random(), random.random()]
    """
    values = [
        own_engine.invoke(
            make_function(source, dependencies=[libraries], preload=["numpy.random", "random"]), None
        ).value
        for _ in range(3)
    ]

    assert [3, 3] == [len(set(numbers)) for numbers in zip(*values, strict=True)]


@pytest.mark.parametrize("preload", [[], ["multiprocessing"]])
def test_instances_do_not_share_a_key_of_multiprocessing(
    own_engine: Engine, make_function: FunctionMaker, preload: list[str]
) -> None:
    """Who has the key of a process may talk to its managers and listeners: 2.7's zygote draws one when it starts."""
    source = """
        import binascii
        import multiprocessing

        def handler(event, context):
            return binascii.hexlify(bytes(multiprocessing.current_process().authkey)).decode()
    """
    keys = [own_engine.invoke(make_function(source, preload=preload), None).value for _ in range(3)]

    assert 3 == len(set(keys))
    assert {64} == {len(key) for key in keys}


def test_instance_has_no_descriptor_of_the_zygotes_making(own_engine: Engine, make_function: FunctionMaker) -> None:
    """2.7 opens /dev/urandom when it is first needed, and keeps it; a fresh interpreter has not needed it."""
    source = """
        import os

        def handler(event, context):
            names = os.listdir("/proc/self/fd")
            before = [os.readlink("/proc/self/fd/" + name) for name in names if os.path.exists("/proc/self/fd/" + name)]
            return ["/dev/urandom" in before, len(os.urandom(8))]
    """
    assert [False, 8] == own_engine.invoke(make_function(source), None).value


@pytest.mark.parametrize(
    ("module", "words"), [("broken", "RuntimeError: not today"), ("no_such_library", "no_such_library")]
)
def test_module_that_cannot_be_preloaded_is_told(
    own_engine: Engine, make_function: FunctionMaker, libraries: Path, module: str, words: str
) -> None:
    """The function's description is what is wrong; nothing of it was started."""
    function = make_function(WHO, dependencies=[libraries], preload=[module])
    with pytest.raises(InvalidFunctionError, match=words) as caught:
        own_engine.invoke(function, None)

    assert ("preload", module) == (caught.value.field, caught.value.value)


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ({"preload": "numpy"}, "list"),
        ({"preload": ["../x"]}, "module"),
        ({"preload": [""]}, "module"),
        ({"preload": ["json"], "start_method": "spawn"}, "fork"),
        ({"start_method": "thread"}, "'fork', 'spawn' or None"),
    ],
)
def test_preload_that_can_be_none_is_refused(
    make_function: FunctionMaker, description: dict[str, Any], words: str
) -> None:
    """When the function is described, and not when it is called."""
    with pytest.raises(InvalidFunctionError, match=words):
        make_function(WHO, **description)


def test_preload_is_refused_beside_variables_that_act_at_start(
    own_engine: Engine, make_function: FunctionMaker
) -> None:
    """They need an interpreter of their own, which has nothing preloaded: never a silent step down."""
    function = make_function(WHO, preload=["json"], user_data={"PYTHONHASHSEED": "1"})
    with pytest.raises(InvalidFunctionError, match="PYTHONHASHSEED"):
        own_engine.invoke(function, None)


def test_library_that_ends_the_interpreter_is_named(
    own_engine: Engine, make_function: FunctionMaker, libraries: Path
) -> None:
    """Nobody else could tell why a start failed for this function and for no other one."""
    (libraries / "deadly.py").write_text("import os\nos._exit(5)\n")
    with pytest.raises(InstanceStartError, match=r"preload: library0, deadly"):
        own_engine.invoke(make_function(WHO, dependencies=[libraries], preload=["library0", "deadly"]), None)


def test_preloading_zygotes_are_bounded_and_the_least_recently_used_goes(engine: Engine, runtime: str) -> None:
    """It lives on as long as it is needed, and is closed when nobody does any more."""
    zygotes = Zygotes(max_preloaded=2)
    interpreter = engine.runtimes.find(runtime)
    specs = [ZygoteSpec(interpreter, (module,)) for module in ("json", "email", "decimal")]
    started: list[Zygote] = []
    try:
        with zygotes.lease(ZygoteSpec(interpreter)) as plain, zygotes.lease(specs[1]) as used:
            for spec in (specs[0], specs[1], specs[2]):
                with zygotes.lease(spec) as zygote:
                    started.append(zygote)
            with zygotes.lease(specs[0]) as again:  # now the one of specs[1] is too many, and in use here
                zygotes.close_unused()
                alive = [each.is_alive() for each in (plain, used, again, started[2])]
        zygotes.close_unused()

        assert [True, True, True, True] == alive
        assert [True, False] == [plain.is_alive(), used.is_alive()]
        assert started[0] is not again
    finally:
        zygotes.close()


@pytest.mark.slow
def test_spare_instance_keeps_no_zygote_that_is_too_many(make_function: FunctionMaker) -> None:
    """What nobody uses any more goes with what was started ahead of the next use."""
    modules = ["bz2", "calendar", "code", "csv", "decimal", "email", "json", "shelve", "tarfile", "trace"]
    with Engine(idle_timeout_s=0.05) as engine:
        zygotes = engine._fleet._starter.zygotes
        for module in modules:
            engine.invoke(make_function(WHO, preload=[module]), None)
        patience = time.monotonic() + PATIENCE_S
        while len(zygotes.everything()) > MAX_PRELOADED and time.monotonic() < patience:
            engine._fleet._janitor.wake()
            time.sleep(0.01)

        assert modules[-MAX_PRELOADED:] == [zygote.spec.preload[0] for zygote in zygotes.everything()]
        assert MAX_PRELOADED == len(spare_pids(engine))


def test_zygote_is_not_lost_to_an_interrupt(monkeypatch: pytest.MonkeyPatch, own_engine: Engine) -> None:
    """Ctrl-C while it is looked up: close() still knows of it, and nothing it started is left."""
    zygotes, spec = Zygotes(), ZygoteSpec(own_engine.runtimes.find("python3"))
    with zygotes.lease(spec) as zygote:
        pass

    def interrupted(_zygote: Zygote) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Zygote, "can_start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        zygotes.lease(spec).__enter__()
    monkeypatch.undo()
    known = zygotes.everything()
    zygotes.close()
    zygote.close()

    assert [zygote] == known


@pytest.mark.slow
def test_long_variable_needs_no_spare_instance(make_function: FunctionMaker) -> None:
    """A spawned interpreter takes any variable with its settings, also where none was started ahead."""
    source = "import os\n\ndef handler(event, context):\n    return len(os.environ['LONG'])\n"
    function = make_function(source, user_data={"LONG": "x" * 200_000}, start_method="spawn")
    with Engine(spare_instances=0) as engine:
        result = engine.invoke(function, None)

    assert 200_000 == result.value, result
