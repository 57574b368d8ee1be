"""Folders that their owner can use, whatever the host's umask takes away (umask(2)); root would not notice."""

from __future__ import annotations

import os
import stat
import tempfile


def make_folder(path: str, mode: int = stat.S_IRWXU) -> None:
    """Make the folder *path* with that *mode*."""
    os.mkdir(path, mode)
    os.chmod(path, mode)


def make_temporary_folder(prefix: str, parent: str | None = None) -> str:
    """Make a folder for the owner alone, with a new name in *parent* or the system's temporary folder; return it."""
    path = tempfile.mkdtemp(prefix=prefix, dir=parent)
    os.chmod(path, stat.S_IRWXU)
    return path
