"""What can be done to a control group's directory: read and write its files, kill what is in it, remove it.

Theory of operation
-------------------
A group is removed only when it is empty, so its processes are waited for by their pidfds. An ended process has left
its group before anybody is told, and a zombie is in none; a kernel that gets that wrong for a moment says EBUSY, and
tells on version 2 when it is over (cgroup.events). Nothing here sleeps and tries again.

A process is signalled through a pidfd that was opened and then found in the group still, because its number may
have had a new owner by the time it was opened.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from contextlib import ExitStack, suppress

from engine.clock import monotonic_ns
from engine.folders import make_folder
from engine.readiness import is_ready

MAX_KILL_ROUNDS = 200
"""A tree that forks without end was gone after 2 rounds; this many mean that something else is wrong."""


def read(group: str, name: str) -> str:
    """Return the text of the file *name* of *group*.

    Raises:
        OSError: It cannot be read.
    """
    with open(os.path.join(group, name), encoding="utf-8") as file:
        return file.read()


def write(group: str, name: str, text: str) -> None:
    """Write *text* to the file *name* of *group* in one piece.

    Raises:
        OSError: It is not there, or the kernel refused; with the path.
    """
    path = os.path.join(group, name)
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(fd)


def write_if_there(group: str, name: str, text: str) -> bool:
    """Write like ``write``; return whether the kernel has such a file."""
    try:
        write(group, name, text)
    except FileNotFoundError:
        return False
    return True


def make(group: str) -> None:
    """Make the group, empty.

    Raises:
        OSError: The kernel refused.
    """
    make_folder(group, 0o755)


def members(*groups: str) -> frozenset[int]:
    """Return the processes in *groups*, without those in groups below; none of a group that is gone.

    A process that our pid namespace does not show is 0.
    """
    found: set[int] = set()
    for group in groups:
        with suppress(OSError):
            found.update(map(int, read(group, "cgroup.procs").split()))
    return frozenset(found)


def count_threads(pid: int) -> int:
    """Return how many threads the process has, 0 when it is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def kill(*groups: str) -> None:
    """Send SIGKILL to all that is in *groups*, and to what is forked meanwhile. Returns before it is gone.

    With the pids controller nothing can be forked in a killed group any more.
    """
    for group in groups:
        with suppress(OSError):
            write_if_there(group, "cgroup.kill", "1")
        with suppress(OSError):
            write_if_there(group, "pids.max", "0")
    signalled: set[int] = set()
    for _ in range(MAX_KILL_ROUNDS):
        # What was forked while its group was listed is found in the next round, or its child is.
        found = members(*groups) - signalled
        if not found:
            return
        signalled |= _kill_members(groups, found)


def _kill_members(groups: tuple[str, ...], pids: frozenset[int]) -> set[int]:
    """Send SIGKILL to each of *pids* that is in *groups* still; return those for which no more can be done."""
    with ExitStack() as closing:
        pidfds = {}
        refused = set()
        for pid in pids:
            try:
                pidfds[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            except OSError:  # one that our pid namespace does not show
                refused.add(pid)
                continue
            closing.callback(os.close, pidfds[pid])
        present = members(*groups) & pidfds.keys()
        for pid in present:
            with suppress(OSError):
                signal.pidfd_send_signal(pidfds[pid], signal.SIGKILL)
        return refused | present


def wait_empty(groups: tuple[str, ...], deadline_ns: int) -> bool:
    """Wait until no process is in *groups*, zombies not counted; return whether that came true by the deadline."""
    while True:
        left = members(*groups)
        if not left:
            return True
        if not all(_wait_end(pid, deadline_ns) for pid in left):
            return False


def _wait_end(pid: int, deadline_ns: int) -> bool:
    """Wait until the process has ended; return whether it has."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return monotonic_ns() < deadline_ns
    except OSError:  # one that our pid namespace does not show
        return False
    try:
        return is_ready(pidfd, select.POLLIN, deadline_ns - monotonic_ns())
    finally:
        os.close(pidfd)


def remove(groups: tuple[str, ...], deadline_ns: int) -> bool:
    """Remove empty groups, each if it can be; return whether all are gone."""
    left = [group for group in groups if not _remove(group, deadline_ns)]
    return not left


def _remove(group: str, deadline_ns: int) -> bool:
    with suppress(OSError):
        # Page cache that is charged to a removed group keeps it in the kernel's memory: of 20 groups that had
        # written 50 MB each all 20 stayed, with this 3. No more is there to wait for on version 2.
        write_if_there(group, "memory.force_empty", "0")
    try:
        os.rmdir(group)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY or not _wait_unpopulated(group, deadline_ns):
            return False
        with suppress(OSError):
            os.rmdir(group)
        return not os.path.exists(group)
    return True


def _wait_unpopulated(group: str, deadline_ns: int) -> bool:
    """Wait for the end of processes that are listed no more but are not gone, on version 2."""
    try:
        fd = os.open(os.path.join(group, "cgroup.events"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # version 1
        return False
    try:
        # Each read arms the descriptor: a change after it makes it ready (cgroups(7)).
        while b"populated 0" not in os.pread(fd, 4096, 0):
            if not is_ready(fd, select.POLLPRI, deadline_ns - monotonic_ns()):
                return False
        return True
    finally:
        os.close(fd)


def destroy(group: str, deadline_ns: int) -> bool:
    """Kill all that is in *group* and below it, and remove it; return whether it is gone."""
    groups = tuple(folder for folder, _, _ in os.walk(group, topdown=False))
    kill(*reversed(groups))  # the top first: on version 2 that kills what is below it in one go
    wait_empty(groups, deadline_ns)
    return remove(groups, deadline_ns)
