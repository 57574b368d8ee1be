"""The private temporary folder of an instance: what it counts for, and that nothing in it can stay."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.scratch import Scratch, remove_tree


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(str(tmp_path))


def test_folder_is_private_and_its_own(tmp_path: Path, scratch: Scratch) -> None:
    """Two instances never share one."""
    assert 0o700 == stat.S_IMODE(os.stat(scratch.path).st_mode)
    assert scratch.path != Scratch(str(tmp_path)).path


def test_everything_in_it_counts(scratch: Scratch) -> None:
    """Files in folders too, in blocks that are really taken."""
    empty = scratch.used_bytes()
    inner = Path(scratch.path) / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").write_bytes(b"x" * 1_000_000)
    (Path(scratch.path) / "other").write_bytes(b"x" * 500_000)

    assert 0 == empty
    assert 1_500_000 <= scratch.used_bytes() < 1_700_000


def test_sparse_file_counts_what_it_has(scratch: Scratch) -> None:
    """A length that was only claimed takes no space."""
    with (Path(scratch.path) / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)

    assert scratch.used_bytes() < 1_000_000


def test_links_are_not_followed(tmp_path: Path, scratch: Scratch) -> None:
    """What lies elsewhere is not the function's, and neither a circle nor a dead end keeps the count from ending."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "large").write_bytes(b"x" * 1_000_000)
    for name, target in {
        "away": tmp_path / "elsewhere",
        "self": Path(scratch.path),
        "nowhere": Path("/nowhere"),
    }.items():
        (Path(scratch.path) / name).symlink_to(target)

    assert scratch.used_bytes() < 100_000


def test_folder_that_is_gone_takes_nothing(scratch: Scratch) -> None:
    """A function may remove it; removing it once more is nothing."""
    os.rmdir(scratch.path)
    scratch.remove()

    assert 0 == scratch.used_bytes()


def deep(root: Path) -> None:
    """Deeper than the longest path, and than recursion goes."""
    folder = os.open(root, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d" * 20, dir_fd=folder)
        inner = os.open("d" * 20, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    with open(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=folder), "wb") as file:
        file.write(b"x")
    os.close(folder)


def locked(root: Path) -> None:
    """Folders whose owner may neither list nor change them."""
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").touch()
    for each in (root / "a" / "b", root / "a", root):
        each.chmod(0)


def odd(root: Path) -> None:
    """Things that are neither files nor folders, and names that are no text."""
    os.mkfifo(root / "fifo")
    (root / "link").symlink_to(root.parent / "outside")
    os.mkdir(os.fsencode(root) + b"/\xff\xfe")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe/\n")).touch()


@pytest.mark.parametrize("make", [deep, locked, odd, lambda root: None], ids=["deep", "locked", "odd", "empty"])
def test_remove_takes_whatever_a_function_made(tmp_path: Path, scratch: Scratch, make: Callable[[Path], None]) -> None:
    """And nothing that it links to."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (outside / "file").touch()
    make(Path(scratch.path))
    scratch.remove()

    assert [outside] == list(tmp_path.iterdir())
    assert ["file"] == os.listdir(outside)
    assert 0o750 == stat.S_IMODE(outside.stat().st_mode)


@pytest.mark.slow
def test_what_is_too_deep_to_be_counted_is_over_any_limit(scratch: Scratch) -> None:
    """Nobody hides files below the longest path."""
    deep(Path(scratch.path))

    assert scratch.used_bytes() > 1 << 60
    scratch.remove()


def test_remove_tree_of_a_link_removes_the_link(tmp_path: Path) -> None:
    """What it is asked to remove may have been replaced."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    remove_tree(str(tmp_path / "link"))

    assert ["target"] == os.listdir(tmp_path)
    assert ["file"] == os.listdir(tmp_path / "target")
