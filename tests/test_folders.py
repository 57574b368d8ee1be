"""Folders that their owner can use: modes are compared, because root can use any."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.folders import make_folder, make_temporary_folder


@pytest.fixture(autouse=True)
def _umask_that_takes_everything(tmp_path: Path) -> Iterator[None]:
    assert tmp_path.is_dir()  # made before
    usual = os.umask(0o777)
    yield
    os.umask(usual)


def mode_of(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_folder_has_the_mode_that_was_asked_for(tmp_path: Path, mode: int) -> None:
    """For the owner alone when none was."""
    make_folder(str(tmp_path / "asked"), mode)
    make_folder(str(tmp_path / "usual"))

    assert (mode, 0o700) == (mode_of(tmp_path / "asked"), mode_of(tmp_path / "usual"))


def test_temporary_folder_is_its_owners_alone(tmp_path: Path) -> None:
    """And has a new name each time."""
    paths = {make_temporary_folder("made-", str(tmp_path)) for _ in range(2)}

    assert [0o700] * 2 == [mode_of(path) for path in paths]
    assert {str(tmp_path)} == {os.path.dirname(path) for path in paths}
