"""Where the kernel lets us make no containers: an error that says what is missing, and never less isolation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Function, IsolationUnavailableError
from engine.isolation import unavailable

ROOT = Path(__file__).resolve().parent.parent.parent

PROGRAM = """
import ctypes, json, os, struct, sys

libc = ctypes.CDLL(None, use_errno=True)

def write(path, text):
    with open(path, "w") as file:
        file.write(text)

def new_user_namespace(more=0):
    user, group = os.geteuid(), os.getegid()
    assert libc.unshare(0x10000000 | more) == 0, os.strerror(ctypes.get_errno())
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"0 {user} 1")
    write("/proc/self/gid_map", f"0 {group} 1")

def none_allowed():
    new_user_namespace()
    write("/proc/sys/user/max_user_namespaces", "0")

def none_further_down():
    new_user_namespace()
    write("/proc/sys/user/max_user_namespaces", "1")

def none_of_a_kind(kind):
    new_user_namespace()
    write(f"/proc/sys/user/max_{kind}_namespaces", "0")

def proc_covered():
    new_user_namespace(0x20000)
    assert libc.mount(b"tmpfs", b"/proc/irq", b"tmpfs", 0, None) == 0, os.strerror(ctypes.get_errno())

def unshare_filtered():
    # load the number; unshare: EPERM; else allow
    code = b"".join(struct.pack("=HBBI", *each) for each in (
        (0x20, 0, 0, 0), (0x15, 0, 1, 272 if os.uname().machine == "x86_64" else 97), (0x06, 0, 0, 0x50001),
        (0x06, 0, 0, 0x7FFF0000)))
    held = ctypes.create_string_buffer(code, len(code))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, struct.pack("@HP", 4, ctypes.addressof(held)), 0, 0) == 0

name, _, argument = sys.argv[1].partition(" ")
globals()[name](*argument.split())
from engine import Engine, Function, IsolationUnavailableError
function = Function(code=sys.argv[2], handler="index.handler", runtime=sys.argv[3])
with Engine(isolation="container") as engine:
    told = []
    for _ in range(2):
        try:
            told.append(engine.invoke(function, None).isolation)
        except IsolationUnavailableError as error:
            told.append([error.missing, error.advice])
print(json.dumps(told))
"""

CASES = {
    "none_allowed": ("user namespace", "sysctl user.max_user_namespaces"),
    "none_further_down": ("user namespace in a user namespace", "sysctl user.max_user_namespaces"),
    "none_of_a_kind mnt": ("namespace", "sysctl user.max_mnt_namespaces"),
    "none_of_a_kind pid": ("pid namespace", "sysctl user.max_pid_namespaces"),
    "none_of_a_kind net": ("network", "sysctl user.max_net_namespaces"),
    "proc_covered": ("mount proc", "systempaths=unconfined"),
    "unshare_filtered": ("user namespace", "seccomp=unconfined"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_what_is_missing_is_named_and_nothing_runs(tmp_path: Path, runtime: str, case: str) -> None:
    """A host that is set up without what containers need: each for real, in a process of its own."""
    code, ran = tmp_path / "index.py", tmp_path / "ran"
    code.write_text(f"open({str(ran)!r}, 'w')\n\ndef handler(event, context):\n    pass\n", encoding="utf-8")
    command = [sys.executable, "-c", PROGRAM, case, str(code), runtime]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert "" == done.stderr
    told: list[Any] = json.loads(done.stdout)
    missing, advice = CASES[case]
    assert [2, 2] == [len(said) for said in told], told
    assert missing in told[0][0], told
    assert advice in told[0][1], told
    assert not ran.exists()


def test_error_carries_what_and_how() -> None:
    """A program can act on the parts, and a person reads both; it survives pickling as every error of ours."""
    error = unavailable("mount_setattr /usr", "[Errno 38] Function not implemented")
    copy = error.__reduce__()

    assert "mount_setattr" in error.missing
    assert "Linux 5.12" in error.advice
    assert str(error) == str(copy[0](*copy[1]))
    assert isinstance(error, IsolationUnavailableError)


def test_interpreter_that_cannot_be_started_inside_is_told() -> None:
    """One in a folder that only a capability opens, as the engine of a service may have one: not a lost zygote."""
    error = unavailable("start of /opt/closed/python in a user namespace", "[Errno 2] No such file or directory")

    assert "/opt/closed/python" in error.missing
    assert "permissions" in error.advice


def test_level_that_there_is_not_is_refused() -> None:
    """A word that was mistyped must not end in less isolation."""
    with pytest.raises(ValueError, match="isolation"):
        Engine(isolation="docker")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ValueError, match="isolation"):
        Function(code=os.path.dirname(__file__), handler="index.handler", isolation="Container")  # type: ignore[arg-type]  # what is tested
