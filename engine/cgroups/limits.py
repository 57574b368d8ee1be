"""The control group of one instance: its limits, and what the kernel tells about them.

What a group cannot do. It bounds growth: pages charged before a process was added stay charged where they were. It
counts page cache and files in memory too, though the cache is taken back before anything is killed. A process with
the engine's own user can leave it. So the verdict on an instance's memory is the engine's own (``engine/memory.py``),
the kernel's limit is for what is faster than any sample, and the process tree is what is killed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from engine.cgroups import files
from engine.cgroups.mounts import V1, V2
from engine.clock import NS_PER_S, monotonic_ns

REMOVE_WITHIN_NS: Final = 5 * NS_PER_S
"""What was sent SIGKILL is gone within milliseconds, unless it waits for a device: then nothing helps."""


@dataclass(frozen=True)
class Places:
    """The directories of one group, in the trees that its controllers are in; some may be the same.

    Attributes:
        version: Of the tree that limits memory.
        memory: Limits memory.
        pids: Limits tasks; None when nothing does.
        killer: Kills at once; None when nothing does.
    """

    version: int
    memory: str
    pids: str | None
    killer: str | None

    def directories(self) -> tuple[str, ...]:
        """Return each directory once, the one that kills first."""
        return tuple(dict.fromkeys(each for each in (self.killer, self.pids, self.memory) if each is not None))


@dataclass(frozen=True)
class _Files:
    """What the two versions call the same things."""

    limit: str
    swap: str
    events: str


_FILES: Final = {
    V1: _Files(
        limit="memory.limit_in_bytes",
        swap="memory.memsw.limit_in_bytes",
        events="memory.oom_control",
    ),
    V2: _Files(limit="memory.max", swap="memory.swap.max", events="memory.events"),
}


class Group:
    """The limits of one instance. Made by ``Controller.create``; used by one thread at a time.

    Attributes:
        counts_swap: Whether what is swapped out is limited too.
    """

    def __init__(self, places: Places, limit_bytes: int, max_tasks: int | None) -> None:
        """Set the limits of directories that were just made."""
        self._version = places.version
        self._files = _FILES[places.version]
        self._memory = places.memory
        self._pids = places.pids
        self._events_fd: int | None = None
        self._directories = places.directories()
        self._limit_bytes = limit_bytes
        self.counts_swap = self._limit_memory(limit_bytes)
        self._limit_tasks(max_tasks)

    def change_limits(self, limit_bytes: int, max_tasks: int | None) -> None:
        """Set other limits than it was made with.

        Raises:
            OSError: The kernel refused; some of them may be set then.
        """
        names = [self._files.limit]
        if self._version == V1 and self.counts_swap:
            # Memory and swap together must never be below memory alone, on the way neither.
            names.insert(0 if limit_bytes > self._limit_bytes else 1, self._files.swap)
        for name in names:
            files.write(self._memory, name, str(limit_bytes))
        self._limit_bytes = limit_bytes
        self._limit_tasks(max_tasks)

    def _limit_tasks(self, max_tasks: int | None) -> None:
        if self._pids is not None:
            files.write(self._pids, "pids.max", "max" if max_tasks is None else str(max_tasks))

    def _limit_memory(self, limit_bytes: int) -> bool:
        """Return whether swap is limited too."""
        files.write(self._memory, self._files.limit, str(limit_bytes))
        # Version 1 limits the sum of memory and swap, version 2 swap alone.
        no_swap = str(limit_bytes) if self._version == V1 else "0"
        counts_swap = files.write_if_there(self._memory, self._files.swap, no_swap)
        if self._version == V2:
            files.write_if_there(self._memory, "memory.oom.group", "1")
            return counts_swap
        if not counts_swap:
            files.write_if_there(self._memory, "memory.swappiness", "0")  # it would be swapped out at its limit
        if "oom_kill_disable 1" in files.read(self._memory, self._files.events):
            files.write(self._memory, self._files.events, "0")  # inherited: it would be halted at its limit
        return counts_swap

    def add(self, pid: int) -> None:
        """Put *pid*, with all its threads, into the group; what it forks from now on is born there.

        The first move after a pause waits for a grace period of the kernel, 9 to 15 ms where it was measured; the
        other directories, and moves right behind it, take 0.05 ms each.

        Raises:
            OSError: The process is gone, or the kernel refused; it may be in some of the directories then.
        """
        for directory in self._directories:
            files.write(directory, "cgroup.procs", str(pid))

    def oom_kills(self) -> int:
        """Return how many processes of this group the kernel has killed for its memory.

        It counts before it kills: who finds a process dead finds the count. On version 1 it kills no
        more than it must and the others are for the engine; on version 2 it kills all.
        """
        try:
            # Open from the first time on: 1 microsecond instead of 14, on the way to every result.
            if self._events_fd is None:
                self._events_fd = os.open(os.path.join(self._memory, self._files.events), os.O_RDONLY | os.O_CLOEXEC)
            words = os.pread(self._events_fd, 4096, 0).split()
        except OSError:
            return 0
        return int(words[words.index(b"oom_kill") + 1]) if b"oom_kill" in words else 0

    def remove(self, timeout_ns: int = REMOVE_WITHIN_NS) -> bool:
        """Wait until the group is empty, and remove it. Does not kill.

        Not for the way to a result: of a function that has written 50 MB to files it took up to 0.5 s.

        Returns:
            Whether it is gone. If not, ``Controller.close`` kills and removes it.
        """
        self.forget()
        deadline_ns = monotonic_ns() + timeout_ns
        if not files.wait_empty(self._directories, deadline_ns):
            return False
        return files.remove(self._directories, deadline_ns)

    def forget(self) -> None:
        """Close our descriptor and touch nothing else: for a forked copy of the host."""
        if self._events_fd is not None:
            os.close(self._events_fd)
        self._events_fd = None
