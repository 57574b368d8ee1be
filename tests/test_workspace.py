"""The engine's private folder: what is in it, and whose folders are removed when an engine starts."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine import workspace as workspace_module
from engine.errors import UnsupportedPlatformError
from engine.workspace import PREFIX, Workspace, remove_abandoned


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder that no other engine uses."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def workspace(temporary: Path) -> Iterator[Workspace]:
    with closing(Workspace()) as workspace:
        yield workspace


def abandoned(temporary: Path, name: str = PREFIX + "old") -> Path:
    """What an engine leaves that was killed: its lock file is there, and nobody holds the lock."""
    folder = temporary / name
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "code").mkdir()
    (folder / "code" / "index.py").touch()
    return folder


def test_folder_is_private_and_known_by_its_name(workspace: Workspace, temporary: Path) -> None:
    """Others can neither read nor write what functions are made of."""
    assert [workspace.root] == [str(path) for path in temporary.iterdir()]
    assert Path(workspace.root).name.startswith(PREFIX)
    assert 0o700 == stat.S_IMODE(os.stat(workspace.root).st_mode)


def test_home_holds_the_code_and_nothing_can_be_written_there(workspace: Workspace, tmp_path: Path) -> None:
    """As /opt/function on the platform: files are opened as code/settings.ini."""
    home = workspace.home_for(str(tmp_path))

    assert ["code"] == os.listdir(home)
    assert str(tmp_path) == os.readlink(f"{home}/code")
    assert 0o555 == stat.S_IMODE(os.stat(home).st_mode)


def test_home_is_made_once_for_each_code(workspace: Workspace) -> None:
    """All instances of a function share it."""
    assert workspace.home_for("/one") == workspace.home_for("/one")
    assert workspace.home_for("/one") != workspace.home_for("/two")


def test_close_removes_everything(temporary: Path) -> None:
    """Read-only homes among it, and nothing that they link to."""
    code = temporary / "code"
    code.mkdir()
    (code / "index.py").touch()
    workspace = Workspace()
    workspace.home_for(str(code))
    (Path(workspace.root) / "unpacked").mkdir(mode=0o500)
    workspace.close()

    assert [code] == list(temporary.iterdir())
    assert ["index.py"] == os.listdir(code)


def test_new_workspace_removes_abandoned_folders(temporary: Path) -> None:
    """However their engines ended, and with everything in them."""
    for name in ("one", "two"):
        abandoned(temporary, PREFIX + name)
    with closing(Workspace()) as workspace:
        assert [workspace.root] == [str(path) for path in temporary.iterdir()]


def test_folder_of_a_living_engine_is_kept(workspace: Workspace) -> None:
    """Its lock is held: by another process, or by another engine of this one."""
    home = workspace.home_for("/code")
    remove_abandoned()

    assert os.path.isdir(home)


def test_folder_without_a_lock_is_kept(temporary: Path) -> None:
    """It may be somebody else's, or its engine is just about to lock it."""
    folder = abandoned(temporary)
    (folder / "lock").unlink()
    remove_abandoned()

    assert (folder / "code" / "index.py").exists()


