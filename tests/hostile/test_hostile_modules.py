"""Modules that attack while they are imported, and handlers that are no plain functions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil
import pytest

from engine import Engine, Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import DeathWatch, FunctionMaker
    from tests.hostile.conftest import ImportArena, Neighbour

LOAD_PREFIX = "function entry exception, error: "


LOAD_ERRORS = {
    "sys.exit": ("sys.exit(3)", "SystemExit", "user code called sys.exit(3)"),
    "quit by exception": ("raise SystemExit", "SystemExit", "user code called sys.exit()"),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
    "a library that is not there": ("import ctypes\nctypes.CDLL('/no/such/library.so')", "OSError", "/no/such/library"),
    "a library that is none": ("import ctypes\nctypes.CDLL(__file__)", "OSError", ""),
    "a module that is not there": ("import nosuchmodule", None, "nosuchmodule"),
    "itself, without end": ("exec(compile(open(__file__).read(), __file__, 'exec'))\n1 / 0", "ZeroDivisionError", ""),
    "recursion": ("def down(): down()\ndown()", None, "recursion"),
}


@pytest.mark.parametrize(("attack", "kind", "message"), LOAD_ERRORS.values(), ids=LOAD_ERRORS)
def test_import_that_fails_is_a_load_error(
    import_arena: ImportArena, attack: str, kind: str | None, message: str
) -> None:
    """Whatever comes out of the module is the reason that is told; the next invocation loads it anew."""
    result = import_arena(attack).result

    assert (Status.LOAD_ERROR, 4001, None) == (result.status, result.error_code, result.value)
    assert result.error is not None
    assert kind in (None, result.error["errorType"])
    assert result.error["errorMessage"].startswith(LOAD_PREFIX)
    assert message in result.error["errorMessage"]
    assert 1 == result.summary.billed_duration_ms


CRASHES = {
    "os.abort": ("os.abort()", "signal SIGABRT"),
    "os._exit": ("os._exit(0)", "exit status 0"),
    "a wild pointer": ("import ctypes\nctypes.string_at(1)", "signal SIGSEGV"),
    "every descriptor closed": ("os.closerange(0, 4096)", "exit status 70"),
    "the limit lifted": ("sys.setrecursionlimit(10 ** 9)\ndown = lambda: down()\ndown()", "signal SIGSEGV"),
}


@pytest.mark.parametrize(("attack", "how"), CRASHES.values(), ids=CRASHES)
def test_import_that_crashes_is_an_exit(import_arena: ImportArena, attack: str, how: str) -> None:
    """Told with its status or its signal; the next invocation loads the module anew."""
    result = import_arena(attack, memory_mb=1024).result

    assert (Status.EXITED, 4204) == (result.status, result.error_code)
    assert f"runtime process is exited, {how}" == (result.error or {})["errorMessage"]


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["spin()", "os.kill(os.getpid(), 19)\nhang()", "import threading\nspin()"])
def test_import_that_does_not_end_is_a_load_timeout(import_arena: ImportArena, attack: str) -> None:
    """Its own deadline, its own status."""
    result = import_arena(attack, load_timeout_s=0.5).result

    assert (Status.LOAD_TIMEOUT, 4012) == (result.status, result.error_code)
    assert 500.0 == result.summary.load_duration_ms


@pytest.mark.parametrize(
    "attack",
    [
        "sys.modules.clear()",
        "sys.modules[__name__] = object()",
        "sys.path[:] = sys.meta_path[:] = sys.path_hooks[:] = []",
        "os.chdir('/'); os.environ.clear()",
        "os.umask(0o777); os.nice(5)",
        "import atexit; atexit.register(spin)",
        "import gc; gc.disable(); gc.set_threshold(1)",
    ],
)
def test_import_that_disturbs_its_interpreter_alone_works(
    engine: Engine, armed: FunctionMaker, neighbour: Neighbour, attack: str, runtime: str
) -> None:
    """What is left after it serves: the same instance, again and again."""
    if runtime == "python2.7" and "sys.modules" in attack:
        pytest.skip("what stands in sys.modules is the module, on 2.7")
    source = f"from arms import *\n\ndef handler(event, context):\n    return 'calm'\n\n{attack}\n"
    function = armed(source)
    results = [engine.invoke(function, None) for _ in range(3)]
    neighbour.check()

    assert ["calm"] * 3 == [each.value for each in results]
    assert [True, False, False] == [each.cold_start for each in results]


@pytest.mark.parametrize("leaving", ["return", "die"])
def test_threads_and_exit_functions_do_not_outlive_the_instance(
    engine: Engine,
    armed: FunctionMaker,
    tmp_path: Path,
    wait_until_dead: DeathWatch,
    leaving: str,
) -> None:
    """A thread goes on between invocations as on the platform; at the end it goes, and no exit function runs."""
    source = """
        import atexit, threading
        from arms import *

        def work():
            give_up_at = time.time() + GIVE_UP_S
            while time.time() < give_up_at:
                time.sleep(0.001)

        def handler(event, context):
            if event:
                atexit.register(lambda: open(event, "w").close())
                atexit.register(spin)
                thread = threading.Thread(target=work)
                thread.daemon = False
                thread.start()
            return [os.getpid(), threading.active_count()]
    """
    function = armed(source)
    pid, count = engine.invoke(function, str(tmp_path / "ran")).value
    again = engine.invoke(function, None)

    assert ([pid, count], False) == (again.value, again.cold_start)
    if leaving == "die":
        os.kill(pid, 15)
        wait_until_dead(pid)
        assert engine.invoke(function, None).cold_start
    engine.release_idle()
    assert not psutil.pid_exists(pid)
    assert not (tmp_path / "ran").exists()


HANDLERS = {
    "a generator function": (
        "def handler(event, context):\n    yield 1\n",
        Status.INVALID_RESULT,
        "generator is not JSON serializable",
    ),
    "a class": (
        "class handler(object):\n    def __init__(self, event, context):\n        pass\n",
        Status.INVALID_RESULT,
        "Object of type handler is not JSON serializable",
    ),
    "a C function of other arguments": ("handler = len\n", Status.FUNCTION_ERROR, "argument"),
    "a text": ("handler = 'handler'\n", Status.LOAD_ERROR, "is not callable"),
    "a generator": ("handler = iter([1])\n", Status.LOAD_ERROR, "is not callable"),
    "an object whose call raises": (
        "class H(object):\n    def __call__(self, *args):\n        raise ValueError('called')\nhandler = H()\n",
        Status.FUNCTION_ERROR,
        "called",
    ),
    "an object whose class raises": (
        (
            "class H(object):\n    __class__ = property(lambda self: 1 / 0)\n    def __call__(self, *args):\n"
            "        raise ValueError('called')\nhandler = H()\n"
        ),
        Status.FUNCTION_ERROR,
        "called",
    ),
    "a coroutine function": (
        "async def handler(event, context):\n    return 1\n",
        Status.LOAD_ERROR,
        "handler 'handler' is a coroutine function: define it with def and run the coroutine inside it",
    ),
    "an asynchronous generator": (
        "async def handler(event, context):\n    yield 1\n",
        Status.LOAD_ERROR,
        "handler 'handler' is a coroutine function: define it with def and run the coroutine inside it",
    ),
    "a partial of a coroutine function": (
        "import functools\nasync def run(event, context):\n    return 1\nhandler = functools.partial(run)\n",
        Status.INVALID_RESULT,
        "coroutine is not JSON serializable",
    ),
}


@pytest.mark.parametrize("kind", HANDLERS)
def test_handler_of_an_unusual_kind_is_told_what_is_wrong(
    engine: Engine, make_function: FunctionMaker, neighbour: Neighbour, kind: str
) -> None:
    """Each kind has its own clear error, again at the next invocation."""
    source, status, message = HANDLERS[kind]
    function = make_function(source)
    if function.runtime == "python2.7" and "async def" in source:
        pytest.skip("2.7 has no coroutines")
    for _ in range(2):
        result = engine.invoke(function, None)

        assert status is result.status
        assert message in (result.error or {})["errorMessage"]
    neighbour.check()


WORKING_HANDLERS = {
    "a class that is a dict": "class handler(dict):\n    def __init__(self, event, context): self['a'] = 1\n",
    "a C function": "import operator\nhandler = operator.is_\n",
    "a partial": "import functools\nhandler = functools.partial(lambda a, event, context: [a], 1)\n",
    "a method of a class": "class H(object):\n    @staticmethod\n    def h(event, context): pass\nhandler = H.h\n",
    "a callable object": "class H(object):\n    def __call__(self, event, context): return 'h'\nhandler = H()\n",
}


@pytest.mark.parametrize("source", WORKING_HANDLERS.values(), ids=WORKING_HANDLERS)
def test_handler_of_an_unusual_kind_works(engine: Engine, make_function: FunctionMaker, source: str) -> None:
    """Whatever can be called with an event and a context, cold and warm."""
    function = make_function(source)
    first, second = engine.invoke(function, None), engine.invoke(function, None)

    assert (Status.SUCCESS, Status.SUCCESS) == (first.status, second.status)
    assert (first.value, False) == (second.value, second.cold_start)
