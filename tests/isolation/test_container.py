"""What holds without a container holds in one; and the paths are those of the platform."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

import engine as package
from engine import Engine, Function, InvalidFunctionError, Result, Status
from engine.instance import Instance
from engine.model import Isolation
from engine.pool import Pool
from tests.conftest import FunctionMaker
from tests.isolation.landlock import WITH_SIGNALS, landlock_abi

ROOT = Path(package.__file__).parent.parent

pytestmark = pytest.mark.slow

SNOOP = """
import getpass, os, sys, tempfile

def handler(event, context):
    return {
        "file": __file__, "cwd": os.getcwd(), "home": os.environ["HOME"], "root": os.environ["RUNTIME_CODE_ROOT"],
        "tmp": tempfile.gettempdir(), "ids": [os.getuid(), os.geteuid(), os.getgid()],
        "groups": sorted(set(os.getgroups()) - {1003, 65534}),  # an ordinary user keeps what it has
        "user": getpass.getuser(), "top": sorted(os.listdir("/opt/function")), "processes": os.getpid(),
        "rights": [line.split()[1] for line in open("/proc/self/status")
                   if line.startswith("Cap") or line.split(":")[0] in ("NoNewPrivs", "Seccomp")],
        "hosts": [each for each in ("home", "mnt", "srv", "sys", "media", "boot", "etc/ssl/private")
                  if os.path.exists("/" + each)],
    }
"""

PLATFORM = {
    "file": "/opt/function/code/index.py",
    "cwd": "/opt/function",
    "home": "/opt/function",
    "root": "/opt/function/code",
    "tmp": "/tmp",
    "ids": [1003, 1003, 1003],
    "groups": [],
    "user": "snuser",
    "top": ["code", "dependencies"],
    "processes": 2,
    "rights": ["0" * 16] * 5 + ["1", "2"],
    "hosts": [],
}


def test_paths_and_user_are_those_of_the_platform(levels: Engine, make_function: FunctionMaker) -> None:
    """A function finds itself where production has it, and nothing of the host around it."""
    result = levels.invoke(make_function(SNOOP), None)

    assert (PLATFORM, "container") == (result.value, result.isolation)


def test_nothing_can_be_written_but_tmp(levels: Engine, make_function: FunctionMaker) -> None:
    """Also where permissions would let a function write: an ordinary user's owns what it runs in."""
    source = """
        import os, sys

        def handler(event, context):
            written = []
            for top in ("/", sys.prefix):
                for folder, folders, files in os.walk(top):
                    depth = folder.count("/")
                    folders[:] = [] if depth > 3 or folder in ("/proc", "/usr") else folders
                    try:
                        open(os.path.join(folder, "fgengine-written"), "w").close()
                        os.remove(os.path.join(folder, "fgengine-written"))
                        written.append(folder)
                    except EnvironmentError:
                        pass
            return sorted(written)
    """
    function = make_function(source, timeout_s=20.0)
    os.chmod(function.code, 0o777)

    assert ["/dev/shm", "/tmp"] == levels.invoke(function, None).value


def test_spawned_interpreter_is_inside_from_its_start(levels: Engine, make_function: FunctionMaker) -> None:
    """Variables that act when an interpreter starts act in the container alone."""
    result = levels.invoke(make_function(SNOOP, user_data={"PYTHONHASHSEED": "7"}), None)

    assert PLATFORM == result.value


def test_start_method_spawn_is_inside_too(levels: Engine, make_function: FunctionMaker) -> None:
    """Also where nothing but the description asks for a fresh interpreter."""
    assert PLATFORM == levels.invoke(make_function(SNOOP, start_method="spawn"), None).value


def test_trace_shows_the_paths_of_the_platform(levels: Engine, make_function: FunctionMaker) -> None:
    """The log says where in production's layout a function failed."""
    result = levels.invoke(make_function("def handler(event, context):\n    raise KeyError(1)\n"), None)

    assert Status.FUNCTION_ERROR is result.status
    assert 'File "/opt/function/code/index.py", line 2, in handler' in result.log


