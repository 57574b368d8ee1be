"""What the hostile tests share: an arena in which a function attacks while a neighbour and the engine look on.

Hostile by intent, bounded by construction: an attack touches only its own process, what that started, and files of
its test; and each one stops by itself, should the engine fail to stop it: at most 2,000 forks, 2 GB and 30 seconds.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from engine import Engine, Function, Result, Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import FunctionMaker

ARMS = r'''
"""What attacks are made with. Written for 2.7 as well; it knows the wire only by looking at its own process."""

import json
import os
import struct
import sys
import time

GIVE_UP_S = 30.0
GUESSES = ["", "0" * 16, "f" * 16, "null", "*"]


def descriptors():
    """Every open descriptor of this process."""
    return [fd for fd in sorted(map(int, os.listdir("/proc/self/fd"))) if os.path.exists("/proc/self/fd/%d" % fd)]


def reply_descriptor():
    """The pipe that replies go into: beyond standard output and error, the only one that is written to."""
    for fd in descriptors():
        with open("/proc/self/fdinfo/%d" % fd) as info:
            flags = [int(line.split()[1], 8) for line in info if line.startswith("flags:")][0]
        if fd > 2 and flags & os.O_WRONLY and os.readlink("/proc/self/fd/%d" % fd).startswith("pipe:"):
            return fd


def stolen_token():
    """The token of the invocation that runs now, from the frames that called the handler."""
    frame = sys._getframe()
    while frame is not None:
        if "token" in frame.f_locals:
            return str(frame.f_locals["token"])
        frame = frame.f_back


def frame(kind, token, payload, **more):
    """A well-formed reply."""
    header = json.dumps(dict(more, type=kind, token=token)).encode("ascii")
    body = payload if isinstance(payload, bytes) else payload.encode("ascii")
    return struct.pack(">II", len(header), len(body)) + header + body


def error(message):
    """The payload of a reply that tells of an exception."""
    return json.dumps({"errorMessage": message, "errorType": "Forged", "stackTrace": []})


def write(fd, data):
    """Write every byte of *data*; False when *fd* is closed or cannot be written to."""
    give_up_at = time.time() + GIVE_UP_S
    try:
        while data and time.time() < give_up_at:
            data = data[os.write(fd, data):]
    except OSError:
        return False
    return True


def trap(act):
    """A value whose serialisation runs *act*: 3.x asks a mapping for its items, 2.7 a number for its text."""
    if sys.version_info[0] == 2:
        return type("Number", (int,), {"__str__": lambda self: act()})(7)
    return type("Mapping", (dict,), {"items": lambda self: act()})(a=1)


def hang():
    """Do nothing until the engine ends it."""
    time.sleep(GIVE_UP_S)


def spin(give_up_s=GIVE_UP_S):
    """Loop until the engine ends it."""
    give_up_at = time.time() + give_up_s
    while time.time() < give_up_at:
        pass
'''

_ATTACKER = """
from arms import *

def attack(context):
{attack}

def handler(event, context):
    if event == "attack":
        return attack(context)
    return "calm"
"""


@dataclass(frozen=True)
class Aftermath:
    """What came of an attack, with all else found in order: the neighbour is warm, the function works again."""

    result: Result
    before: Result
    after: Result

    @property
    def instance_survived(self) -> bool:
        """Whether the instance that attacked serves on."""
        return not self.after.cold_start


class Arena(Protocol):
    """Runs the statements *attack* (of a function that returns what it likes) and looks at the ruins.

    *more* is source for the module's top level; descriptions go to the Function.
    """

    def __call__(self, attack: str, more: str = ..., **description: Any) -> Aftermath: ...


class ImportArena(Protocol):
    """Runs the statements *attack* while the module is imported, the first time only."""

    def __call__(self, attack: str, **description: Any) -> Aftermath: ...


class Neighbour:
    """Another function on the same engine, whose instance must not notice anything."""

    def __init__(self, engine: Engine, function: Function) -> None:
        self._engine = engine
        self._function = function
        self._pid = engine.invoke(function, None).value

    def check(self) -> None:
        """Fail unless the very instance from before the attack answers."""
        result = self._engine.invoke(self._function, None)

        assert (Status.SUCCESS, self._pid, False) == (result.status, result.value, result.cold_start)
        assert "" == result.log


@pytest.fixture
def armed(make_function: FunctionMaker) -> FunctionMaker:
    """Functions that can import ``arms``."""

    def make(source: str, handler: str = "index.handler", **description: Any) -> Function:
        return make_function(source, handler, files={"arms.py": ARMS}, **description)

    return make


@pytest.fixture
def neighbour(engine: Engine, make_function: FunctionMaker) -> Neighbour:
    """A warm instance of an innocent function."""
    return Neighbour(engine, make_function("import os\n\ndef handler(event, context):\n    return os.getpid()\n"))


@pytest.fixture
def arena(engine: Engine, armed: FunctionMaker, neighbour: Neighbour) -> Arena:
    """Attack from a warm instance, then look after the neighbour and invoke the attacker once more."""

    def run(attack: str, more: str = "", **description: Any) -> Aftermath:
        body = textwrap.indent(textwrap.dedent(attack).strip(), "    ")
        source = textwrap.dedent(more) + _ATTACKER.format(attack=body)
        function = armed(source, **description)
        before = engine.invoke(function, None)
        result = engine.invoke(function, "attack")
        neighbour.check()
        after = engine.invoke(function, None)
        neighbour.check()

        assert (Status.SUCCESS, "calm") == (before.status, before.value)
        assert (Status.SUCCESS, "calm", "") == (after.status, after.value, after.log)
        _assert_truthful(function, result)
        return Aftermath(result, before, after)

    return run


@pytest.fixture
def import_arena(engine: Engine, armed: FunctionMaker, neighbour: Neighbour, tmp_path: Path) -> ImportArena:
    """Attack while loading, then look after the neighbour and load once more."""

    def run(attack: str, **description: Any) -> Aftermath:
        body = textwrap.indent(textwrap.dedent(attack).strip(), "    ")
        source = (
            "import os\n\nfrom arms import *\n\nif not os.path.exists(os.environ['FLAG']):\n"
            f"    open(os.environ['FLAG'], 'w').close()\n{body}\n\ndef handler(event, context):\n    return 'calm'\n"
        )
        flag = {"FLAG": str(tmp_path / "attacked")}
        function = armed(source, user_data=flag, **description)
        result = engine.invoke(function, None)
        neighbour.check()
        after = engine.invoke(function, None)

        assert (Status.SUCCESS, "calm", True) == (after.status, after.value, after.cold_start)
        _assert_truthful(function, result)
        return Aftermath(result, result, after)

    return run


def _assert_truthful(function: Function, result: Result) -> None:
    """What the engine itself measures holds whatever the function does, and the parts agree with each other."""
    summary = result.summary
    assert function.memory_mb == summary.memory_size_mb
    assert 0.0 <= summary.duration_ms <= function.timeout_s * 1000 + 1000
    assert max(1, summary.duration_ms) <= summary.billed_duration_ms <= summary.duration_ms + 1
    # Who died before it was looked at takes its figure along.
    assert 1.0 < summary.memory_used_mb or result.status is Status.EXITED
    assert (result.error is None) is result.ok
    if result.error is not None:
        assert ["errorMessage", "errorType", "stackTrace"] == list(result.error)
        assert result.error_code > 0
    assert len(result.log.encode()) <= 3 * 4096  # each byte that is no UTF-8 becomes one character of three