def test_folder_of_another_user_is_kept(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where this user could remove it: root must not be led to remove what others put there."""
    folder = abandoned(temporary)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    remove_abandoned()

    assert (folder / "code" / "index.py").exists()


def test_folder_of_another_name_is_kept(temporary: Path) -> None:
    """A lock file alone makes nothing ours."""
    folder = abandoned(temporary, "somebody-elses")
    remove_abandoned()

    assert (folder / "code" / "index.py").exists()


def test_link_with_our_name_is_not_followed(temporary: Path, tmp_path: Path) -> None:
    """Anybody can put a link into the system's temporary folder."""
    target = abandoned(tmp_path, "target")
    (temporary / f"{PREFIX}link").symlink_to(target)
    remove_abandoned()

    assert (target / "code" / "index.py").exists()
    assert (temporary / f"{PREFIX}link").is_symlink()


def test_lock_that_is_a_link_is_not_followed(temporary: Path, tmp_path: Path) -> None:
    """It would be somebody else's file that is locked."""
    folder = abandoned(temporary)
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(tmp_path / "anything")
    remove_abandoned()

    assert (folder / "code" / "index.py").exists()
    assert not (tmp_path / "anything").exists()


def test_file_with_our_name_is_kept(temporary: Path) -> None:
    """It is no folder of an engine."""
    (temporary / f"{PREFIX}file").touch()
    remove_abandoned()

    assert (temporary / f"{PREFIX}file").exists()


def test_what_an_abandoned_folder_links_to_is_untouched(temporary: Path, tmp_path: Path) -> None:
    """A home holds a link to the user's own code: neither its files nor its permissions are ours."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "index.py").touch()
    code.chmod(0o500)
    folder = abandoned(temporary)
    (folder / "home").mkdir()
    (folder / "home" / "code").symlink_to(code)
    (folder / "home").chmod(0o555)
    remove_abandoned()

    assert not folder.exists()
    assert ["index.py"] == os.listdir(code)
    assert 0o500 == stat.S_IMODE(code.stat().st_mode)


def test_folder_that_was_taken_for_an_abandoned_one_is_made_anew(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between making a folder and locking it, an engine that starts at this moment may remove it."""
    removed: list[str] = []
    flock = fcntl.flock

    def remove_first(fd: int, operation: int) -> None:
        if not removed:
            (path,) = temporary.iterdir()
            shutil.rmtree(path)
            removed.append(str(path))
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with closing(Workspace()) as workspace:
        assert os.path.isdir(workspace.root)
        assert [workspace.root] != removed
        remove_abandoned()
        assert os.path.isdir(workspace.root)


def test_folder_of_an_engine_that_was_killed_before_it_locked_it_is_removed(temporary: Path) -> None:
    """It is empty then. One with something in it and no lock file is no folder of ours."""
    (temporary / f"{PREFIX}empty").mkdir()
    strange = temporary / f"{PREFIX}notes"
    strange.mkdir()
    (strange / "page").touch()
    remove_abandoned()

    assert [strange] == list(temporary.iterdir())


def test_groups_of_a_dead_engine_are_swept_where_it_noted_them(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next engine need not be in the same group, nor use groups at all; what is alive is left alone."""
    swept: list[str] = []
    monkeypatch.setattr("engine.workspace.sweep", swept.append)
    with closing(Workspace()) as alive:
        alive.note_groups(["/sys/fs/cgroup/alive"])
        folder = abandoned(temporary)
        (folder / "groups").write_bytes(b"/sys/fs/cgroup/one\0/sys/fs/cgroup/\xff")
        remove_abandoned()

    assert ["/sys/fs/cgroup/one", os.fsdecode(b"/sys/fs/cgroup/\xff")] == swept


def test_temporary_folder_that_json_cannot_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instances are told of their folders in JSON."""
    folder = os.path.join(tmp_path, os.fsdecode(b"caf\xe9"))
    os.mkdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)

    with pytest.raises(UnsupportedPlatformError, match="must be UTF-8"):
        Workspace()
    assert [] == os.listdir(folder)


def test_nothing_is_made_in_a_folder_that_is_being_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that starts an instance while the engine is closed would leave its folder behind."""
    space = Workspace()
    remove = workspace_module.remove_tree
    late: list[type[OSError]] = []

    def removed(root: str) -> None:
        try:
            os.mkdir(os.path.join(space.root, "late"))
        except OSError as error:
            late.append(type(error))
        remove(root)

    monkeypatch.setattr(workspace_module, "remove_tree", removed)
    space.close()

    assert [FileNotFoundError] == late
    assert not [name for name in os.listdir(tempfile.gettempdir()) if name.startswith(os.path.basename(space.root))]
