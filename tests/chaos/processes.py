"""Processes by a name that lasts: their number and when they started. How one of ours is struck, and never another.

Control groups of ours as well, found without the engine's own code for them.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict
from contextlib import suppress
from typing import Final, NamedTuple

_PAUSE_S: Final = 0.005


class Identity(NamedTuple):
    """One process: a number alone may have a new owner by the time it is looked at."""

    pid: int
    start_time: int

    def is_there(self) -> bool:
        """Whether it runs, or waits to be reaped."""
        fields = _stat(self.pid)
        return bool(fields) and int(fields[19]) == self.start_time


class Strikes:
    """Signals sent from outside, and which of them were found in a result. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: defaultdict[Identity, list[str]] = defaultdict(list)
        self._unseen: list[str] = []

    @property
    def count(self) -> int:
        """How many were sent."""
        with self._lock:
            return sum(map(len, self._sent.values()))

    def strike(self, target: Identity, signals: tuple[str, ...]) -> bool:
        """Send *signals* to an instance that reported itself as *target*; False when it is gone.

        Through a pidfd that was opened first and checked then: it is that very process, and its parent is a child
        of ours. Nothing else on the machine can be hit.
        """
        try:
            pidfd = os.pidfd_open(target.pid)
        except ProcessLookupError:
            return False
        try:
            if not target.is_there() or _parent(_parent(target.pid)) != os.getpid():
                return False
            for name in signals:
                with self._lock:  # before it is sent: its result may be judged before we go on here
                    self._sent[target].append(name)
                    self._unseen.append(name)
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.Signals[name])
                if name != signals[-1]:
                    time.sleep(_PAUSE_S)
        finally:
            os.close(pidfd)
        return True

    def explain(self, name: str, target: Identity | None) -> bool:
        """Whether signal *name* was sent to *target*; of one that is not known, whether one is left that hit somebody.

        An invocation that ended before its first line cannot tell who served it. Each signal explains one of those.
        """
        with self._lock:
            if target is not None:
                return name in self._sent[target]
            if name not in self._unseen:
                return False
            self._unseen.remove(name)
            return True


def own_groups() -> list[str]:
    """Return the control groups that engines of this process made and did not remove, in every mounted tree."""
    with open("/proc/self/cgroup", encoding="utf-8") as membership:
        places = {line.rstrip("\n").split(":", 2)[2] for line in membership}
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        points = [fields[1] for fields in map(str.split, mounts) if fields[2] in ("cgroup", "cgroup2")]
    bases = [point + place for point in points for place in places] + [os.environ.get("FGENGINE_CGROUP", "")]
    found = []
    for base in bases:
        with suppress(OSError):
            found += [f"{base}/{name}" for name in os.listdir(base) if name.startswith(f"fgengine-{os.getpid()}-")]
    return found


def _stat(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the state on."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0
