"""Where this process is among the machine's control groups (cgroups(7)), read from /proc.

The kernel has two generations of one interface. Version 2 is one tree for all controllers; version 1 has a tree
for each controller, or for several together. A machine may have both at once: each controller is then in one of
them. A tree can be mounted more than once, in part, and below a container's own root, so a directory is taken for
our group only when it lists this very process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.cgroups import files

V1: Final = 1
V2: Final = 2

_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
"""How mountinfo writes blanks, tabs, line ends and backslashes in a path (proc(5))."""


@dataclass(frozen=True)
class Tree:
    """One mounted tree of groups.

    Attributes:
        version: V1 or V2.
        controllers: Those bound to a tree of version 1; ``name=...`` for one that has none. Empty for version 2,
            where each group's own ``cgroup.controllers`` tells.
        own: Directory of the group that this process is in.
    """

    version: int
    controllers: frozenset[str]
    own: str


def trees() -> list[Tree]:
    """Return the trees in which this process can see its own group; none where there is no /proc."""
    try:
        with open("/proc/self/cgroup", "rb") as membership, open("/proc/self/mountinfo", "rb") as mountinfo:
            found = parse(membership.read(), mountinfo.read())
    except OSError:
        return []
    return [each for each in found if os.getpid() in files.members(each.own)]


def parse(membership: bytes, mountinfo: bytes) -> list[Tree]:
    """Join *membership* (/proc/PID/cgroup) with *mountinfo* (/proc/PID/mountinfo).

    A tree that is mounted twice comes twice. One that is not mounted, or only in a part that our group is not in,
    does not come.
    """
    mounts = list(_mounts(mountinfo))
    found = []
    for line in membership.splitlines():
        _, names, group = line.split(b":", 2)  # a group's name may have colons
        version = V1 if names else V2
        controllers = frozenset(os.fsdecode(names).split(",")) - {""}
        for mount in mounts:
            below = _path_below(os.fsdecode(group), mount.root)
            # The options of a mount of version 1 name its controllers, and other things besides.
            if version == mount.version and controllers <= mount.options and below is not None:
                found.append(Tree(version, controllers, mount.point + below))
    return found


@dataclass(frozen=True)
class _Mount:
    version: int
    root: str
    point: str
    options: frozenset[str]


def _mounts(mountinfo: bytes) -> Iterator[_Mount]:
    for line in mountinfo.splitlines():
        # "32 31 0:29 /root /point rw,relatime shared:1 - cgroup source rw,memory": there may be any number of
        # fields like shared:1. A blank within a field is an octal escape.
        place, _, kind = line.partition(b" - ")
        fields, filesystem = place.split(b" "), kind.split(b" ")
        version = {b"cgroup": V1, b"cgroup2": V2}.get(filesystem[0])
        if version is not None:
            options = frozenset(os.fsdecode(filesystem[-1]).split(","))
            yield _Mount(version, _unescaped(fields[3]), _unescaped(fields[4]), options)


def _path_below(group: str, mount_root: str) -> str | None:
    """Return what follows the mount point on the way to *group*, or None when the mount does not show it.

    A group outside of our cgroup namespace is called ``/../other``: how far up its mount goes is not told.
    """
    if group.startswith("/.."):
        return None
    if mount_root == "/":
        return "" if group == "/" else group
    if group == mount_root or group.startswith(mount_root + "/"):
        return group[len(mount_root) :]
    return None


def _unescaped(path: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), path))
