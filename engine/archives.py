"""Unpacks a .zip archive that nobody vouches for into a folder, and never a byte outside of it.

The whole archive is judged by its directory before the first file is written; what the directory claims about sizes
is then checked again by counting, because it can lie. Reasons are worded to go behind "code='x.zip': ".
"""

from __future__ import annotations

import errno
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable
from typing import IO, BinaryIO, Final

from engine.folders import make_folder

MAX_UNPACKED_BYTES: Final = 1_500 * 1024 * 1024
"""The platform's limit for unpacked code ("Notes and Constraints")."""

MAX_ENTRIES: Final = 30_000
"""Most files and folders together: the platform's limit of files in a dependency."""

_MAX_DEPTH: Final = 100  # shutil.rmtree recurses up to 3.12: what it cannot remove must not be made
_CHUNK_BYTES: Final = 1024 * 1024
# What came out of zipfile for 400,000 archives with random changes, on 3.10, 3.11 and 3.13.
_DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,  # negative seeks, and UnicodeError
    RuntimeError,  # encrypted, and NotImplementedError: strongly encrypted, patch data, a newer kind of archive
)


class ArchiveError(Exception):
    """The archive cannot be used; the text says why."""


def extract(
    file: BinaryIO, folder: str, *, max_bytes: int = MAX_UNPACKED_BYTES, max_entries: int = MAX_ENTRIES
) -> None:
    """Unpack the archive *file* into the empty *folder*. On failure the folder holds some part of it.

    Regular files and folders alone, with their executable bits, readable and writable for the owner.

    Args:
        file: The open archive.
        folder: An existing folder that nobody else writes to.
        max_bytes: Most bytes of all files together.
        max_entries: Most files and folders together, those that are only implied included.

    Raises:
        ArchiveError: It is damaged, encrypted, too large, or has a member that must not be unpacked.
        OSError: The disk is full, or another trouble that is not the archive's.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            folders, files = _plan(archive.infolist(), max_bytes, max_entries)
            for path in sorted(folders):  # a parent sorts before what is in it
                make_folder(os.path.join(folder, path), 0o755)
            for path, member in files.items():
                with archive.open(member) as source:
                    _write(source, os.path.join(folder, path), member)
    except _DAMAGED as error:
        raise ArchiveError(f"not a usable zip archive: {error}") from error
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ArchiveError(f"not a usable zip archive: {error.strerror}") from error


def _plan(
    members: Iterable[zipfile.ZipInfo], max_bytes: int, max_entries: int
) -> tuple[set[str], dict[str, zipfile.ZipInfo]]:
    """Judge every member; return the folders, and the files by their path below the target."""
    folders: set[str] = set()
    files: dict[str, zipfile.ZipInfo] = {}
    total_bytes = 0
    for member in members:
        path = _safe_path(member)
        if _is_folder(member):
            parent = path
        else:
            _check_content(member)
            if not path or path in files or path in folders:
                raise ArchiveError(f"two members are {member.filename!r}" if path else "a file without a name")
            files[path] = member
            parent = path.rpartition("/")[0]
        # Upwards only as far as folders are new: a deep folder with many files is walked once.
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
        total_bytes += member.file_size
        if total_bytes > max_bytes:
            raise ArchiveError(f"more than {max_bytes // (1024 * 1024)} MB unpacked")
        if len(folders) + len(files) > max_entries:
            raise ArchiveError(f"more than {max_entries} files and folders")
    both = sorted(folders & files.keys())
    if both:
        raise ArchiveError(f"{both[0]!r} is a file and a folder")
    return folders, files


def _safe_path(member: zipfile.ZipInfo) -> str:
    """Return the path of *member* below the target, without ``.`` and doubled slashes; empty for the target itself."""
    name = member.filename
    # zipfile cuts a name at NUL without a word, so that a.py\0.txt would become a.py.
    if "\0" in member.orig_filename or "\\" in name or name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise ArchiveError(f"a member has an absolute or misleading name: {member.orig_filename!r}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveError(f"a member climbs out of the archive: {name!r}")
    if len(parts) > _MAX_DEPTH:
        raise ArchiveError(f"folders nested more than {_MAX_DEPTH} deep: {name[:_MAX_DEPTH]!r}...")
    kind = stat.S_IFMT(_unix_mode(member))
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(f"a member is a link or a device: {name!r}")
    return "/".join(parts)


def _check_content(member: zipfile.ZipInfo) -> None:
    # bzip2 and lzma are refused for what they do to memory: zipfile unpacks a whole chunk of them at once, and
    # 64 KiB of bzip2 can be more than a gigabyte.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(f"compressed by another method than deflate: {member.filename!r}")


def _is_folder(member: zipfile.ZipInfo) -> bool:
    return member.filename.endswith("/") or stat.S_ISDIR(_unix_mode(member))


def _unix_mode(member: zipfile.ZipInfo) -> int:
    return member.external_attr >> 16


def _write(source: IO[bytes], path: str, member: zipfile.ZipInfo) -> None:
    with open(path, "xb") as target:
        copy_exactly(source, target, member.file_size)
        permissions = stat.S_IMODE(_unix_mode(member)) or 0o644  # archives of other systems carry none
        os.fchmod(target.fileno(), permissions & 0o755 | 0o600)


def copy_exactly(source: IO[bytes], target: IO[bytes], size_bytes: int) -> None:
    """Copy *source* to *target*, and stop as soon as it turns out longer than it was said to be.

    Raises:
        ArchiveError: *source* has more or less than *size_bytes*.
    """
    left_bytes = size_bytes
    while chunk := source.read(_CHUNK_BYTES):
        left_bytes -= len(chunk)
        if left_bytes < 0:
            break
        target.write(chunk)
    if left_bytes:
        raise ArchiveError("a member is not as long as the archive says")
