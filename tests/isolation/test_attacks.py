"""Every attack at every level, on every runtime; and docs/security.md says the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Status
from engine.model import Isolation, StartMethod
from tests.conftest import FunctionMaker
from tests.isolation.attacks import ATTACKS, DEPENDS, LANDLOCK, OPEN, SOURCE, STOPPED, UNLESS_ROOT
from tests.isolation.landlock import WITH_SIGNALS, landlock_abi

DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "security.md"


@pytest.mark.parametrize("level", ["process", "container"])
@pytest.mark.parametrize("name", [pytest.param(each, marks=pytest.mark.slow) for each in ATTACKS])
def test_attack_gets_as_far_as_the_table_says(  # noqa: PLR0917  # fixtures
    levels: Engine,
    make_function: FunctionMaker,
    canary: dict[str, Any],
    setuid_program: str,
    level: str,
    name: str,
) -> None:
    """What docs/security.md calls stopped is stopped, and what it calls open is open."""
    attack = ATTACKS[name]
    description = {"timeout_s": 20.0, **attack.description}
    function = make_function(SOURCE.replace("{attack}", attack.source), isolation=level, **description)
    os.chmod(function.code, 0o777)  # permissions must not be what stops an attack
    os.symlink(canary["file"], os.path.join(function.code, "link"))
    shutil.copy(setuid_program, os.path.join(function.code, "id"))
    os.chmod(os.path.join(function.code, "id"), 0o4755)
    seen = "/opt/function/code" if level == "container" else os.fspath(function.code)

    result = levels.invoke(function, {**canary, "setuid": f"{seen}/id"})

    assert result.status in (Status.SUCCESS, Status.DISK_FULL), result
    assert level == result.isolation
    got_through = result.status is Status.SUCCESS and result.value
    expected = {
        STOPPED: [False],
        OPEN: [True],
        UNLESS_ROOT: [False, True] if os.geteuid() == 0 else [False],
        LANDLOCK: [False] if landlock_abi() >= WITH_SIGNALS else [False, True],
        DEPENDS: [False, True],
    }
    assert got_through in expected[getattr(attack, level)], result.log


def test_document_shows_the_table_that_is_tested() -> None:
    """docs/security.md has a row for each attack, with what the tests above expect of it."""
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]

    expected = [f"| {attack.title} | {attack.process} | {attack.container} |" for attack in ATTACKS.values()]
    assert expected == [row for row in rows if row in expected]


def test_container_stops_everything_in_the_table() -> None:
    """There is nothing that we try and know not to be stopped in a container."""
    assert {STOPPED} == {attack.container for attack in ATTACKS.values()}


SCANNER = """
import os, re

SECRET = re.compile(b"canar[y]-of-[a-z]+")  # which this text itself is not


def handler(event, context):
    found = set()
    with open("/proc/self/maps") as maps:
        areas = [line.split()[0].split("-") for line in maps if " rw" in line and "[v" not in line]
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    for first, last in areas:
        os.lseek(memory, int(first, 16), 0)
        found.update(SECRET.findall(os.read(memory, int(last, 16) - int(first, 16))))
    return sorted(each.decode("ascii") for each in found)
"""


@pytest.mark.slow
@pytest.mark.parametrize("level", ["process", "container"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_memory_has_nothing_of_other_functions(
    make_function: FunctionMaker, runtime: str, level: Isolation, method: StartMethod
) -> None:
    """A function may look through all of its memory, which was its zygote's: their variables are not in it."""
    other = make_function(
        "def handler(event, context):\n    pass\n", user_data={"A": "canary-of-other"}, start_method=method
    )
    scanner = make_function(SCANNER, user_data={"A": "canary-of-scanner"}, memory_mb=512, timeout_s=20.0)
    with Engine(isolation=level, spare_instances=0) as engine:
        engine.invoke(other, None)
        result = engine.invoke(scanner, None)

    assert ["canary-of-scanner"] == result.value, result
