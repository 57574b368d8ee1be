"""Whose a control group is, told by its name; and the end of those whose owner is dead.

No lock can be held on that filesystem. So the name of an engine's group has its process number, its start time, and
the namespaces that give these two a meaning. An owner that we could not see, and a name that we do not know, are left
alone.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Final

from engine import proc
from engine.cgroups import files
from engine.clock import NS_PER_S, monotonic_ns

_NAME: Final = re.compile(r"fgengine-(?P<pid>\d+)-(?P<start>\d+)-(?P<namespaces>\d+\.\d+)-[0-9a-f]{8}")
_SWEEP_WITHIN_NS: Final = NS_PER_S
"""For each dead engine. Its zygotes have killed everything long before; this is for when they were killed too."""


def sweep(base: str) -> None:
    """Kill and remove what dead engines of this user have left in the group *base*; leave all else alone.

    Raises:
        OSError: There is no such group.
    """
    for name in os.listdir(base):
        path = os.path.join(base, name)
        with suppress(OSError):
            if _is_abandoned(name) and os.lstat(path).st_uid == os.geteuid():
                files.destroy(path, monotonic_ns() + _SWEEP_WITHIN_NS)


def own_name() -> str:
    pid = os.getpid()
    return f"fgengine-{pid}-{_start_ticks(pid)}-{_namespaces()}-{os.urandom(4).hex()}"


def _namespaces() -> str:
    """Name the namespaces that a process number and a start time are told in: in others they mean somebody else."""
    numbers = []
    for name in ("pid", "time"):
        try:
            numbers.append(os.stat(f"/proc/self/ns/{name}").st_ino)
        except OSError:  # there are none for time before 5.6
            numbers.append(0)
    return "{}.{}".format(*numbers)


def _start_ticks(pid: int) -> int | None:
    """Return when *pid* started, in clock ticks since the boot; None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return None


def _is_abandoned(name: str) -> bool:
    """Whether *name* is that of an engine's group, and its owner is known to have ended."""
    match = _NAME.fullmatch(name)
    if match is None or match["namespaces"] != _namespaces():
        return False
    pid = int(match["pid"])
    if _start_ticks(pid) != int(match["start"]):
        return True
    # A main thread that ended before the others looks like a zombie.
    return not proc.is_alive(pid) and files.count_threads(pid) <= 1