def test_archives_and_dependencies_are_importable(
    levels: Engine, make_function: FunctionMaker, tmp_path: Path, runtime: str
) -> None:
    """A .zip as code, a folder and a .zip beside it: each in its place, in the order given."""
    code, folder, packed = tmp_path / "code.zip", tmp_path / "libs", tmp_path / "more.zip"
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("src/index.py", "import a, b\n\ndef handler(e, c):\n    return [__file__, a.__file__, b.x]\n")
    folder.mkdir()
    (folder / "a.py").write_text("x = 1\n", encoding="utf-8")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.py", "x = 'hidden by the one before'\n")
        archive.writestr("b.py", "x = 2\n")
    function = Function(code=code, handler="src/index.handler", runtime=runtime, dependencies=[folder, packed])

    result = levels.invoke(function, None)

    assert ["/opt/function/code/src/index.py", "/opt/function/dependencies/0/a.py", 2] == result.value


@pytest.mark.parametrize("level", ["process", "container"])
def test_link_in_an_archive_leads_nowhere(
    levels: Engine, canary: dict[str, str], tmp_path: Path, runtime: str, level: Isolation
) -> None:
    """An archive with a link out of it is refused, or the link is not followed: its target is read at no level."""
    code = tmp_path / "code.zip"
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("index.py", "def handler(e, c):\n    return open(__file__[:-8] + 'link').read()\n")
        archive.writestr(link, canary["file"])
    function = Function(code=code, handler="index.handler", runtime=runtime, isolation=level)

    with pytest.raises(InvalidFunctionError, match="link"):
        levels.invoke(function, None)


ENDS = {
    "import time\n    time.sleep(20)": (Status.TIMEOUT, ""),
    "while True: pass": (Status.TIMEOUT, ""),
    "return len(bytearray(300 << 20) * 2)": (Status.OUT_OF_MEMORY, ""),
    "os.abort()": (Status.EXITED, "SIGABRT"),
    "os.kill(os.getpid(), 15); import time; time.sleep(9)": (Status.EXITED, "SIGTERM"),
    "os._exit(3)": (Status.EXITED, "exit status 3"),
    "import sys; sys.exit(3)": (Status.FUNCTION_ERROR, "3"),
    "return object()": (Status.INVALID_RESULT, ""),
    "open('/tmp/x', 'wb').write(b'x' * (20 << 20))": (Status.DISK_FULL, ""),
    "import ctypes; ctypes.string_at(0)": (Status.EXITED, "SIGSEGV"),
}


@pytest.mark.parametrize("act", ENDS)
def test_every_end_is_told_as_without_a_container(levels: Engine, make_function: FunctionMaker, act: str) -> None:
    """Statuses and texts are the same at both levels."""
    function = make_function(f"import os\n\ndef handler(event, context):\n    {act}\n", timeout_s=1.0, tmp_mb=16)

    result = levels.invoke(function, None)

    status, words = ENDS[act]
    assert (status, "container") == (result.status, result.isolation)
    assert words in (result.error or {})["errorMessage"]


def test_memory_is_measured_as_exactly(levels: Engine, make_function: FunctionMaker) -> None:
    """The peak of a buffer that was touched and freed again, within 2 % or 1 MB of it."""
    source = """
        def handler(event, context):
            block = bytearray(event << 20)
            for at in range(0, len(block), 4096):
                block[at] = 1
            del block
    """
    function = make_function(source, memory_mb=512)
    small, large = (levels.invoke(function, size).summary.memory_used_mb for size in (1, 201))

    assert 200 == pytest.approx(large - small, abs=4)


def test_log_is_in_order_with_what_was_started(levels: Engine, make_function: FunctionMaker) -> None:
    """print, os.write and a subprocess: in the order that they wrote."""
    source = """
        from __future__ import print_function
        import os, subprocess

        def handler(event, context):
            print("one")
            subprocess.call(["/bin/echo", "two"])
            os.write(2, b"three\\n")
    """
    assert "one\ntwo\nthree\n" == levels.invoke(make_function(source), None).log


DAEMON = """
import os, subprocess, sys, time

def handler(event, context):
    subprocess.Popen([sys.executable, "-c", '''
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("/tmp/daemon", "w").write("up")
        time.sleep(60)
'''])
    while not os.path.exists("/tmp/daemon"):
        time.sleep(0.005)
    if event == "hang":
        time.sleep(60)
    return len([each for each in os.listdir("/proc") if each.isdigit()])
"""


