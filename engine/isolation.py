"""What an instance sees of the machine: the levels ``process`` and ``container``, and the paths that go with them.

At the level of a process an instance finds its files where they are on the host. In a container it finds them where
the platform has them, and nothing else of the host but the interpreter and its libraries. How a container is made is
the child's business: ``sandbox/container.py`` and ``sandbox/cell.py``; what it stops is in docs/security.md.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import InvalidFunctionError, IsolationUnavailableError
from engine.memory import BYTES_PER_MB
from engine.model import Function
from engine.scratch import Scratch
from engine.staging import StagedFunction, handler_file
from engine.workspace import Workspace

HOME: Final = "/opt/function"
CODE_ROOT: Final = HOME + "/code"
_DEPENDENCIES: Final = HOME + "/dependencies"
_TMP: Final = "/tmp"  # noqa: S108  # the container's own

SHM_BYTES: Final = 64 * BYTES_PER_MB
"""Size of /dev/shm in a container."""

_ENGINE_FOLDER: Final = os.path.dirname(os.path.abspath(__file__))
_READ, _ENTER = 0o004, 0o005


@dataclass(frozen=True)
class Container:
    """What the containers of one zygote have in common."""

    network: bool

    def wishes(self) -> dict[str, Any]:
        """Return what a zygote that is to make containers is told when it starts."""
        sandbox = os.path.join(os.path.dirname(_ENGINE_FOLDER), "sandbox")
        return {"network": self.network, "hidden": [_ENGINE_FOLDER, sandbox]}


class ContainerTmp(Scratch):
    """The /tmp of a container: a file system of its own, which ends with its instance."""

    is_quick = True

    def __init__(self) -> None:  # nothing is made on the host
        self.path = _TMP
        self._pid = 0
        self._used_bytes = 0

    def belongs_to(self, pid: int) -> None:
        """Say which instance it is the /tmp of."""
        self._pid = pid

    def used_bytes(self) -> int:
        """Return the space taken in it, as the file system itself counts it: removed files that are open as well."""
        with suppress(OSError):  # dead: what was seen last
            found = os.statvfs(f"/proc/{self._pid}/root{_TMP}")
            self._used_bytes = (found.f_blocks - found.f_bfree) * found.f_frsize
        return self._used_bytes

    def count_steps(self) -> Iterator[int]:
        """Do the same in a single step."""
        yield self.used_bytes()

    def remove(self) -> None:
        """Nothing to do: it is gone with the last process in it."""


@dataclass(frozen=True)
class Surroundings:
    """Where an instance finds its files, in its own words.

    Attributes:
        code_root: The code.
        dependencies: The folders that come after it on the import path.
        home: Its working directory.
        place: For a container, what is to be put there: the folders of the host, and the size of /tmp.
    """

    code_root: str
    dependencies: tuple[str, ...]
    home: str
    place: dict[str, Any] | None = None


def scratch_for(container: Container | None, root: str) -> Scratch:
    """Return the temporary folder for a new instance: below *root*, or in its container."""
    return Scratch(root) if container is None else ContainerTmp()


def surroundings(
    function: Function, staged: StagedFunction, container: Container | None, workspace: Workspace
) -> Surroundings:
    """Return the surroundings of a new instance.

    Raises:
        InvalidFunctionError: The user that functions run as in root's containers cannot read the code, or a folder is
            gone since it was looked for.
    """
    if container is None:
        home = workspace.home_for(staged.root)
        return Surroundings(staged.root, staged.dependencies, home)
    folders = [("code", staged.root), *(("dependencies", path) for path in staged.dependencies)]
    for field, path in folders:
        try:
            os.stat(path)
        except OSError as error:  # a container without it cannot be made; that would be told as the function's end
            raise InvalidFunctionError(field, path, f"cannot be read: {error.strerror}") from error
    if os.geteuid() == 0:
        for _, path in folders:
            if path.startswith(workspace.root + os.sep) and not _anybody_may(path, _ENTER):
                _let_anybody_read(path)
        _check_readable(function, staged, folders)
    return Surroundings(
        CODE_ROOT,
        tuple(f"{_DEPENDENCIES}/{number}" for number in range(len(staged.dependencies))),
        HOME,
        {
            # Real paths: a link would be followed inside, where what it leads to is not.
            "code": os.path.realpath(staged.root),
            "dependencies": [os.path.realpath(path) for path in staged.dependencies],
            "tmp_mb": function.tmp_mb,
        },
    )


def _anybody_may(path: str, rights: int) -> bool:
    return os.stat(path).st_mode & rights == rights


def _let_anybody_read(folder: str) -> None:
    """Open up what was unpacked, behind the closed door of the engine's own folder: files, and its root last."""
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            file = os.path.join(path, name)
            if not os.path.islink(file):
                os.chmod(file, os.stat(file).st_mode | _READ)
        os.chmod(path, os.stat(path).st_mode | _ENTER)


