"""What the tests of isolation share: an engine that is warm at both levels, and a canary to attack."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import engine as package
from engine import Engine, Function, RuntimeNotFoundError
from tests.conftest import REQUIRED_RUNTIMES, FunctionMaker

_CODE = "def handler(event, context):\n    return event\n"


# Scope package: other tests look at what is below the zygotes of all engines.
@pytest.fixture(scope="package")
def levels(tmp_path_factory: pytest.TempPathFactory, shared_engines: list[Engine]) -> Iterator[Engine]:
    """One engine, whose functions are in containers unless they say otherwise; warm, so that no test is blamed."""
    folder = tmp_path_factory.mktemp("levels")
    code = folder / "index.py"
    code.write_text(_CODE, encoding="utf-8")
    with Engine(isolation="container") as both:
        for runtime in REQUIRED_RUNTIMES:
            function: dict[str, Any] = {"code": code, "handler": "index.handler", "runtime": runtime}
            for more in ({}, {"network": True}, {"isolation": "process"}):
                try:
                    both.invoke(Function(**function, **more), None)
                except RuntimeNotFoundError:
                    continue
        both.release_idle()
        shared_engines.append(both)
        yield both
        shared_engines.remove(both)


@pytest.fixture
def canary(levels: Engine, make_function: FunctionMaker) -> Iterator[dict[str, Any]]:
    """A file, a folder, a process, three listeners, a setuid program and a neighbour, and where they are."""
    # Not below pytest's folder, which is closed to others: permissions must not be what stops an attack.
    folder = Path(tempfile.mkdtemp(prefix="fgengine-canary-", dir="/tmp"))
    folder.chmod(0o777)
    (folder / "file").write_text("secret", encoding="utf-8")
    other = make_function(
        "import os, tempfile\n\ndef handler(event, context):\n"
        "    path = os.path.join(tempfile.gettempdir(), 'file')\n"
        "    open(path, 'w').write('secret')\n    return path\n",
        files={"secret.py": "secret = 1\n"},
        isolation="process",
    )
    with ExitStack() as closing:
        closing.callback(shutil.rmtree, folder)
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        closing.callback(process.wait)
        closing.callback(process.kill)
        assert process.stdin is not None
        closing.callback(process.stdin.close)
        tcp, abstract, unix = (
            closing.enter_context(socket.socket(family)) for family in (socket.AF_INET, socket.AF_UNIX, socket.AF_UNIX)
        )
        tcp.bind(("127.0.0.1", 0))
        name = f"fgengine-canary-{os.getpid()}"
        abstract.bind("\0" + name)
        unix.bind(path := f"/tmp/{name}")  # a path of at most 107 bytes
        closing.callback(os.unlink, path)
        for listener in (tcp, abstract, unix):
            listener.listen(8)
        yield {
            "file": str(folder / "file"),
            "folder": str(folder),
            "engine": os.path.join(os.path.dirname(package.__file__), "errors.py"),
            "other_code": os.path.join(other.code, "secret.py"),
            "other_tmp": levels.invoke(other, None).value,
            "pid": process.pid,
            "engine_pid": os.getpid(),
            "port": tcp.getsockname()[1],
            "abstract": name,
            "socket": path,
        }
        assert process.poll() is None


@pytest.fixture
def setuid_program() -> str:
    """A program that tells its effective user, and has the setuid bit; the function gets a copy beside its code."""
    program = shutil.which("id")
    assert program is not None
    return program