def test_tree_is_killed_with_its_namespace(levels: Engine, make_function: FunctionMaker) -> None:
    """A daemon that left its session and its parents lives on with the instance, and dies with it.

    That nothing is left is looked for after every test, by the parents of processes.
    """
    function = make_function(DAEMON, timeout_s=5.0)
    alive = levels.invoke(function, None)
    again = levels.invoke(function, "hang")

    assert (Status.SUCCESS, Status.TIMEOUT) == (alive.status, again.status)
    assert alive.value >= 3


def test_tmp_is_private_and_new(levels: Engine, make_function: FunctionMaker) -> None:
    """What one instance left in /tmp is there for its next invocation, and for nobody else's."""
    source = """
        import os

        def handler(event, context):
            seen = os.listdir("/tmp")
            open("/tmp/x", "w")
            return seen
    """
    first, second = make_function(source), make_function(source)
    seen = [levels.invoke(function, None).value for function in (first, first, second)]

    assert [[], ["x"], []] == seen


def test_loopback_works_within(levels: Engine, make_function: FunctionMaker) -> None:
    """A function may talk to itself, and to nothing else."""
    source = """
        import socket

        def handler(event, context):
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            socket.create_connection(listener.getsockname(), 5).close()
            devices = open("/proc/net/dev").read().splitlines()[2:]
            return [line.split(":")[0].strip() for line in devices]
    """
    assert ["lo"] == [name for name in levels.invoke(make_function(source), None).value if name == "lo"]


def test_network_is_the_hosts_when_asked_for(
    levels: Engine, make_function: FunctionMaker, canary: dict[str, int]
) -> None:
    """network=True reaches what the host reaches: here a listener on its loopback."""
    source = "import socket\n\ndef handler(e, c):\n    socket.create_connection(('127.0.0.1', e), 5).close()\n"
    results = [levels.invoke(make_function(source, network=each), canary["port"]) for each in (True, False)]

    assert [Status.SUCCESS, Status.FUNCTION_ERROR] == [result.status for result in results]


@pytest.mark.skipif(landlock_abi() < WITH_SIGNALS, reason="Landlock's scopes came with Linux 6.12")
def test_network_does_not_come_with_abstract_sockets(
    levels: Engine, make_function: FunctionMaker, canary: dict[str, str]
) -> None:
    """They are in the network namespace too, and some of them give root away."""
    source = "import socket\n\ndef handler(e, c):\n    socket.socket(socket.AF_UNIX).connect('\\0' + e)\n"
    result = levels.invoke(make_function(source, network=True), canary["abstract"])

    assert Status.FUNCTION_ERROR is result.status
    assert "not permitted" in result.log


def test_command_line_says_it_in_one_word(make_function: FunctionMaker, runtime: str) -> None:
    """--isolation container, and the result says what held."""
    function = make_function("import os\n\ndef handler(event, context):\n    return os.getcwd()\n")
    command = [sys.executable, "-m", "engine", "invoke", function.code, "--runtime", runtime, "--json"]
    done = subprocess.run([*command, "--isolation", "container"], capture_output=True, check=True, cwd=ROOT)
    told = json.loads(done.stdout)

    assert ("container", "/opt/function") == (told["isolation"], told["value"])


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's containers run as that user")
def test_code_that_the_container_cannot_read_is_refused(levels: Engine, make_function: FunctionMaker) -> None:
    """Under root a function is a user of its own: what it cannot read is told before anything is started."""
    function = make_function("def handler(event, context):\n    return 1\n")
    os.chmod(function.code, 0o700)

    with pytest.raises(InvalidFunctionError, match="chmod -R"):
        levels.invoke(function, None)


