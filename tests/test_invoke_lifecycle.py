"""Handlers, initializers, and instances that live from a cold start over warm ones to their end."""

from __future__ import annotations

import fcntl
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from engine import Engine, EngineClosedError, Function, Status, workspace

if TYPE_CHECKING:
    from tests.conftest import DeathWatch, FunctionMaker, Invoker

COUNTING = """
    import os

    calls = 0

    def handler(event, context):
        global calls
        calls += 1
        return [calls, os.getpid()]
"""


@pytest.mark.parametrize(
    "handler",
    [
        "index.handler",
        "main.run",
        "index.Handler_2",
        "src/index.handler",
        "src.index.handler",
        "a/b/c.handler",
        "a.b.c.handler",
        "my-function.handler",
        "json.handler",
        "types.handler",
        "code.handler",
        "handler.handler",
    ],
)
def test_handler_may_have_any_name_and_folder(invoke: Invoker, handler: str) -> None:
    """[file].[function], with slashes or dots between folders, also where the standard library has that name."""
    name = handler.rpartition(".")[2]

    assert "here" == invoke(f"def {name}(event, context):\n    return 'here'\n", handler=handler).value


def test_function_named_like_the_standard_library_leaves_it_alone(invoke: Invoker) -> None:
    """json.handler is a file of the function; the engine goes on using the real json."""
    source = "def dumps(value):\n    return 'mine'\n\ndef handler(event, context):\n    return {'k': [1.5]}\n"

    assert '{"k": [1.5]}' == invoke(source, handler="json.handler").body


def test_a_folder_with_an_init_file_is_a_package(invoke: Invoker) -> None:
    """Its __init__.py runs before the handler's file, which may import from it relatively."""
    source = "from . import READY\nfrom .part import PART\n\ndef handler(event, context):\n    return [READY, PART]\n"
    result = invoke(
        source, handler="shop/index.handler", files={"shop/__init__.py": "READY = 1\n", "shop/part.py": "PART = 2\n"}
    )

    assert [1, 2] == result.value


def test_globals_live_on_between_invocations(engine: Engine, make_function: FunctionMaker) -> None:
    """One cold start, then the same process with the same module."""
    function = make_function(COUNTING)
    results = [engine.invoke(function, None) for _ in range(4)]

    assert [1, 2, 3, 4] == [result.value[0] for result in results]
    assert 1 == len({result.value[1] for result in results})
    assert [True, False, False, False] == [result.cold_start for result in results]


def test_equal_descriptions_share_instances_and_others_do_not(engine: Engine, make_function: FunctionMaker) -> None:
    """A function is what its description says, field by field."""
    function = make_function(COUNTING)
    same = Function(code=function.code, handler=function.handler, runtime=function.runtime)
    others = [
        Function(code=function.code, handler=function.handler, runtime=function.runtime, user_data={"K": "v"}),
        Function(code=function.code, handler=function.handler, runtime=function.runtime, memory_mb=256),
        Function(code=function.code, handler=function.handler, runtime=function.runtime, version="v2"),
    ]

    assert 1 == engine.invoke(function, None).value[0]
    assert 2 == engine.invoke(same, None).value[0]
    assert [1, 1, 1] == [engine.invoke(other, None).value[0] for other in others]


def test_initializer_runs_once_for_each_instance(engine: Engine, make_function: FunctionMaker) -> None:
    """Before the first request, with what it prepared there for all of them."""
    function = make_function(
        """
        steps = []

        def prepare(context):
            steps.append("prepare")

        def handler(event, context):
            steps.append(event)
            return steps
        """,
        initializer="index.prepare",
    )

    assert ["prepare", 1] == engine.invoke(function, 1).value
    assert ["prepare", 1, 2] == engine.invoke(function, 2).value


def test_initializer_may_be_in_another_file(invoke: Invoker) -> None:
    """It is the same module that the handler imports, not a second copy."""
    result = invoke(
        "import setup_it\n\ndef handler(event, context):\n    return setup_it.READY\n",
        files={"setup_it.py": "READY = []\n\ndef prepare(context):\n    READY.append(1)\n"},
        initializer="setup_it.prepare",
    )

    assert [1] == result.value


def test_module_of_the_handler_is_imported_once(invoke: Invoker) -> None:
    """A helper that imports the handler's module by name gets the one that runs."""
    source = """
        import helper

        kept = []
        helper.imported.append(__name__)

        def handler(event, context):
            return [helper.keep(1), kept, helper.imported]
    """
    helper = """
        imported = []

        def keep(value):
            import index
            index.kept.append(value)
            return index.__name__
    """

    assert ["index", [1], ["index"]] == invoke(source, files={"helper.py": helper}).value


