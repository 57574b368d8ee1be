"""The private temporary folder of one instance: the platform's /tmp, as far as TMPDIR is heeded."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from engine.folders import make_folder

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILES_A_STEP: Final = 32  # 3 to 5 microseconds each
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own (stat(2))


class Scratch:
    """A folder that an instance is told of by TMPDIR, from construction to remove()."""

    is_quick = False
    """Whether counting what is in it takes microseconds, so that every invocation can afford it."""

    def __init__(self, parent: str) -> None:
        # In the engine's own folder, so its name has to be new and no more: tempfile takes 0.1 ms for its own.
        self.path = os.path.join(parent, "tmp-" + os.urandom(8).hex())
        make_folder(self.path)

    def belongs_to(self, pid: int) -> None:
        """Say which instance it is the temporary folder of; one on the host needs not know."""

    def used_bytes(self) -> int:
        """Return the space taken by everything in it: blocks, so that a sparse file counts what it really has.

        A file that was removed while it is still open takes space that no walk finds; it is not counted. What lies
        deeper than the longest path cannot be counted, and is taken for more than any limit.
        """
        used = 0
        for sum_bytes in self.count_steps():
            used = sum_bytes
        return used

    def count_steps(self) -> Iterator[int]:
        """Do the same a few files at a time; give the sum so far after each step, the last one being the whole."""
        used = 0
        opened: set[str] = set()
        folders = [self.path]
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for number, entry in enumerate(entries):
                        used += _blocks_bytes(entry, folders)
                        if number % _FILES_A_STEP == 0:
                            yield used
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:
                    yield sys.maxsize
                    return
                if error.errno == errno.EACCES and error.filename not in opened:
                    # Closed by the function that owns it, to hide what is inside: opened again, and looked into.
                    opened.add(error.filename)
                    with suppress(OSError):
                        os.chmod(error.filename, stat.S_IRWXU)
                        folders.append(error.filename)
        yield used

    def remove(self) -> None:
        """Remove it with everything in it."""
        remove_tree(self.path)


def _blocks_bytes(entry: os.DirEntry[str], folders: list[str]) -> int:
    """Return the space of *entry* itself, and put it down for a look inside when it is a folder."""
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:  # gone since it was listed
        return 0
    if stat.S_ISDIR(found.st_mode):
        folders.append(entry.path)
    return found.st_blocks * _BLOCK_BYTES


def is_in_memory(path: str) -> bool:
    """Whether *path* is on a tmpfs, whose files are memory to the kernel.

    Raises:
        OSError: The mounts cannot be read.
    """
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for mount in mounts:
            fields, _, source = mount.partition(" - ")
            if fields.split()[2] == number:
                return source.startswith("tmpfs ")
    return False


def remove_tree(root: str) -> None:
    """Remove *root*, whatever a function made of it, with everything in it. What cannot be removed stays."""
    try:
        os.rmdir(root)  # most are empty
    except NotADirectoryError:
        with suppress(OSError):
            os.unlink(root)
    except FileNotFoundError:
        pass
    except OSError:
        with suppress(OSError):
            os.chmod(root, stat.S_IRWXU)
            _empty(root)
            os.rmdir(root)


def _empty(root: str) -> None:
    """Remove everything in *root*.

    Every folder is moved up into *root* before it is emptied, so that neither paths nor recursion get deep:
    shutil.rmtree() raises RecursionError from a thousand folders in each other, and leaves them where they are.
    """
    top = os.open(root, _FOLDER)
    prefix = os.urandom(8).hex()
    lifted = 0
    try:
        pending = _unlink_files(top)
        while pending:
            name = pending.pop()
            with suppress(OSError):
                folder = os.open(name, _FOLDER, dir_fd=top)
                try:
                    for inner in _unlink_files(folder):
                        lifted += 1
                        with suppress(OSError):
                            os.rename(inner, f"{prefix}{lifted}", src_dir_fd=folder, dst_dir_fd=top)
                            pending.append(f"{prefix}{lifted}")
                finally:
                    os.close(folder)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def _unlink_files(folder: int) -> list[str]:
    """Remove all but the folders in *folder*; return those, opened up for their owner.

    An ordinary user cannot list, empty or move a folder of their own whose permissions they took away.
    """
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.name, stat.S_IRWXU, dir_fd=folder)
                    folders.append(entry.name)
                else:
                    os.unlink(entry.name, dir_fd=folder)
    return folders
