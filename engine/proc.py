"""What /proc tells about a process and everything below it, and how to end all of it.

Theory of operation
-------------------
An instance is a child subreaper: whatever it starts, however often it forks, however it renames itself or
leaves its session, stays below it in the tree as long as it lives. So a tree is killed from the leaves: stop
the root, that it starts nothing more and reaps nothing; kill what is below it until nothing is; then kill the
root. What forked in between comes to the zygote, which kills its strays before it reports the root's exit.

A descendant is signalled through a pidfd that was opened and then checked to be a descendant still, because
its number may have a new owner by the time we get to it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import psutil

MAX_ROUNDS = 200
"""A tree that forks without end was gone after 2 rounds; this many mean that something else is wrong."""


def children(pid: int) -> list[int]:
    """Return the processes that *pid* started or inherited; a listing that changes meanwhile may miss some."""
    return _threads_and_children(pid)[1]


def _threads_and_children(pid: int) -> tuple[int, list[int]]:
    """Return the number of threads of *pid* and its children, nothing when it is gone."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return 0, []
    found: list[int] = []
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as listing:
                found += map(int, listing.read().split())
        except FileNotFoundError:
            # The thread ended; or the kernel was built without CONFIG_PROC_CHILDREN.
            if os.path.exists(f"/proc/{pid}/task/{thread}"):
                return len(threads), _children_by_psutil(pid)
        except OSError:
            continue
    return len(threads), found


def descendants(pid: int) -> list[int]:
    """Return everything below *pid*, parents before their children."""
    return survey(pid)[1]


def survey(pid: int) -> tuple[int, list[int]]:
    """Return how many threads and processes *pid* and everything below it have, and what is below it."""
    tasks, found = _threads_and_children(pid)
    for each in found:  # grows while it is walked
        more_tasks, more = _threads_and_children(each)
        tasks += max(1, more_tasks)  # a zombie has no thread and is a process all the same
        found += more
    return tasks, found


def is_alive(pid: int) -> bool:
    """Whether *pid* runs: not gone, and not a zombie that waits to be reaped."""
    return _state(pid) not in ("", "Z", "X")


def parent(pid: int) -> int:
    """Return the parent of *pid*, or 0 when it is gone."""
    fields = _stat_fields(pid)
    return int(fields[1]) if fields else 0


def kill_tree(pid: int, pidfd: int) -> None:
    """Kill *pid*, which is a child subreaper, and everything below it. Returns before it is reaped."""
    with suppress(ProcessLookupError):
        below = children(pid)
        if below:
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
            for _ in range(MAX_ROUNDS):
                if not _kill_each(pid):
                    break
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _kill_each(root: int) -> int:
    """Kill everything alive below *root*; return how many there were."""
    killed = 0
    for pid, pidfd in _opened(descendants(root)):
        try:
            if is_alive(pid) and _is_below(pid, root):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                killed += 1
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)
    return killed


def _opened(pids: list[int]) -> Iterator[tuple[int, int]]:
    for pid in pids:
        with suppress(OSError):
            yield pid, os.pidfd_open(pid)


def _is_below(pid: int, root: int) -> bool:
    for _ in range(MAX_ROUNDS):
        if pid <= 1:
            return False
        pid = parent(pid)
        if pid == root:
            return True
    return False


def _stat_fields(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the state on; a name may hold spaces and parentheses."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    fields = _stat_fields(pid)
    return fields[0].decode() if fields else ""


def _children_by_psutil(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []
