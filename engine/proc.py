"""What /proc tells about a process and everything below it.

An instance is a child subreaper: whatever it starts, however often it forks, however it renames itself or leaves
its session, stays below it in the tree as long as it lives.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress


def _threads_and_children(pid: int) -> tuple[int, list[int]]:
    """Return the number of threads of *pid* and its children, nothing when it is gone.

    A listing of children that changes meanwhile may miss some.
    """
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


def kill_below(root: int) -> None:
    """Send SIGKILL to everything below *root* that is there now.

    Through a pidfd, and only to what still has its parent in the tree: a number may have a new owner by now.
    """
    below = survey(root)[1]
    tree = {root, *below}
    for pid in below:
        with suppress(OSError):
            pidfd = os.pidfd_open(pid)
            try:
                if parent(pid) in tree:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)


def parent(pid: int) -> int:
    """Return the parent of *pid*, or 0 when it is gone."""
    fields = _stat_fields(pid)
    return int(fields[1]) if fields else 0


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
    import psutil  # noqa: PLC0415  # 17 ms of import, a third of the engine's, for kernels that few people have

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []
