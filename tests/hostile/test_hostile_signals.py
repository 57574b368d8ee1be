"""A function reaches nobody but what it started: not its zygote, not the engine, not another instance, no bystander.

Each engine that is attacked runs in a process of the test's own, in a session of its own, and so does the bystander:
whatever an attack could hit, should the shield fail, was started here.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from sandbox import bpf, shield

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine import Engine
    from engine.runtimes import Interpreter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() not in bpf.MACHINES, reason="no filter for this machine"),
]

ROOT: Final = Path(__file__).resolve().parent.parent.parent
NOBODY: Final = 65534
PATIENCE_S: Final = 60

ATTACKS = r"""
    import ctypes, errno, fcntl, os, platform, signal, struct

    libc = ctypes.CDLL(None, use_errno=True)
    NUMBERS = {
        "x86_64": {"tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "ioprio_set": 251},
        "aarch64": {"tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "ioprio_set": 30},
    }[platform.machine()]
    PIDFD_SEND_SIGNAL, PIDFD_OPEN, PIDFD_GETFD = 424, 434, 438
    STOP = int(signal.SIGSTOP)

    def checked(result):
        if result < 0:
            raise OSError(ctypes.get_errno(), "refused")
        return result

    def call(number, *arguments):
        longs = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
        return checked(libc.syscall(NUMBERS.get(number, number), *longs))

    def siginfo():
        return ctypes.create_string_buffer(struct.pack("iii", STOP, 0, -1), 128)

    def iovec(address):
        return ctypes.create_string_buffer(struct.pack("PL", address, 8))

    def by_folder(pid):
        folder = os.open("/proc/%d" % pid, os.O_RDONLY)
        try:
            call(PIDFD_SEND_SIGNAL, folder, STOP, None, 0)
        finally:
            os.close(folder)

    def with_pidfd(pid, act):
        pidfd = call(PIDFD_OPEN, pid, 0)
        try:
            act(pidfd)
        finally:
            os.close(pidfd)

    SIGNALS = {
        "kill": lambda pid: os.kill(pid, STOP),
        "SIGKILL": lambda pid: os.kill(pid, signal.SIGKILL),
        "kill of its group": lambda pid: os.kill(-pid, STOP),
        "killpg": lambda pid: os.killpg(pid, STOP),
        "tkill": lambda pid: call("tkill", pid, STOP),
        "tgkill": lambda pid: call("tgkill", pid, pid, STOP),
        "sigqueue": lambda pid: checked(libc.sigqueue(pid, STOP, ctypes.c_void_p(0))),
        "rt_sigqueueinfo": lambda pid: call("rt_sigqueueinfo", pid, STOP, siginfo()),
        "rt_tgsigqueueinfo": lambda pid: call("rt_tgsigqueueinfo", pid, pid, STOP, siginfo()),
        "pidfd": lambda pid: with_pidfd(pid, lambda pidfd: call(PIDFD_SEND_SIGNAL, pidfd, STOP, None, 0)),
        "folder of proc": by_folder,
    }

    def by_the_kernel(pid):
        # SIGKILL for the owner of a pipe into which something was written (fcntl(2), F_SETSIG).
        reading, writing = os.pipe()
        fcntl.fcntl(reading, fcntl.F_SETOWN, pid)
        fcntl.fcntl(reading, 10, int(signal.SIGKILL))
        fcntl.fcntl(reading, fcntl.F_SETFL, os.O_NONBLOCK | getattr(os, "O_ASYNC", 0o20000))
        os.write(writing, b"!")
        os.close(reading), os.close(writing)

    def write_memory(pid):
        with open("/proc/self/maps") as maps:
            theirs = int(maps.readline().partition("-")[0], 16)
        ours = ctypes.create_string_buffer(8)
        checked(libc.process_vm_writev(pid, iovec(ctypes.addressof(ours)), 1, iovec(theirs), 1, 0))

    def open_descriptors(pid):
        # Every one that can be reached: a pipe that is opened like this is written to as by its owner.
        for fd in range(200):
            for mode in (os.O_WRONLY, os.O_RDONLY):
                try:
                    os.close(os.open("/proc/%d/fd/%d" % (pid, fd), mode | os.O_NONBLOCK))
                except OSError as error:
                    if error.errno not in (errno.EACCES, errno.ENOENT):
                        raise
                else:
                    return
        raise OSError(errno.EACCES, "all refused")

    TRACES = {
        "ptrace": lambda pid: checked(libc.ptrace(0x4206, pid, None, None)),
        "memory": lambda pid: open("/proc/%d/mem" % pid, "r+b").close(),
        "descriptors": open_descriptors,
        "process_vm_writev": write_memory,
        "pidfd_getfd": lambda pid: with_pidfd(pid, lambda pidfd: os.close(call(PIDFD_GETFD, pidfd, 1, 0))),
        "folder": lambda pid: os.listdir("/proc/%d/cwd" % pid),
    }

    def read_memory(pid):
        ours = ctypes.create_string_buffer(8)
        checked(libc.process_vm_readv(pid, iovec(ctypes.addressof(ours)), 1, iovec(id(ours)), 1, 0))

    # Not for root: the kernel lets whoever may observe performance read memory, whatever Landlock says.
    READS = {
        "reading of memory": read_memory,
        "environment": lambda pid: open("/proc/%d/environ" % pid).close(),
        "map": lambda pid: open("/proc/%d/maps" % pid).close(),
        "figures": lambda pid: open("/proc/%d/smaps_rollup" % pid).close(),
    }

    def limit_processor_time(pid):
        checked(libc.prlimit(pid, 0, ctypes.create_string_buffer(struct.pack("LL", 0, 0)), None))

    SCHEDULES = {
        "niceness": lambda pid: checked(libc.setpriority(0, pid, 19)),
        "niceness of the group": lambda pid: checked(libc.setpriority(1, pid, 19)),
        "processors": lambda pid: checked(libc.sched_setaffinity(pid, 8, ctypes.create_string_buffer(b"\1", 8))),
        "idle": lambda pid: checked(libc.sched_setscheduler(pid, 5, ctypes.create_string_buffer(4))),
        "disk": lambda pid: call("ioprio_set", 1, pid, 3 << 13),
    }

    def outcome(attack, pid):
        try:
            attack(pid)
        except (OSError, IOError) as error:
            return errno.errorcode[error.errno]
        return "done"

    def attacker(event, context):
        told = {}
        for name, pid in event.items():
            roads = dict(SIGNALS, **TRACES)
            roads["limits"] = limit_processor_time
            if os.geteuid() != 0:
                roads.update(READS)
            if name in ("engine", "zygote"):
                roads.update(SCHEDULES)
            told[name] = {road: outcome(attack, pid) for road, attack in roads.items()}
            by_the_kernel(pid)
        return told

    def neighbour(event, context):
        return [os.getpid(), os.getppid()]
"""

HOST = """
    import json, os, subprocess, sys
    from engine import Engine, Function

    code, runtime, method = sys.argv[1:]

    def state(pid):
        # What an attack would have changed.
        with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/status") as status:
            fields = stat.read().rpartition(")")[2].split()
            lines = [line for line in status if line.startswith(("TracerPid", "Cpus_allowed", "SigPnd"))]
        with open(f"/proc/{pid}/limits") as limits:
            return [fields[0] in "TtZX", fields[15:17], fields[38], lines, limits.read()]

    def function(name):
        return Function(code=code, handler=f"index.{name}", runtime=runtime, timeout_s=20.0)

    canary = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        with Engine(start_method=method) as engine:
            instance, zygote = engine.invoke(function("neighbour"), None).value
            targets = {"engine": os.getpid(), "zygote": zygote, "neighbour": instance, "canary": canary.pid}
            before = {name: state(pid) for name, pid in targets.items()}
            result = engine.invoke(function("attacker"), targets)
            after = {name: state(pid) for name, pid in targets.items()}
            again = engine.invoke(function("neighbour"), None)
            print(json.dumps({
                "result": [result.status.value, result.value, result.error],
                "untouched": [name for name in targets if before[name] == after[name]],
                "neighbour": [again.value == [instance, zygote], again.cold_start],
            }))
    finally:
        canary.kill()
        canary.wait()
"""


def ordinary_user(command: list[str]) -> list[str]:
    """*command* as somebody who owns nothing.

    One right is kept, which is none over processes: to read, since the interpreters may be below root's home.
    """
    rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *rights, *command]


@pytest.fixture(params=["as it is", "ordinary user"])
def user(request: pytest.FixtureRequest) -> str:
    """Root, or whoever runs the tests; and an ordinary user, where root can become one."""
    if request.param == "ordinary user" and (os.geteuid() != 0 or shutil.which("setpriv") is None):
        pytest.skip("needs root, who can become an ordinary user, and setpriv")
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path, user: str) -> Iterator[Path]:
    """Where the host's function and temporary files are."""
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "index.py").write_text(textwrap.dedent(ATTACKS), encoding="utf-8")
    if user == "ordinary user":
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def told_by_host(program: str, user: str, folder: Path, interpreter: Interpreter, method: str) -> Any:
    """Run a host program with an engine of its own to its end, and return the JSON that it printed."""
    command = [sys.executable, "-c", textwrap.dedent(program), str(folder), interpreter.runtime, method]
    # By name: whoever looks for one with access(2) has no such right.
    variable = "FGENGINE_" + interpreter.runtime.upper().replace(".", "_")
    environment = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder), variable: interpreter.executable}
    host = subprocess.Popen(
        ordinary_user(command) if user == "ordinary user" else command,
        stdout=subprocess.PIPE,
        env=environment,
        cwd="/",
        start_new_session=True,
    )
    with host:
        try:
            printed, _ = host.communicate(timeout=PATIENCE_S)
        finally:
            host.kill()
    assert 0 == host.returncode
    return json.loads(printed)


