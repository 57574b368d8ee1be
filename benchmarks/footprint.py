"""What a tree of processes holds and uses, as the kernel accounts it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


def descendants(pid: int) -> list[int]:
    """Everything alive below *pid*, in no order."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = parent_of((entry / "stat").read_text(errors="replace"))
            except OSError:
                continue  # ended between the two looks
            children.setdefault(parent, []).append(int(entry.name))
    found, rest = [], [pid]
    while rest:
        below = children.get(rest.pop(), [])
        found += below
        rest += below
    return found


def parent_of(stat: str) -> int:
    """The parent's pid in the text of /proc/PID/stat; the name before it may hold blanks and brackets."""
    return int(stat.rpartition(")")[2].split()[1])


def is_zombie(pid: int) -> bool:
    """Whether *pid* has ended, and nobody has collected it yet; also true when there is no such process."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def pss_mb(pid: int) -> float:
    """Memory of *pid*, each shared page divided by those who share it, in MB of 1024 KiB."""
    return parse_pss_kb((_PROC / str(pid) / "smaps_rollup").read_text()) / 1024


def parse_pss_kb(rollup: str) -> int:
    """The line ``Pss:`` of /proc/PID/smaps_rollup, in KiB."""
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))


def cpu_time_ns(pid: int) -> int:
    """CPU time that all threads of *pid* have used.

    From schedstat, in nanoseconds: the clock ticks of /proc/PID/stat are 10 ms, and would lose the
    microseconds that each of a thousand idle processes may use.
    """
    files = (_PROC / str(pid) / "task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files)
