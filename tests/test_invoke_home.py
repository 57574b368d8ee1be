"""User code is at home: its modules, its interpreter's packages, its environment, and nothing of the engine's."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine import Engine

if TYPE_CHECKING:
    from tests.conftest import FunctionMaker, Invoker

PROJECT = Path(__file__).resolve().parent.parent
OURS = [
    "engine",
    "sandbox",
    "bootstrap",
    "bridge",
    "compat",
    "confine",
    "context",
    "failures",
    "json_utils",
    "kernel",
    "loader",
    "protocol",
    "results",
    "runner",
    "server",
    "stdio",
    "utils",
    "wire",
    "worker",
    "zygote",
]


def test_modules_named_like_ours_are_the_functions_own(invoke: Invoker) -> None:
    """Whatever the engine calls its modules, the function's come first."""
    source = f"""
        import importlib

        def handler(event, context):
            return [importlib.import_module(name).MARK for name in {OURS!r}]
    """
    marks = {f"{name}.py": f"MARK = 'my {name}'\n" for name in OURS}

    assert [f"my {name}" for name in OURS] == invoke(source, files=marks).value


@pytest.mark.parametrize("name", ["engine", "sandbox", "context", "bootstrap", "wire", "__main__"])
def test_handler_file_may_be_named_like_ours(invoke: Invoker, name: str) -> None:
    """The file that the handler is in, too."""
    source = "def handler(event, context):\n    return [__name__, context.getFunctionName()]\n"

    assert [name, "shop"] == invoke(source, handler=f"{name}.handler", name="shop").value


def test_packages_named_like_ours_are_the_functions_own(invoke: Invoker) -> None:
    """Packages with modules below, not only single files."""
    source = "from sandbox.wire import MARK\nimport engine.cli\n\ndef handler(event, context):\n    return MARK\n"
    files = {"sandbox/__init__.py": "", "sandbox/wire.py": "MARK = 1\n", "engine/__init__.py": "", "engine/cli.py": ""}

    assert 1 == invoke(source, files=files).value


def test_nothing_of_the_engine_can_be_imported(invoke: Invoker) -> None:
    """Neither its own packages nor the libraries that it needs, nor by way of what is already imported."""
    source = """
        import importlib
        import sys

        def handler(event, context):
            found = {}
            for name in ("engine", "sandbox", "sandbox.wire", "structlog", "orjson", "psutil", "rich", "pytest"):
                try:
                    found[name] = importlib.import_module(name).__file__
                except ImportError:
                    pass
            known = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
            return [found, sys.path, [path for path in known if path]]
    """
    found, path, known = invoke(source).value
    ours = (str(PROJECT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))

    assert [] == [file for file in found.values() if file.startswith(ours)]
    assert [] == [folder for folder in path if folder.startswith(ours)]
    assert [] == [file for file in known if file.startswith(ours)]


def test_code_comes_first_on_the_path(invoke: Invoker) -> None:
    """Before the standard library and everything else, by its absolute path; the current folder is not on it."""
    source = """
        import os
        import sys

        def handler(event, context):
            return [os.path.dirname(os.path.abspath(__file__)), sys.path[0], "" in sys.path, os.path.isabs(__file__)]
    """
    home, first, has_current, is_absolute = invoke(source).value

    assert home == first
    assert (False, True) == (has_current, is_absolute)


def test_interpreters_own_packages_are_there(invoke: Invoker) -> None:
    """What is installed beside the interpreter can be imported, as it could without us."""
    source = """
        import sys

        def handler(event, context):
            return [sys.executable, sys.path, sys.prefix]
    """
    executable, path, prefix = invoke(source).value
    script = "import json, sys; print(json.dumps([sys.path[1:], sys.prefix]))"
    plain = subprocess.run([executable, "-s", "-c", script], check=True, capture_output=True, env={}, cwd="/")
    plain_path, plain_prefix = json.loads(plain.stdout)

    assert [] == [folder for folder in plain_path if folder not in path]
    assert any(folder.endswith("site-packages") for folder in path)
    assert plain_prefix == prefix


