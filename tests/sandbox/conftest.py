"""Modules of sandbox/ alone, in the interpreters that they are written for: a program that asserts is the test."""

from __future__ import annotations

import os
import subprocess
import textwrap
from pathlib import Path
from typing import Protocol

import pytest

from engine.runtimes import PLATFORM_RUNTIMES, Runtimes

ROOT = Path(__file__).resolve().parent.parent.parent

PROLOGUE = """\
# coding: utf-8
from __future__ import unicode_literals
import json, os, sys
sys.path.insert(0, sys.argv[1])
PY2 = sys.version_info[0] == 2

def raised(act, *arguments):
    try:
        act(*arguments)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised by %r" % (arguments,))

"""


class Trial(Protocol):
    """Runs a program, in which ``raised(act, *arguments)`` gives the exception; returns what it wrote."""

    def __call__(self, program: str, *arguments: str) -> bytes: ...


@pytest.fixture(scope="session")
def executables() -> dict[str, str]:
    """The platform's interpreters and, as ``newest``, the newest one: what is deprecated is gone there."""
    found = {each.runtime: each.executable for each in Runtimes().installed()}
    newest = max(found, key=lambda label: [int(part) for part in label.removeprefix("python").split(".")])
    return {**found, "newest": found[newest]}


@pytest.fixture(params=[*PLATFORM_RUNTIMES, "newest"])
def trial(request: pytest.FixtureRequest, executables: dict[str, str]) -> Trial:
    """Each interpreter in turn; skipped where it is not installed, but a failure in CI."""
    executable = executables.get(request.param)
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {request.param}")
        pytest.skip(f"{request.param} is not installed")

    def run(program: str, *arguments: str) -> bytes:
        source = PROLOGUE + textwrap.dedent(program)
        command = [executable, "-B", "-W", "error", "-c", source, str(ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        assert ("", 0) == (done.stderr.decode("utf-8", "replace"), done.returncode)
        return done.stdout

    return run
