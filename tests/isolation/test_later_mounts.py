"""What the host mounts while a container runs is not in it: it would come with the rights that it has on the host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# In namespaces of its own, with mounts that are shared as systemd has them.
PROGRAM = """
import ctypes, json, os, sys
from engine import Engine, Function

libc = ctypes.CDLL(None, use_errno=True)

def mount(source, target, kind, flags):
    assert libc.mount(source, os.fsencode(target), kind, flags, None) == 0, os.strerror(ctypes.get_errno())

user, group = os.geteuid(), os.getegid()
code, below = sys.argv[1], os.path.join(sys.argv[1], "below")
assert libc.unshare(0x10000000 | 0x20000) == 0, os.strerror(ctypes.get_errno())
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
    with open("/proc/self/" + name, "w") as file:
        file.write(text)
mount(code.encode(), code, None, 0x1000)
mount(b"none", "/", None, 0x4000 | 1 << 20)
with Engine(isolation="container") as engine:
    function = Function(code=code, handler="index.handler", runtime=sys.argv[2])
    before = engine.invoke(function, None)
    mount(b"tmpfs", below, b"tmpfs", 0)
    open(os.path.join(below, "marker"), "w").close()
    warm = engine.invoke(function, None)
    cold = engine.invoke(Function(code=code, handler="index.handler", runtime=sys.argv[2], name="new"), None)
    print(json.dumps([before.value, warm.value, warm.cold_start, cold.value]))
"""

SOURCE = """
import os

def handler(event, context):
    below = "/opt/function/code/below"
    try:
        open(os.path.join(below, "written"), "w").close()
    except EnvironmentError:
        pass
    return os.listdir(below)
"""


@pytest.mark.slow
def test_what_is_mounted_later_is_not_in_a_running_container(tmp_path: Path, runtime: str) -> None:
    """It is in the next one, with the rights of everything there: to read."""
    code = tmp_path / "code"
    (code / "below").mkdir(parents=True)
    (code / "index.py").write_text(SOURCE, encoding="utf-8")
    (code / "below").chmod(0o777)
    command = [sys.executable, "-c", PROGRAM, str(code), runtime]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert "" == done.stderr
    assert [[], [], False, ["marker"]] == json.loads(done.stdout)
    assert [] == os.listdir(code / "below")