def test_hosts_environment_is_not_visible(make_function: FunctionMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the host's variables, credentials among them perhaps, reaches a function or what it starts."""
    monkeypatch.setenv("FGENGINE_TEST_SECRET_OF_THE_HOST", "host-secret")
    monkeypatch.setenv("PYTHONPATH", "/host/path")
    monkeypatch.setenv("PYTHONSTARTUP", "/host/startup.py")
    function = make_function(
        """
        import os
        import subprocess
        import sys

        def handler(event, context):
            with open("/proc/self/environ") as own:
                own = own.read()
            started = subprocess.Popen(["/usr/bin/env"], stdout=subprocess.PIPE).communicate()[0].decode()
            return [sorted(os.environ), own + started + repr(os.environ), sys.path]
        """
    )
    with Engine() as engine:
        names, everything, path = engine.invoke(function, None).value

    assert "host-secret" not in everything
    assert "FGENGINE_TEST" not in everything
    assert [] == [name for name in names if name.startswith(("PYTHON", "FGENGINE"))]
    assert "/host/path" not in path


def test_hosts_descriptors_are_not_visible(make_function: FunctionMaker, tmp_path: Path) -> None:
    """Not even those that the host marked inheritable before the engine started anything."""
    opened = os.open(tmp_path / "of-the-host", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(opened, True)  # it takes no keyword
    function = make_function(
        """
        import os

        def handler(event, context):
            seen = []
            for number in os.listdir("/proc/self/fd"):
                try:
                    seen.append(os.readlink("/proc/self/fd/" + number))
                except OSError:
                    pass
            return seen
        """
    )
    try:
        with Engine() as engine:
            engine.invoke(function, None)
            seen = engine.invoke(function, None).value
    finally:
        os.close(opened)

    assert str(tmp_path / "of-the-host") not in seen
    # Standard streams, a pipe each way, a duplicate of the log, what 2.7 keeps open for os.urandom, and nothing else.
    known = ("/dev/null", "/dev/urandom")
    assert [] == [target for target in seen if target not in known and not target.startswith("pipe:")]
    assert 5 == len([target for target in seen if target.startswith("pipe:")])


def test_engines_descriptors_do_not_reach_subprocesses(invoke: Invoker) -> None:
    """What a function starts inherits the three standard streams alone, on 2.7 too, where that is not the default."""
    source = """
        import subprocess

        def handler(event, context):
            shell = subprocess.Popen(["sh", "-c", "echo /proc/$$/fd/*"], stdout=subprocess.PIPE, close_fds=False)
            return sorted(int(path.rsplit("/", 1)[1]) for path in shell.communicate()[0].decode().split())
    """
    # The shell opens the folder itself, at whatever number is free.
    assert [0, 1, 2] == invoke(source).value[:3]
    assert max(invoke(source).value) < 16


def test_runtime_variables_are_set(invoke: Invoker) -> None:
    """Those of the platform's documentation, all of them text."""
    source = """
        import os

        def initializer(context):
            pass

        def handler(event, context):
            return dict((name, os.environ[name]) for name in os.environ if name.startswith("RUNTIME_"))
    """
    result = invoke(
        source,
        handler="src/index.handler",
        initializer="src/index.initializer",
        initializer_timeout_s=5.0,
        timeout_s=4.0,
        name="shop",
        package="web",
        version="v3",
        project_id="9f2c",
        memory_mb=256,
        user_data={"K": "grüß"},
    )
    variables = result.value

    assert {"K": "grüß"} == json.loads(variables["RUNTIME_USERDATA"])
    expected = {
        "RUNTIME_PROJECT_ID": "9f2c",
        "RUNTIME_FUNC_NAME": "shop",
        "RUNTIME_FUNC_VERSION": "v3",
        "RUNTIME_PACKAGE": "web",
        "RUNTIME_HANDLER": "src/index.handler",
        "RUNTIME_TIMEOUT": "4",
        "RUNTIME_CPU": "400",
        "RUNTIME_MEMORY": "256",
        "RUNTIME_MAX_RESP_BODY_SIZE": "6291456",
        "RUNTIME_INITIALIZER_HANDLER": "src/index.initializer",
        "RUNTIME_INITIALIZER_TIMEOUT": "5",
    }
    assert expected == {name: variables.get(name) for name in expected}


def test_code_root_variable_is_where_the_code_is(invoke: Invoker) -> None:
    """RUNTIME_CODE_ROOT is a real folder here, and not the platform's path."""
    source = """
        import os

        def handler(event, context):
            return os.listdir(os.environ["RUNTIME_CODE_ROOT"])
    """
    assert ["index.py", "other.txt"] == sorted(invoke(source, files={"other.txt": "x"}).value)


def test_user_data_is_in_the_environment(invoke: Invoker) -> None:
    """Deployed functions read os.environ as often as getUserData."""
    source = """
        import os
        import subprocess

        def handler(event, context):
            shell = subprocess.Popen(["sh", "-c", "printf %s \\"$GREETING\\""], stdout=subprocess.PIPE)
            return [os.environ["GREETING"], os.getenv("EMPTY"), shell.communicate()[0].decode("utf-8")]
    """
    result = invoke(source, user_data={"GREETING": "grüß", "EMPTY": ""})

    assert ["grüß", "", "grüß"] == result.value


@pytest.mark.parametrize("variable", ["PYTHONHASHSEED", "TZ", "LD_LIBRARY_PATH"])
def test_variables_that_act_at_the_start_of_a_process_act(invoke: Invoker, variable: str) -> None:
    """User data that an interpreter reads when it starts has its effect, as if set before."""
    value = {"PYTHONHASHSEED": "0", "TZ": "Asia/Shanghai", "LD_LIBRARY_PATH": "/nowhere"}[variable]
    source = """
        import os
        import time

        def handler(event, context):
            return [os.environ[event], hash("tea"), time.timezone]
    """
    one = invoke(source, variable, user_data={variable: value}).value
    two = invoke(source, variable, user_data={variable: value}).value

    assert value == one[0]
    if variable == "PYTHONHASHSEED":
        assert one[1] == two[1]
    if variable == "TZ":
        assert -8 * 3600 == one[2]


def test_stdin_is_empty(make_function: FunctionMaker) -> None:
    """Reading ends at once, at every level, though the host's own input has something to say."""
    function = make_function(
        """
        import os
        import subprocess
        import sys

        def handler(event, context):
            try:
                (raw_input if sys.version_info[0] == 2 else input)()
            except EOFError:
                asked = "end of file"
            cat = subprocess.Popen(["cat"], stdout=subprocess.PIPE)
            return [sys.stdin.read(), os.read(0, 10).decode(), cat.communicate()[0].decode(), asked]
        """
    )
    reading, writing = os.pipe()
    os.write(writing, b"meant for the host\n" * 10)
    os.close(writing)
    kept = os.dup(0)
    os.dup2(reading, 0)
    try:
        with Engine() as engine:
            value = engine.invoke(function, None).value
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reading)

    assert ["", "", "", "end of file"] == value


THREAD = """
    import signal
    import threading

    def where():
        try:
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        except ValueError:
            signals = False
        else:
            signals = True
        return [signals, isinstance(threading.current_thread(), threading._MainThread)]

    AT_IMPORT = where()

    def handler(event, context):
        return [AT_IMPORT, where()]
"""


def test_code_runs_off_the_main_thread_as_in_production(invoke: Invoker) -> None:
    """signal.signal raises ValueError at import and in the handler alike."""
    assert [[False, False]] * 2 == invoke(THREAD).value


def test_code_runs_on_the_main_thread_when_asked(invoke: Invoker) -> None:
    """main_thread=True lets signal.signal work."""
    assert [[True, True]] * 2 == invoke(THREAD, main_thread=True).value


def test_there_is_no_event_loop_off_the_main_thread(invoke: Invoker, runtime: str) -> None:
    """asyncio.get_event_loop() raises, as the platform's FAQ says; a loop of the function's own works."""
    if runtime == "python2.7":
        pytest.skip("asyncio is a thing of 3.x")
    source = """
        import asyncio

        def handler(event, context):
            try:
                asyncio.get_event_loop()
            except RuntimeError as error:
                return str(error)
    """
    assert invoke(source).value.startswith("There is no current event loop in thread")


def test_subprocesses_start_with_default_signals(invoke: Invoker) -> None:
    """No signal is blocked, and none is ignored but those that Python itself ignores."""
    source = """
        def handler(event, context):
            status = dict(line.split(":", 1) for line in open("/proc/self/status"))
            return [int(status[name], 16) for name in ("SigBlk", "SigIgn")]
    """
    blocked, ignored = invoke(source).value

    sigpipe, sigxfsz = 1 << 12, 1 << 24
    glibcs_own = 3 << 31  # 32 and 33, which its posix_spawn has ignored: make starts its commands by that
    assert 0 == blocked
    assert 0 == ignored & ~(sigpipe | sigxfsz | glibcs_own)


def test_text_is_utf8_by_default(invoke: Invoker) -> None:
    """Files opened without an encoding, file names and standard streams, whatever the host's locale is."""
    source = """
        import locale
        import sys

        def handler(event, context):
            return [locale.getpreferredencoding().upper(), sys.getfilesystemencoding().upper()]
    """
    assert ["UTF-8", "UTF-8"] == invoke(source).value


def test_multiprocessing_works(invoke: Invoker) -> None:
    """Functions share work among processes, and the instance is none the worse for it."""
    source = """
        import multiprocessing

        def square(n):
            return n * n

        def handler(event, context):
            pool = multiprocessing.Pool(2)
            try:
                return pool.map(square, event)
            finally:
                pool.terminate()
                pool.join()
    """
    assert [1, 4, 9] == invoke(source, [1, 2, 3], timeout_s=20.0, memory_mb=512).value


def test_code_folder_is_below_the_working_directory(invoke: Invoker) -> None:
    """As on the platform, where functions open code/settings.ini from /opt/function."""
    source = """
        def handler(event, context):
            with open("code/settings.ini") as settings:
                return settings.read()
    """
    assert "a = 1\n" == invoke(source, files={"settings.ini": "a = 1\n"}).value


def test_working_directory_is_a_folder_that_exists(invoke: Invoker) -> None:
    """And it is not the host's."""
    source = """
        import os

        def handler(event, context):
            return [os.getcwd(), os.path.isdir(os.getcwd())]
    """
    folder, exists = invoke(source).value

    assert exists
    assert str(Path.cwd()) != folder


def test_arguments_name_a_file_of_the_function(invoke: Invoker) -> None:
    """sys.argv has one entry and nothing of the engine's command line."""
    (argument,) = invoke("import sys\n\ndef handler(event, context):\n    return sys.argv\n").value

    assert argument.endswith("index.py")


def test_no_file_is_written_into_the_code(engine: Engine, make_function: FunctionMaker) -> None:
    """Code folders are read-only on the platform: no bytecode appears in the user's."""
    function = make_function(
        "import helper\n\n\ndef handler(event, context):\n    return 1\n", files={"helper.py": "X = 1\n"}
    )

    assert 1 == engine.invoke(function, None).value
    assert ["helper.py", "index.py"] == sorted(os.listdir(function.code))
