"""What /proc tells about a process and everything below it.

An instance is a child subreaper: whatever it starts, however often it forks, however it renames itself or leaves
its session, stays below it in the tree as long as it lives.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Final

_KEPT_LISTINGS: Final = 8
"""Of so many threads the listing of children stays open; an instance at rest has two."""

_ONE_READ_BYTES: Final = 4096
"""The kernel gives /proc a page at a time."""

_SHORT_BYTES: Final = _ONE_READ_BYTES - 64
"""A read that gave less than this was the whole of it: no number is longer than the rest of the page."""


class Threads:
    """The threads of one process and their children, by descriptors that stay open. Not thread-safe.

    That is what a look at an instance costs: 4 microseconds instead of 60. And looking up names below /proc/PID/task
    leaves entries in the kernel's cache that have to go when a thread ends. On one processor, the parent that reaps
    the process then waits for the thread that ends, spinning until the next tick: 4 ms (HZ=250), seen at every second
    kill of a busy loop. Entries that are in use do not have to go.

    Raises:
        OSError: There is no such process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._folder = os.open(f"/proc/{pid}/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._listed = 0
        self._listings: list[tuple[str, int]] = []

    def count(self) -> int:
        """Return how many threads there are, a main thread that ended before the others included; 0 when it is gone."""
        return os.fstat(self._folder).st_nlink - 2  # the kernel counts them like folders in this one

    def look(self) -> tuple[int, list[int]] | None:
        """Return how many threads there are, and the children; None when asking takes a longer walk, see ``walk``."""
        count = self.count()
        if count > _KEPT_LISTINGS:
            return None
        if count != self._listed and not self._open_listings():
            return None
        try:
            return count, self._children()
        except OSError:  # a thread ended, and another began
            self._listed = 0
            return None

    def walk(self, tree: Tree) -> Iterator[None]:
        """Fill *tree* like ``walk``; at once, and without a pause, where there are no children."""
        found = self.look()
        if found is None:
            return walk(self.pid, tree)
        if not found[1]:
            tree.tasks = found[0]
            return iter(())
        return walk_below(found[1], found[0], tree)

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._folder)
        self._close_listings()

    def _children(self) -> list[int]:
        found: list[int] = []
        for thread, fd in self._listings:
            data = os.pread(fd, _ONE_READ_BYTES, 0)
            if data:
                found += map(int, (data if len(data) < _SHORT_BYTES else _read_whole(fd)).split())
            else:
                # A thread that ended reads as one without children. Another one may have begun since, so that there
                # are as many as before: 400 MB that it started were not seen under a limit of 128.
                os.stat(thread, dir_fd=self._folder)
        return found

    def _open_listings(self) -> bool:
        self._close_listings()
        try:
            for thread in os.listdir(f"/proc/{self.pid}/task")[: _KEPT_LISTINGS + 1]:
                path = f"/proc/{self.pid}/task/{thread}/children"
                self._listings.append((thread, os.open(path, os.O_RDONLY | os.O_CLOEXEC)))
        except OSError:  # ended meanwhile; or the kernel was built without CONFIG_PROC_CHILDREN
            self._close_listings()
        self._listed = len(self._listings)
        return self._listed > 0

    def _close_listings(self) -> None:
        while self._listings:
            os.close(self._listings.pop()[1])


def _read_whole(fd: int) -> bytes:
    parts = []
    at = 0
    while data := os.pread(fd, _ONE_READ_BYTES, at):
        parts.append(data)
        at += len(data)
    return b"".join(parts)


@dataclass
class Tree:
    """What is known of a process and everything below it, while and after it is walked.

    Attributes:
        tasks: How many threads and processes there are.
        below: The processes, without the root.
    """

    tasks: int = 0
    below: list[int] = field(default_factory=list)


def walk(pid: int, tree: Tree) -> Iterator[None]:
    """Fill *tree* with *pid* and everything below it, pausing every few microseconds for whoever has a clock."""
    children: list[int] = []
    threads = yield from _visit(pid, children)
    yield from walk_below(children, threads, tree)


def walk_below(children: list[int], threads: int, tree: Tree) -> Iterator[None]:
    """Do the same for a root whose *children* and number of *threads* are known."""
    tree.tasks = threads
    tree.below += children
    for each in tree.below:  # grows while it is walked
        more = yield from _visit(each, tree.below)
        tree.tasks += max(1, more)  # a zombie has no thread and is a process all the same


def _visit(pid: int, children: list[int]) -> Generator[None, None, int]:
    """Add the children of *pid* to *children*, and return the number of its threads; 0 when it is gone.

    A listing of children that changes meanwhile may miss some.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return 0
    found: list[int] = []
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb", 0) as listing:
                found += map(int, listing.readall().split())
        except FileNotFoundError:
            # The thread ended; or the kernel was built without CONFIG_PROC_CHILDREN.
            if os.path.exists(f"/proc/{pid}/task/{thread}"):
                found = _children_by_psutil(pid)
                break
        except OSError:
            continue
        yield
    children += found
    return len(threads)


def is_stopped(pid: int) -> bool:
    """Whether nothing of *pid* runs: all its threads are stopped, or it has ended."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return True
    return all(_state(f"{pid}/task/{thread}") in ("T", "t", "Z", "X", "") for thread in threads)


def is_alive(pid: int) -> bool:
    """Whether *pid* runs: not gone, and not a zombie that waits to be reaped."""
    return _state(pid) not in ("", "Z", "X")


def parent(pid: int) -> int:
    """Return the parent of *pid*, or 0 when it is gone."""
    fields = _stat_fields(pid)
    return int(fields[1]) if fields else 0


def _stat_fields(pid: int | str) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the state on; a name may hold spaces and parentheses."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _state(pid: int | str) -> str:
    fields = _stat_fields(pid)
    return fields[0].decode() if fields else ""


def _children_by_psutil(pid: int) -> list[int]:
    import psutil  # noqa: PLC0415  # 17 ms of import, a third of the engine's, for kernels that few people have

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []
