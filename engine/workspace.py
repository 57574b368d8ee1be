"""The engine's private folder on disk, and the end of those that other engines left behind.

Every folder holds a lock file that its engine keeps locked (flock(2)) while it lives. A folder whose lock can be
had belongs to nobody any more, however its engine ended, and the next engine removes it. It removes the engine's
control groups as well: where they are was noted in the folder before the first of them was made, because the next
engine may be in another group, or have no use for groups.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import threading
from contextlib import suppress
from typing import Final

from engine.cgroups.owner import sweep
from engine.errors import UnsupportedPlatformError
from engine.folders import make_temporary_folder
from engine.scratch import remove_tree

PREFIX: Final = "fgengine-"
_LOCK_NAME: Final = "lock"
_GROUPS_NAME: Final = "groups"
_READ_ONLY: Final = 0o555


class Workspace:
    """A private folder below the system's temporary one, from construction to close()."""

    def __init__(self) -> None:
        _check_parent()
        remove_abandoned()
        self.root, self._lock_fd = _make_locked()
        self._homes: dict[str, str] = {}
        self._lock = threading.Lock()

    def home_for(self, code_root: str) -> str:
        """Return the working directory of functions in *code_root*: one that holds the code as ``code``.

        On the platform it is /opt/function, with the code in /opt/function/code; files are opened as
        ``code/settings.ini`` there, and nothing can be written.
        """
        with self._lock:
            home = self._homes.get(code_root)
            if home is None:
                home = make_temporary_folder("home-", self.root)
                os.symlink(code_root, os.path.join(home, "code"))
                os.chmod(home, _READ_ONLY)
                self._homes[code_root] = home
            return home

    def note_groups(self, bases: list[str]) -> None:
        """Write down in which control groups there will be some of this engine, for the engine that finds this."""
        # A full disk, or a folder that was closed meanwhile: the next engine in the same group finds them all the same.
        with suppress(OSError), open(os.path.join(self.root, _GROUPS_NAME), "wb") as note:
            os.fchmod(note.fileno(), 0o600)
            note.write(b"\0".join(map(os.fsencode, bases)))

    def close(self) -> None:
        """Remove the folder with everything in it."""
        # By another name first: a thread that is on its way to make something in it finds nothing to make it in.
        closed = f"{self.root}-closed"
        try:
            os.rename(self.root, closed)
        except OSError:  # a cleaner of temporary folders was here
            closed = self.root
        remove_tree(closed)
        os.close(self._lock_fd)


def _make_locked() -> tuple[str, int]:
    """Make a folder with a locked lock file in it.

    Between making and locking, an engine that starts at this moment may take the folder for an abandoned one; its
    lock file has no name any more then, and another folder is made.
    """
    while True:
        root = make_temporary_folder(PREFIX)
        try:
            lock_fd = os.open(os.path.join(root, _LOCK_NAME), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        os.fchmod(lock_fd, 0o600)  # whatever the umask: another engine has to open it
        fcntl.flock(lock_fd, fcntl.LOCK_EX)
        if os.fstat(lock_fd).st_nlink:
            return root, lock_fd
        os.close(lock_fd)


def remove_abandoned() -> None:
    """Remove the folders of engines that ended without removing them, for example by SIGKILL."""
    parent = tempfile.gettempdir()
    with os.scandir(parent) as entries:
        candidates = [entry.path for entry in entries if entry.name.startswith(PREFIX)]
    for path in candidates:
        with suppress(OSError):
            _remove_if_abandoned(path)


def _remove_if_abandoned(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return
    try:
        lock_fd = os.open(os.path.join(path, _LOCK_NAME), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        os.rmdir(path)  # made and not locked yet: by an engine that was killed then, or that makes another one now
        return
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: somebody lives here
        for base in _noted_groups(path):
            with suppress(OSError):  # it went with whoever owned it
                sweep(base)
        remove_tree(path)
    finally:
        os.close(lock_fd)


def _noted_groups(path: str) -> list[str]:
    """Return the control groups in which an engine has made some; whose they are is told by their names."""
    try:
        with open(os.path.join(path, _GROUPS_NAME), "rb") as note:
            return [os.fsdecode(base) for base in note.read().split(b"\0") if base]
    except OSError:
        return []


def _check_parent() -> None:
    parent = tempfile.gettempdir()
    try:
        parent.encode("utf-8")
    except UnicodeEncodeError:
        # Instances are told of their folders in JSON, which has no word for such a name.
        raise UnsupportedPlatformError(f"the path of the temporary folder must be UTF-8: {parent!r}") from None