@pytest.fixture
def _scopes() -> None:
    if shield.landlock_abi() < 6:
        pytest.skip("Landlock keeps no signals in before Linux 6.12")


@pytest.mark.usefixtures("_scopes")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_no_road_leads_out_of_an_instance(engine: Engine, runtime: str, method: str, user: str, folder: Path) -> None:
    """Signals, traces, limits and priorities are refused by every call that has them, and change nothing."""
    told = told_by_host(HOST, user, folder, engine.runtimes.find(runtime), method)
    status, outcomes, error = told["result"]

    assert ("success", None) == (status, error)
    in_proc = ("memory", "descriptors", "folder", "environment", "map", "figures")
    denied = dict.fromkeys(in_proc, "EACCES")
    expected = 18 if user == "as it is" and os.geteuid() == 0 else 22
    assert ["canary", "engine", "neighbour", "zygote"] == sorted(outcomes)
    for name, roads in outcomes.items():
        assert {road: denied.get(road, "EPERM") for road in roads} == roads, name
        assert expected + (5 if name in ("engine", "zygote") else 0) == len(roads)
    assert ["engine", "zygote", "neighbour", "canary"] == told["untouched"]
    assert [True, False] == told["neighbour"]


FLOODED_HOST = """
    import json, resource, sys
    from pathlib import Path
    from engine import Engine, Function

    folder, runtime, method = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    def function(handler):
        return Function(code=folder, handler=f"flood.{handler}", runtime=runtime, memory_mb=512, timeout_s=20)

    with Engine(start_method=method, spare_instances=0) as engine:
        flood = engine.invoke(function("flood"), None)
        other = engine.invoke(function("other"), None)
        print(json.dumps([flood.value, flood.error, other.value, other.cold_start]))
"""
FLOOD = """
    import socket, sys

    if sys.version_info[0] == 2:
        import _multiprocessing

        def send(a, fd):
            _multiprocessing.sendfd(a.fileno(), fd)
    else:
        import array

        def send(a, fd):
            a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd] * 100))])

    held = []

    def flood(event, context):
        refused = 0
        for _ in range(3000):
            if len(held) % 100 == 0:
                pair = socket.socketpair()
            try:
                send(pair[0], 0)
            except (OSError, IOError):
                refused += 1
                if refused == 3:
                    return "as many as the kernel lets me"
            held.append(pair)
        return "as many as I wanted"

    def other(event, context):
        return "calm"
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_descriptors_under_way_keep_nobody_from_a_start(
    engine: Engine, runtime: str, user: str, folder: Path, method: str
) -> None:
    """The kernel counts them for the user: a function's 2,000 are more than the engine itself could send."""
    (folder / "flood.py").write_text(textwrap.dedent(FLOOD), encoding="utf-8")
    interpreter = engine.runtimes.find(runtime)
    flooded, error, calm, was_cold = told_by_host(FLOODED_HOST, user, folder, interpreter, method)

    assert error is None
    assert flooded.startswith("as many as")
    assert ("calm", True) == (calm, was_cold)