def test_library_of_a_function_is_not_preloaded_outside(
    levels: Engine, make_function: FunctionMaker, tmp_path: Path
) -> None:
    """A zygote sees the host: what a function brings along is never run by it."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "brought.py").write_text("x = 1\n", encoding="utf-8")
    function = make_function("def handler(e, c):\n    return 1\n", dependencies=[library], preload=["brought"])

    with pytest.raises(InvalidFunctionError, match="brought"):
        levels.invoke(function, None)


def test_dependency_that_was_removed_is_not_the_functions_fault(
    levels: Engine, make_function: FunctionMaker, tmp_path: Path
) -> None:
    """No container can be made with it: that is told before anything is started, and not as a function that ended."""
    library = tmp_path / "library"
    library.mkdir()
    function = make_function("def handler(e, c):\n    return 1\n", dependencies=[library])
    levels.invoke(function, None)
    library.rmdir()
    levels.release_idle()

    with pytest.raises(InvalidFunctionError, match="library"):
        levels.invoke(function, None)


def test_several_instances_share_nothing(
    own_engine: Engine, make_function: FunctionMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instances that run at once are each the second process of a namespace, with a network of its own."""
    acquire, all_three = Pool.acquire, threading.Barrier(3)

    def acquire_together(pool: Pool) -> Instance | None:
        """So that none of them is back before the last one is asked for."""
        instance = acquire(pool)
        all_three.wait(20)
        return instance

    monkeypatch.setattr(Pool, "acquire", acquire_together)
    source = """
        import os

        def handler(event, context):
            return [os.getpid()] + [os.readlink("/proc/self/ns/" + kind) for kind in
                                    ("user", "pid", "mnt", "ipc", "uts", "net")]
    """
    function = make_function(source, isolation="container")
    results: list[Result] = [each.result() for each in [own_engine.submit(function, None) for _ in range(3)]]
    values = [result.value for result in results]
    host = {os.readlink(f"/proc/self/ns/{kind}") for kind in ("user", "pid", "mnt", "ipc", "uts", "net")}

    assert [2, 2, 2] == [value[0] for value in values]
    assert 18 == len({name for value in values for name in value[1:]} - host)


def test_engine_is_hidden_where_it_is_installed(tmp_path: Path) -> None:
    """An interpreter with the engine among its packages shows all the rest of them, also when it is below /tmp.

    Below /tmp, because a container has a /tmp of its own, and an interpreter may live there.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = tmp_path / "home"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    packages = home / "lib" / version / "site-packages"
    for name in ("engine", "sandbox"):
        shutil.copytree(ROOT / name, packages / name, ignore=shutil.ignore_patterns("__pycache__", "*.py[co]"))
    (packages / "other.py").write_text("x = 1\n", encoding="utf-8")
    function = tmp_path / "index.py"
    function.write_text(
        "import os, other\n\ndef handler(event, context):\n"
        f"    return [other.x, os.listdir({str(packages / 'engine')!r}), os.listdir({str(packages / 'sandbox')!r})]\n",
        encoding="utf-8",
    )
    program = f"""
from engine import Engine, Function
with Engine(runtimes={{{version!r}: {str(home / "bin" / "python")!r}}}, isolation="container") as engine:
    result = engine.invoke(Function(code={str(function)!r}, handler="index.handler", runtime={version!r}), None)
    print(result.value, result.error, result.log)
"""
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)

    assert "[1, [], []] None \n" == done.stdout, done.stderr


UMASK_PROGRAM = """
import json, os, sys
from engine import Engine, Function

os.umask(0o077)
with Engine(isolation="container") as engine:
    function = Function(code=sys.argv[1], handler="index.handler", runtime=sys.argv[2], dependencies=[sys.argv[3]])
    print(json.dumps(engine.invoke(function, None).value))
"""


def test_host_that_keeps_its_files_to_itself_has_containers(tmp_path: Path, runtime: str) -> None:
    """The engine's umask is not a container's: whoever runs in it is another user than root."""
    code, library = tmp_path / "code", tmp_path / "library"
    code.mkdir()
    library.mkdir()
    (library / "brought.py").write_text("x = 1\n", encoding="utf-8")
    (code / "index.py").write_text(
        "import os, brought\n\ndef handler(e, c):\n    return [brought.x, os.umask(0), os.getcwd()]\n", encoding="utf-8"
    )
    command = [sys.executable, "-c", UMASK_PROGRAM, str(code), runtime, str(library)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ("", [1, 0o022, "/opt/function"]) == (done.stderr, json.loads(done.stdout))
