"""When an engine has ended, however it ended, nothing of its containers is left: no process, namespace or folder."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import psutil
import pytest

from engine import Engine
from tests.conftest import FunctionMaker

ROOT = Path(__file__).resolve().parent.parent.parent
KINDS = ("user", "mnt", "pid", "net", "ipc", "uts")

PROGRAM = """
import sys
from engine import Engine, Function

engine = Engine(isolation="container")
function = Function(code=sys.argv[1], handler="index.handler", runtime=sys.argv[2], timeout_s=60.0)
engine.invoke(function, 0)
future = engine.submit(function, 60)
print("up", flush=True)
if sys.stdin.readline() == "close\\n":
    engine.close()
    print("closed", flush=True)
sys.stdin.readline()
"""

SOURCE = """
import subprocess, time

def handler(event, context):
    subprocess.Popen(["/bin/sleep", "60"])
    time.sleep(event)
"""


def _below(pid: int) -> set[int]:
    """Everything below *pid*: by parents, because what is in another pid namespace is seen from here as well."""
    parents: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(name))
    found = parents.get(pid, []).copy()
    for each in found:
        found += parents.get(each, [])
    return set(found)


def _namespaces_of(pids: set[int]) -> set[str]:
    names = set()
    for pid in pids:
        for kind in KINDS:
            try:
                names.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                continue
    return names - {os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS}


def _everybody() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["close", "kill"])
def test_nothing_is_left_when_the_engine_has_ended(tmp_path: Path, runtime: str, how: str) -> None:
    """After close(), and after SIGKILL of the engine in the middle of an invocation."""
    code = tmp_path / "index.py"
    code.write_text(SOURCE, encoding="utf-8")
    command = [sys.executable, "-c", PROGRAM, str(code), runtime]
    mounts, folders = Path("/proc/self/mounts").read_bytes(), _folders()
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as host:
        stdin, stdout = _pipes(host)
        assert b"up\n" == stdout.readline()
        started = _below(host.pid)
        namespaces = _namespaces_of(started)
        assert len(namespaces) > len(KINDS)
        if how == "kill":
            host.kill()
        else:
            stdin.write(b"close\n")
            stdin.flush()
            assert b"closed\n" == stdout.readline()
        give_up_at = time.monotonic() + (5 if how == "kill" else 0)
        while left := (started & _everybody()) or (namespaces & _namespaces_of(_everybody())):
            assert time.monotonic() < give_up_at, left
            time.sleep(0.01)
        assert mounts == Path("/proc/self/mounts").read_bytes()
        host.kill()
    if how == "kill":
        _start_and_end_an_engine()  # which removes what it finds
    assert folders == _folders()


def _folders() -> set[str]:
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("fgengine-")}


def _pipes(host: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert host.stdin is not None
    assert host.stdout is not None
    return host.stdin, host.stdout


def _start_and_end_an_engine() -> None:
    subprocess.run([sys.executable, "-c", "from engine import Engine; Engine().close()"], cwd=ROOT, check=True)


@pytest.mark.slow
def test_loss_of_the_process_that_makes_containers_is_survived(
    own_engine: Engine, make_function: FunctionMaker
) -> None:
    """All containers of its zygote end with it, and the next invocation has a new zygote."""
    function = make_function("def handler(event, context):\n    return 1\n", isolation="container")
    before = own_engine.invoke(function, None)
    (zygote,) = own_engine._fleet._starter.zygotes.everything()
    makers = [each for each in psutil.Process(zygote.pid).children() if each.children()]
    pidfd = os.pidfd_open(zygote.pid)
    for maker in makers:
        maker.kill()
    assert select.select([pidfd], [], [], 5.0)[0]
    os.close(pidfd)
    after = own_engine.invoke(function, None)

    assert (1, 1, True, "container") == (before.value, after.value, after.cold_start, after.isolation)
