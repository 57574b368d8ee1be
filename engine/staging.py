"""From what a function's description names to folders that an instance can import from.

A folder is used where it is. An archive is unpacked, and a single file copied into a folder of its own, once for each
state of it on disk; instances of all functions share what came out, and it stays until the engine closes.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from engine.errors import InvalidFunctionError
from engine.folders import make_temporary_folder
from engine.model import Function

FileState = tuple[int, int, int]
"""What changes when a file is written or replaced: modification time in nanoseconds, size in bytes, inode."""

_Key = tuple[str, FileState]


@dataclass(frozen=True)
class StagedFunction:
    """Where an instance imports a function from, and the state of its files when that was decided.

    Attributes:
        root: The code's folder, absolute.
        dependencies: The folders of the dependencies, absolute, in the order given.
        fingerprint: The files that are watched for changes, with the state that each one had; None: absent.
    """

    root: str
    dependencies: tuple[str, ...]
    fingerprint: tuple[tuple[str, FileState | None], ...]

    def is_current(self) -> bool:
        """Whether no watched file changed on disk. Runs before every warm invocation: one stat for each file.

        Watched are the handler's and the initializer's file of a folder, a single .py file, and every archive.
        """
        stat = os.stat
        for path, state in self.fingerprint:
            try:
                found = stat(path)
            except OSError:
                if state is not None:
                    return False
            else:
                if (found.st_mtime_ns, found.st_size, found.st_ino) != state:
                    return False
        return True


class Staging:
    """Prepares functions below one private folder. Safe to use from many threads.

    Args:
        root: An existing folder that only the engine's user can read or write. Whoever made it removes it.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.path.abspath(root)
        self._folders: dict[_Key, str] = {}
        self._locks: dict[_Key, threading.Lock] = {}

    def stage(self, function: Function) -> StagedFunction:
        """Return the folders for *function* as its files are now.

        Raises:
            InvalidFunctionError: The code is no folder, .zip archive or .py file, a dependency is no folder or .zip
                archive, an archive is damaged, too large or tries to get out, or the handler cannot be in the file.
            OSError: The disk is full, or another trouble that is not the function's.
        """
        root, watched = self._stage_code(function)
        dependencies = []
        for given in function.dependencies:
            path = os.fspath(given)
            if _is_folder("dependencies", path):
                dependencies.append(path)
            elif _is_zip(path):
                folder, state = self._from_file("dependencies", path, partial(_unpack, "dependencies", path))
                dependencies.append(folder)
                watched.append((path, state))
            else:
                raise InvalidFunctionError("dependencies", path, "must be a folder or a .zip archive")
        return StagedFunction(root, tuple(dependencies), tuple(watched))

    def _stage_code(self, function: Function) -> tuple[str, list[tuple[str, FileState | None]]]:
        """Return the folder of the code, and the files of it to watch."""
        code = os.fspath(function.code)
        if _is_folder("code", code):
            entries = [function.handler] if function.initializer is None else [function.handler, function.initializer]
            paths = dict.fromkeys(handler_file(code, entry) for entry in entries)
            return code, [(path, _state_of(path)) for path in paths]
        if _is_zip(code):
            folder, state = self._from_file("code", code, partial(_unpack, "code", code))
        elif code.endswith(".py"):
            _check_entries_in(code, function)
            folder, state = self._from_file("code", code, lambda file, folder: _copy(file, folder, code))
        else:
            raise InvalidFunctionError("code", code, "must be a folder, a .zip archive or one .py file")
        return folder, [(code, state)]

    def _from_file(self, field: str, path: str, fill: Callable[[BinaryIO, str], None]) -> tuple[str, FileState]:
        """Return the folder that *fill* makes from the file *path*, and the state of the file that it was made from."""
        try:
            file = open(path, "rb")  # noqa: SIM115  # what comes inside the with below fails for other reasons
        except OSError as error:
            raise InvalidFunctionError(field, path, f"cannot be read: {error.strerror}") from error
        with file:
            # Of the open file, not of the path: a file that is replaced right now must not lend its state to the
            # content of the one before.
            state = _state(os.fstat(file.fileno()))
            return self._filled((path, state), file, fill), state

    def _filled(self, key: _Key, file: BinaryIO, fill: Callable[[BinaryIO, str], None]) -> str:
        """Return the folder for *key*, filled once, by the first thread that asks for it; the others wait."""
        with self._locks.setdefault(key, threading.Lock()):
            folder = self._folders.get(key)
            # Cleaners of temporary folders remove what was not touched for days.
            if folder is None or not os.path.isdir(folder):
                folder = make_temporary_folder("code-", self._root)
                try:
                    fill(file, folder)
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
                self._folders[key] = folder
        return folder


def _unpack(field: str, path: str, file: BinaryIO, folder: str) -> None:
    from engine.archives import ArchiveError, extract  # noqa: PLC0415  # 5 ms of zipfile, and most code is in folders

    try:
        extract(file, folder)
    except ArchiveError as error:
        raise InvalidFunctionError(field, path, str(error)) from error


def handler_file(root: str, entry: str) -> str:
    """Return the file below *root* that ``src/index.handler`` or ``src.index.handler`` means: ``src/index.py``."""
    return os.path.join(root, _module_of(entry).replace(".", "/") + ".py")


def _module_of(entry: str) -> str:
    return entry.rpartition(".")[0].replace("/", ".")


def _check_entries_in(code: str, function: Function) -> None:
    """The handler and the initializer must be in the one file that there is."""
    name = os.path.basename(code)
    stem = name.removesuffix(".py")
    if not stem or "." in stem:
        raise InvalidFunctionError("code", code, "no handler can mean a file with another dot in its name")
    for field, entry in (("handler", function.handler), ("initializer", function.initializer)):
        if entry is not None and _module_of(entry) != stem:
            hint = f"{stem}.{entry.rpartition('.')[2]}"
            raise InvalidFunctionError(field, entry, f"the code is the one file {name}: did you mean {hint!r}?")


def _copy(file: BinaryIO, folder: str, path: str) -> None:
    with open(os.path.join(folder, os.path.basename(path)), "xb") as target:
        os.fchmod(target.fileno(), 0o644)
        shutil.copyfileobj(file, target)


def _is_folder(field: str, path: str) -> bool:
    """Whether *path* is a folder; False for a regular file, and a refusal for everything else."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise InvalidFunctionError(field, path, f"cannot be read: {error.strerror}") from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        # A FIFO would be waited on for ever.
        raise InvalidFunctionError(field, path, "must be a folder or a regular file")
    return stat.S_ISDIR(mode)


def _is_zip(path: str) -> bool:
    return path.lower().endswith(".zip")


def _state_of(path: str) -> FileState | None:
    try:
        return _state(os.stat(path))
    except OSError:
        return None


def _state(found: os.stat_result) -> FileState:
    return found.st_mtime_ns, found.st_size, found.st_ino
