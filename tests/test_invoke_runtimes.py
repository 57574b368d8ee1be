"""Which Python runs a function, and that every other 3.x that is installed works as well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine import Engine, Function, RuntimeNotFoundError, Status

if TYPE_CHECKING:
    from tests.conftest import FunctionMaker, Invoker

OTHER_RUNTIMES = [f"python3.{minor}" for minor in (7, 8, 10, 11, 12, 13, 14)]

VERSION = """
    import sys

    def handler(event, context):
        return "python%d.%d" % sys.version_info[:2]
"""

MODERN = """
import sys

calls = 0


def handler(event, context):
    global calls
    calls += 1
    context.getLogger().info("call %d", calls)
    if event == "fail":
        raise KeyError("tea")
    while event == "hang":
        pass
    return {"python": "python%d.%d" % sys.version_info[:2], "event": event, "calls": calls}
"""


@pytest.fixture(params=OTHER_RUNTIMES)
def other_runtime(request: pytest.FixtureRequest, own_engine: Engine) -> str:
    """Every Python 3 beside the documented ones; what is not installed is skipped, in CI too."""
    label = str(request.param)
    try:
        own_engine.warm_up([label])
    except RuntimeNotFoundError:
        pytest.skip(f"{label} is not installed")
    return label


def test_runtime_is_the_one_asked_for(invoke: Invoker, runtime: str) -> None:
    """A label stands for exactly that version of Python."""
    assert runtime == invoke(VERSION).value


def test_bare_python3_means_python36(invoke: Invoker, runtime: str) -> None:
    """The base page writes python3 for the version that it recommends, 3.6."""
    if runtime != "python3.6":
        pytest.skip("needs python3.6 alone")
    assert "python3.6" == invoke(VERSION, runtime="python3").value


def test_other_python3_gives_the_same_results(own_engine: Engine, other_runtime: str, tmp_path: Path) -> None:
    """Value, error, deadline, log and warm start work on a Python that FunctionGraph never offered."""
    code = tmp_path / "index.py"
    code.write_text(MODERN, encoding="utf-8")
    function = Function(code=code, handler="index.handler", runtime=other_runtime, timeout_s=0.5)

    first = own_engine.invoke(function, {"größe": [1.5, None]})
    second = own_engine.invoke(function, "again")
    failed = own_engine.invoke(function, "fail")
    hung = own_engine.invoke(function, "hang")
    after = own_engine.invoke(function, None)

    assert {"python": other_runtime, "event": {"größe": [1.5, None]}, "calls": 1} == first.value
    assert first.log.endswith(f" {first.summary.request_id} INFO call 1\n")
    assert (2, False) == (second.value["calls"], second.cold_start)
    assert failed.error is not None
    assert (Status.FUNCTION_ERROR, "KeyError") == (failed.status, failed.error["errorType"])
    assert ['File "./index.py", line 12, in handler', '    raise KeyError("tea")'] == failed.error["stackTrace"]
    assert (Status.TIMEOUT, 500) == (hung.status, hung.summary.billed_duration_ms)
    assert (True, 1) == (after.cold_start, after.value["calls"])


def test_given_interpreter_comes_before_any_other(tmp_path: Path, runtime: str, engine: Engine) -> None:
    """runtimes={label: path} wins over everything that is installed."""
    code = tmp_path / "index.py"
    code.write_text("import sys\n\n\ndef handler(event, context):\n    return sys.executable\n", encoding="utf-8")
    function = Function(code=code, handler="index.handler", runtime=runtime)
    installed = engine.invoke(function, None).value
    mark = tmp_path / "mark"
    # A script that leaves a mark, not a link: a linked interpreter cannot be told from its target.
    own = tmp_path / "own-python"
    own.write_text(f'#!/bin/sh\necho >> "{mark}"\nexec "{installed}" "$@"\n', encoding="utf-8")
    own.chmod(0o755)

    with Engine(runtimes={runtime: str(own)}) as with_own:
        assert with_own.invoke(function, None).ok

    assert mark.exists()


def test_spawned_instance_gives_the_same_results(make_function: FunctionMaker) -> None:
    """A fresh interpreter instead of a fork: the same value, log, error, deadline and warm start."""
    function = make_function(
        """
        from __future__ import print_function
        import os

        calls = 0

        def handler(event, context):
            global calls
            calls += 1
            print(u"gr\\u00fc\\u00df", end="|")
            os.system("echo shell")
            if event == "fail":
                raise KeyError("tea")
            while event == "hang":
                pass
            return [event, calls]
        """,
        timeout_s=1.0,
    )
    with Engine(start_method="spawn") as engine:
        first, second, failed, hung = (engine.invoke(function, event) for event in ("ü", None, "fail", "hang"))

    assert (["ü", 1], [None, 2]) == (first.value, second.value)
    assert ["grüß|shell\n"] * 2 == [first.log, second.log]
    assert failed.error is not None
    assert 'File "./index.py", line 13, in handler' in failed.error["stackTrace"]
    assert [True, False, False, False] == [result.cold_start for result in (first, second, failed, hung)]
    assert Status.TIMEOUT is hung.status
