"""The private temporary folder of one instance: the platform's /tmp, as far as TMPDIR is heeded."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own (stat(2))


class Scratch:
    """A folder that an instance is told of by TMPDIR, from construction to remove()."""

    def __init__(self, parent: str) -> None:
        self.path = tempfile.mkdtemp(prefix="tmp-", dir=parent)

    def used_bytes(self) -> int:
        """Return the space taken by everything in it: blocks, so that a sparse file counts what it really has.

        A file that was removed while it is still open takes space that no walk finds; it is not counted.
        """
        used = 0
        folders = [self.path]
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        with suppress(OSError):  # gone since it was listed
                            found = entry.stat(follow_symlinks=False)
                            used += found.st_blocks * _BLOCK_BYTES
                            if stat.S_ISDIR(found.st_mode):
                                folders.append(entry.path)
            except OSError:
                continue
        return used

    def remove(self) -> None:
        """Remove it with everything in it."""
        remove_tree(self.path)


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
    """Remove *root*, also folders in it that their owner made unreadable. What cannot be removed stays."""
    shutil.rmtree(root, ignore_errors=True)
    if os.path.lexists(root):
        # A folder without write permission keeps its entries from an ordinary user, even from its owner.
        for folder, _, _ in os.walk(root):
            with suppress(OSError):
                os.chmod(folder, stat.S_IRWXU)
        shutil.rmtree(root, ignore_errors=True)