def test_failing_initializer_abandons_the_instance(engine: Engine, make_function: FunctionMaker) -> None:
    """Its error has the platform's prefix and number; the next invocation starts over, also the import."""
    function = make_function(
        """
        import os

        FLAG = os.path.join(os.path.dirname(os.path.abspath(__file__)), "flag")

        def prepare(context):
            print("preparing")
            if not os.path.exists(FLAG):
                open(FLAG, "w").close()
                raise RuntimeError("not yet")

        def handler(event, context):
            return "fine"
        """,
        initializer="index.prepare",
    )
    failed, fine = engine.invoke(function, None), engine.invoke(function, None)

    assert (Status.INITIALIZER_ERROR, 4009, True) == (failed.status, failed.error_code, failed.cold_start)
    assert failed.error is not None
    assert "function initialization exception, error: not yet" == failed.error["errorMessage"]
    assert "RuntimeError" == failed.error["errorType"]
    assert ['File "./index.py", line 10, in prepare', '    raise RuntimeError("not yet")'] == failed.error["stackTrace"]
    assert failed.log.startswith("preparing\nTraceback")
    assert failed.log.endswith("RuntimeError: not yet\n")
    assert failed.summary.initializer_billed_duration_ms is not None
    assert failed.summary.initializer_billed_duration_ms >= 1
    assert ("fine", True) == (fine.value, fine.cold_start)


@pytest.mark.parametrize(
    ("initializer", "message", "kind"),
    [
        ("index.missing", "initializer 'missing' not found in module './index.py'", "FunctionConfigError"),
        ("nothere.prepare", "not found module './nothere.py'", "FunctionLoadError"),
        ("index.handler", "initializer expect to have 1 parameter, but received 2", "FunctionConfigError"),
    ],
)
def test_initializer_that_cannot_be_called_is_told(invoke: Invoker, initializer: str, message: str, kind: str) -> None:
    """In the words of the platform, with its number."""
    result = invoke("def handler(event, context):\n    return 1\n", initializer=initializer)

    assert (Status.INITIALIZER_ERROR, 4009) == (result.status, result.error_code)
    assert {
        "errorMessage": f"function initialization exception, error: {message}",
        "errorType": kind,
        "stackTrace": [],
    } == result.error


def test_sys_exit_in_an_initializer_is_its_failure(invoke: Invoker) -> None:
    """And not the end of the engine, or of the invocation without a word."""
    result = invoke(
        "import sys\n\ndef prepare(context):\n    sys.exit(2)\n\ndef handler(event, context):\n    return 1\n",
        initializer="index.prepare",
    )

    assert Status.INITIALIZER_ERROR is result.status
    assert result.error is not None
    assert "SystemExit" == result.error["errorType"]


def test_changed_handler_file_starts_a_new_instance(engine: Engine, make_function: FunctionMaker) -> None:
    """Of the same size, within the same second: the next invocation runs what is on the disk."""
    function = make_function("def handler(event, context):\n    return 1\n")
    index = Path(function.code) / "index.py"
    values = []
    for n in (1, 2, 3):
        index.write_text(f"def handler(event, context):\n    return {n}\n", encoding="utf-8")
        values += [engine.invoke(function, None) for _ in range(2)]

    assert [1, 1, 2, 2, 3, 3] == [result.value for result in values]
    assert [True, False] * 3 == [result.cold_start for result in values]


def test_replaced_handler_file_starts_a_new_instance(engine: Engine, make_function: FunctionMaker) -> None:
    """As editors save: a new file takes the name, even with an older time on it."""
    function = make_function("def handler(event, context):\n    return 1\n")
    first = engine.invoke(function, None)
    fresh = Path(function.code) / "index.py.new"
    fresh.write_text("def handler(event, context):\n    return 2\n", encoding="utf-8")
    os.utime(fresh, (1_000_000_000, 1_000_000_000))
    fresh.replace(Path(function.code) / "index.py")

    assert (1, 2) == (first.value, engine.invoke(function, None).value)


def test_changed_archive_starts_a_new_instance(tmp_path: Path, runtime: str) -> None:
    """An archive that was written anew is unpacked anew."""
    archive = tmp_path / "code.zip"
    function = None
    values = []
    with Engine() as engine:
        for n in (1, 2):
            with zipfile.ZipFile(archive, "w") as out:
                out.writestr("index.py", f"def handler(event, context):\n    return {n}\n")
            function = function or Function(code=archive, handler="index.handler", runtime=runtime)
            values += [engine.invoke(function, None).value for _ in range(2)]

    assert [1, 1, 2, 2] == values