def _check_readable(function: Function, staged: StagedFunction, folders: list[tuple[str, str]]) -> None:
    """Under root a container has a user of its own, to which the files of root are somebody else's."""
    for field, path in folders:
        if not _anybody_may(path, _ENTER):
            raise InvalidFunctionError(field, path, _PRIVATE.format("u+rwX,go+rX"))
    file = handler_file(staged.root, function.handler)
    with suppress(FileNotFoundError):  # told by the load, in the platform's words
        if not _anybody_may(file, _READ):
            raise InvalidFunctionError("code", file, _PRIVATE.format("go+r"))


_PRIVATE: Final = "in a container that root starts, a function is a user of its own: run chmod -R {} on it"


def unavailable(what: str, error: str) -> IsolationUnavailableError:
    """Return what to raise when the kernel refused *what* with *error*, in the words of ``sandbox/namespaces.py``."""
    missing = f"the kernel refused the {what or 'container'} ({error})"
    return IsolationUnavailableError(missing, _advice(what, error))


def _advice(what: str, error: str) -> str:
    for part, words in _OF_CALL.items():
        if part in what:
            return words
    for path, refusing, binds_root, words in _SWITCHES:
        if _read(path) == refusing and (binds_root or os.geteuid() != 0):
            return words
    if os.strerror(errno.ENOSPC) in error:
        return _limit_reached(what)
    if os.strerror(errno.ENOSYS) in error:
        return _OF_CALL["mount_setattr"]
    if "Seccomp:\t2" in (_read("/proc/self/status") or ""):
        return _FILTERED
    return "see docs/security.md for what a container needs"


def _limit_reached(what: str) -> str:
    """Name the lowest of the limits that the kernel may have meant: it says only that one of them was reached."""
    kinds = next((kinds for part, kinds in _KINDS_OF_CALL.items() if part in what), ("user", "mnt"))
    lowest = min(kinds, key=lambda kind: int(_read(f"/proc/sys/user/max_{kind}_namespaces") or 0))
    return f"there may be no more {lowest} namespaces: sysctl user.max_{lowest}_namespaces=15000 (as root)"


_KINDS_OF_CALL: Final = {
    "pid namespace": ("pid",),
    "network": ("mnt", "ipc", "uts", "net"),
    "user namespace in": ("user",),
}
_SWITCHED_OFF: Final = "user namespaces are switched off: sysctl user.max_user_namespaces=15000 (as root)"
_FILTERED: Final = (
    "a seccomp filter is on this process, as in most containers: run this one with "
    "--security-opt seccomp=unconfined, or with a profile that allows unshare, mount and pivot_root"
)
_OF_CALL: Final = {
    "mount_setattr": "Linux 5.12 or newer is needed",
    "mount proc": "a part of /proc is covered here, as in most containers: run this one with "
    "--security-opt systempaths=unconfined (docker, podman) or procMount: Unmasked (Kubernetes)",
    "start of": "capabilities do not count in a user namespace: the folders of the interpreter and its libraries must "
    "be open to its user by their permissions",
    "map of users": "run as an ordinary user, or as root with CAP_SETUID and CAP_SETGID",
}

_SWITCHES: Final = (
    ("/proc/sys/user/max_user_namespaces", "0", True, _SWITCHED_OFF),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        False,
        "user namespaces are root's alone: sysctl kernel.unprivileged_userns_clone=1 (as root)",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        False,
        "AppArmor keeps user namespaces from us: sysctl kernel.apparmor_restrict_unprivileged_userns=0 (as root)",
    ),
)
"""What refuses, by which value, whether to root as well, and what to do about it."""


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None
