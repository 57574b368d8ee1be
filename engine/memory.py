"""Used memory of an instance and everything below it, read from the kernel.

What is counted: the peak of resident memory since the invocation began. For the instance itself it is exact:
writing 5 to /proc/PID/clear_refs sets the kernel's high-water mark back to what is resident now, and VmHWM tells
the mark (proc(5)), so a peak of 1 ms is not missed. Not ru_maxrss: Linux carries the spawning process's peak
across exec, so that under a 400 MB engine every 13 MB instance would report 400 MB.

Processes that the instance started are counted while they run, by sampling, with the proportional share of what
they have in common (PSS), so that pages shared after a fork count once. Not counted: page cache, files in /tmp,
swapped pages, memory of processes that came and went between two samples.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from engine.faults import Faults

BYTES_PER_MB: Final = 1024 * 1024

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

_SHARED_WITH_ZYGOTE_AT_MOST_BYTES: Final = 6 * BYTES_PER_MB


class MemoryMeter:
    """Measures one instance: reset at the start of an invocation, sampled while it runs, read at its end."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._clear_refs = os.open(f"/proc/{pid}/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        self._statm = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._status = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
        self._faults = Faults(pid)
        self._resting_bytes = 0  # resident when the mark was last read: what the next mark begins with
        self._sampled_peak_bytes = 0
        self._last_peak_bytes = 0
        self._shared_above_bytes: int | None = None
        self.last_used_bytes = 0

    def start(self) -> None:
        """Forget the peak so far: what follows is a new invocation."""
        self._sampled_peak_bytes = 0
        try:  # noqa: SIM105  # suppress() is three calls of Python code
            os.pwrite(self._clear_refs, b"5", 0)
        except OSError:
            pass  # gone already: its exit is found by who waits for it

    def sample(self, below: list[int]) -> int:
        """Return the bytes that the instance and its descendants *below* use now, and remember them for the peak."""
        used = self.resident_bytes()
        if below:
            used = max(used, self._tree_bytes(below))
        self.last_used_bytes = used
        self._sampled_peak_bytes = max(self._sampled_peak_bytes, used)
        return used

    def peak_bytes(self) -> int:
        """Return the peak since start(); the last one known when the instance is gone."""
        with suppress(OSError, ValueError, IndexError):
            status = os.pread(self._status, 4096, 0)
            self._last_peak_bytes = _kilobytes(status, b"VmHWM:") * 1024
            self._resting_bytes = _kilobytes(status, b"VmRSS:") * 1024
            return max(self._last_peak_bytes, self._sampled_peak_bytes)
        # A zombie has no VmHWM.
        return self._sampled_peak_bytes or self._last_peak_bytes

    def short_peak_bytes(self) -> int:
        """Return the same for a short invocation without samples, at half the price where nothing grew or shrank."""
        if self._faults.has_news():  # asked before the mark is read: what comes in between is news the next time
            return self.peak_bytes()
        return self._resting_bytes

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in (self._clear_refs, self._statm, self._status):
            os.close(fd)
        self._faults.close()

    def resident_bytes(self) -> int:
        """Return the resident memory of the instance alone, 0 when it is gone."""
        try:
            return int(os.pread(self._statm, 256, 0).split(b" ", 2)[1]) * _PAGE_BYTES
        except (OSError, IndexError, ValueError):
            return 0

    def _tree_bytes(self, below: list[int]) -> int:
        """Return the tree's proportional memory, and of what the root shares with its zygote the full size."""
        root_rss, root_pss = _rollup(self._pid)
        if self._shared_above_bytes is None:
            # Taken when the first descendant is seen. What a fresh child shares with the root is halved in the
            # root's PSS as well; an upper bound keeps that from counting as shared with the zygote.
            self._shared_above_bytes = min(root_rss - root_pss, _SHARED_WITH_ZYGOTE_AT_MOST_BYTES)
        return root_pss + self._shared_above_bytes + sum(_rollup(pid)[1] for pid in below)


def _kilobytes(status: bytes, name: bytes) -> int:
    at = status.index(name) + len(name)
    return int(status[at : status.index(b"kB", at)])


def _rollup(pid: int) -> tuple[int, int]:
    """Return (RSS, PSS) of *pid* in bytes, zeros when it is gone."""
    rss = pss = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:
            for line in rollup:
                if line.startswith(b"Rss:"):
                    rss = int(line.split()[1]) * 1024
                elif line.startswith(b"Pss:"):
                    pss = int(line.split()[1]) * 1024
                    break
    except OSError:
        pass
    return rss, pss