def test_busy_function_gets_another_instance(own_engine: Engine, make_function: FunctionMaker, tmp_path: Path) -> None:
    """Two invocations that wait for each other both end: they run at the same time, in two processes."""
    for name in ("a", "b"):
        os.mkfifo(tmp_path / name)
    function = make_function(
        """
        import os

        def handler(event, context):
            mine, other = event
            if mine < other:
                open(mine, "w").close()
                open(other).close()
            else:
                open(other).close()
                open(mine, "w").close()
            return os.getpid()
        """,
        timeout_s=10.0,
    )
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    running = [own_engine.submit(function, [a, b]), own_engine.submit(function, [b, a])]
    results = [future.result() for future in running]

    assert [Status.SUCCESS, Status.SUCCESS] == [result.status for result in results]
    assert 2 == len({result.value for result in results})


def test_map_gives_results_in_the_order_of_events(engine: Engine, make_function: FunctionMaker) -> None:
    """One result an event, failures among them where they belong."""
    function = make_function("def handler(event, context):\n    return 12 // event\n")
    results = list(engine.map(function, [1, 2, 0, 4]))

    assert [12, 6, None, 3] == [result.value for result in results]
    assert Status.FUNCTION_ERROR is results[2].status


def test_idle_instance_is_released_after_a_while(make_function: FunctionMaker, wait_until_dead: DeathWatch) -> None:
    """Nobody needs to ask for it."""
    function = make_function(COUNTING)
    with Engine(idle_timeout_s=0.05) as engine:
        wait_until_dead(engine.invoke(function, None).value[1])
        again = engine.invoke(function, None)

    assert (1, True) == (again.value[0], again.cold_start)


def test_release_idle_ends_instances_at_once(engine: Engine, make_function: FunctionMaker) -> None:
    """When it returns they are gone, and the next start is cold."""
    function = make_function(COUNTING)
    pid = engine.invoke(function, None).value[1]
    engine.release_idle()

    assert not psutil.pid_exists(pid)
    assert engine.invoke(function, None).cold_start


def test_close_ends_everything_and_is_final(make_function: FunctionMaker) -> None:
    """Closing twice is closing once; a closed engine says so."""
    function = make_function(COUNTING)
    with Engine() as engine:
        pid = engine.invoke(function, None).value[1]
    engine.close()

    assert not psutil.pid_exists(pid)
    with pytest.raises(EngineClosedError):
        engine.invoke(function, None)
    with pytest.raises(EngineClosedError):
        engine.submit(function, None)


def test_two_engines_do_not_disturb_each_other(engine: Engine, make_function: FunctionMaker) -> None:
    """Closing one leaves the other's instances as they were."""
    function = make_function(COUNTING)
    first = engine.invoke(function, None).value
    with Engine() as other:
        assert first[1] != other.invoke(function, None).value[1]

    assert [2, first[1]] == engine.invoke(function, None).value


def test_instances_do_not_share_their_random_numbers(engine: Engine, make_function: FunctionMaker) -> None:
    """However they were started, two processes do not draw the same."""
    source = """
        import random
        import uuid

        def handler(event, context):
            return [random.random(), str(uuid.uuid4())]
    """
    one, two = (engine.invoke(make_function(source), None).value for _ in range(2))

    assert one[0] != two[0]
    assert one[1] != two[1]


def test_max_instances_makes_further_calls_wait(make_function: FunctionMaker) -> None:
    """With one instance allowed, calls that come together are served one after the other by the same process."""
    function = make_function(COUNTING)
    with Engine(max_instances=1) as engine:
        running = [engine.submit(function, None) for _ in range(5)]
        values = [future.result().value for future in running]

    assert [1, 2, 3, 4, 5] == sorted(calls for calls, _ in values)
    assert 1 == len({pid for _, pid in values})


def test_close_ends_a_running_invocation(make_function: FunctionMaker, tmp_path: Path) -> None:
    """Whoever waits for it is told that the engine was closed; nobody waits for the function."""
    os.mkfifo(tmp_path / "started")
    function = make_function(
        """
        import time

        def handler(event, context):
            open(event, "w").close()
            time.sleep(30)
        """,
        timeout_s=30.0,
    )
    with Engine() as engine:
        running = engine.submit(function, str(tmp_path / "started"))
        (tmp_path / "started").read_text()

    assert isinstance(running.exception(), EngineClosedError)


def test_engine_keeps_its_folder_when_another_one_starts_at_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newcomer removes folders that nobody holds; one that is just being made is not nobody's."""
    flock = fcntl.flock
    newcomers = ["waiting"] * 5  # a few: an engine that lost may try again, and must not lose for ever

    def flock_after_a_newcomer(descriptor: int, how: int) -> None:
        if newcomers and newcomers[-1] == "waiting":
            newcomers[-1] = "at work"  # its own locking comes this way, too
            workspace.remove_abandoned()
            newcomers.pop()
        flock(descriptor, how)

    monkeypatch.setattr(workspace.fcntl, "flock", flock_after_a_newcomer)
    with Engine() as engine:
        assert os.path.isdir(engine._fleet._workspace.root)
