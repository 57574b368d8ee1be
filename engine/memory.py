"""Used memory of an instance and everything below it, read from the kernel.

What is counted: the peak of resident memory since the invocation began. For the instance itself it is exact:
writing 5 to /proc/PID/clear_refs sets the kernel's high-water mark back to what is resident now, and VmHWM tells
the mark (proc(5)), so a peak of 1 ms is not missed. Not ru_maxrss: Linux carries the spawning process's peak
across exec, so that under a 400 MB engine every 13 MB instance would report 400 MB.

Processes that the instance started are counted while they run, by sampling, so that pages shared after a fork count
once. There are two sums, neither of which is above the truth by much: all pages of the instance and those that each of
the others has for itself; and all shares (PSS), with an estimate of what belongs to the zygote. The larger one counts.
The first misses what children share with each other alone, the second what other instances share with this one. Not
counted: page cache, files in /tmp, swapped pages, memory of processes that came and went between two samples.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

from engine.faults import Faults

BYTES_PER_MB: Final = 1024 * 1024

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

_SHARED_WITH_ZYGOTE_AT_MOST_BYTES: Final = 6 * BYTES_PER_MB

_ESTIMATED_PROCESSES: Final = 32


class MemoryMeter:
    """Measures one instance: reset at the start of an invocation, sampled while it runs, read at its end.

    Raises:
        OSError: There is no such process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        with ExitStack() as on_failure:
            self._clear_refs = os.open(f"/proc/{pid}/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
            on_failure.callback(os.close, self._clear_refs)
            self._statm = _open_for_reading(f"/proc/{pid}/statm")
            on_failure.callback(os.close, self._statm)
            self._status = _open_for_reading(f"/proc/{pid}/status")
            on_failure.callback(os.close, self._status)
            self._faults = Faults(pid)
            on_failure.pop_all()
        self._resting_bytes = 0  # resident when the mark was last read: what the next mark begins with
        self._sampled_peak_bytes = 0
        self._last_peak_bytes = 0
        self.last_used_bytes = 0
        self._last_sum_bytes = 0  # of the whole tree, when the processes had what is noted here
        self._last_root_bytes = 0
        self._last_anonymous_bytes: dict[int, int] = {}

    def start(self) -> None:
        """Forget the peak so far: what follows is a new invocation."""
        self._sampled_peak_bytes = 0
        try:  # noqa: SIM105  # suppress() is three calls of Python code
            os.pwrite(self._clear_refs, b"5", 0)
        except OSError:
            pass  # gone already: its exit is found by who waits for it

    def sample(self, below: list[int]) -> int:
        """Return the bytes that the instance and its descendants *below* use now, and remember them for the peak."""
        used = 0
        for sum_bytes in self.sample_steps(below):
            used = sum_bytes
        self.remember(used)
        return used

    def sample_steps(self, below: list[int]) -> Iterator[int]:
        """Give the same sum after each process, the last one being the whole, and leave it to others to remember it."""
        used = self.resident_bytes()
        yield used
        if not below:
            return
        root = _rollup(self._pid)
        own = max(used, root.rss)  # the root's pages, and of the others' what nobody shares
        shares = root.pss
        anonymous_bytes = {}
        for pid in below:
            found = _rollup(pid)
            own += found.private
            shares += found.pss
            anonymous_bytes[pid] = found.anonymous
            yield own
        outside = min(root.rss - root.pss, _SHARED_WITH_ZYGOTE_AT_MOST_BYTES) // (1 + len(below))
        if shares + outside > own and not self._sharing_changed(root):
            own = shares + outside
        self._last_sum_bytes, self._last_root_bytes = own, max(used, root.rss)
        self._last_anonymous_bytes = anonymous_bytes
        yield own

    def forget_tree(self) -> None:
        """Take note that there is nobody below."""
        self._last_anonymous_bytes = {}

    def estimate(self) -> int:
        """Return the last sum of the tree and what its processes have grown since: one short read for each.

        Not above the truth: new processes are not in it, and one that ended takes with it more than it was counted for.
        It does not count twice what moved from one process to another while the sum was made. The instance alone where
        there is no tree, or one of more processes than are read in half a millisecond.
        """
        resident = self.resident_bytes()
        last = self._last_anonymous_bytes
        if not last or len(last) > _ESTIMATED_PROCESSES:
            return resident
        grown = sum(_anonymous_bytes(pid) - before for pid, before in last.items())
        return max(resident, self._last_sum_bytes + resident - self._last_root_bytes + grown)

    def _sharing_changed(self, root: _Rollup) -> bool:
        """Whether processes came or went while the shares were added up, each counted by another number of sharers.

        When four children that share 100 MB with their parent end one after the other, their shares are read as 20, 25,
        33 and 50 MB.
        """
        return abs(_rollup(self._pid).pss - root.pss) > BYTES_PER_MB

    def remember(self, used: int) -> None:
        """Count *used* for the peak."""
        self.last_used_bytes = used
        self._sampled_peak_bytes = max(self._sampled_peak_bytes, used)

    def peak_bytes(self) -> int:
        """Return the peak since start(); the last one known when the instance is gone."""
        marked = self._marked_bytes()
        if marked is None and self._follow():
            marked = self._marked_bytes()
        if marked is not None:
            self._last_peak_bytes = marked
            self._sampled_peak_bytes = max(self._sampled_peak_bytes, marked)
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
        resident = _resident_bytes(self._statm)
        if resident == 0 and self._follow():
            resident = _resident_bytes(self._statm)
        return resident

    def _marked_bytes(self) -> int | None:
        with suppress(OSError, ValueError):
            status = os.pread(self._status, 4096, 0)
            marked_bytes = _kilobytes(status, b"VmHWM:") * 1024
            self._resting_bytes = _kilobytes(status, b"VmRSS:") * 1024
            return marked_bytes
        return None

    def _follow(self) -> bool:
        """Read from another thread from now on; whether there is one that lives.

        A main thread that ends before the others (pthread_exit(3)) is a zombie without memory, and so are the files of
        its process: they would tell nothing of 100 MB that another thread has. Those of that thread tell it.
        """
        for thread in _threads(self._pid):
            with ExitStack() as closing, suppress(OSError):
                statm = _open_for_reading(f"{thread}/statm")
                closing.callback(os.close, statm)
                if _resident_bytes(statm):
                    status = _open_for_reading(f"{thread}/status")
                    closing.pop_all()
                    os.close(self._statm)
                    os.close(self._status)
                    self._statm, self._status = statm, status
                    # Refused to an ordinary user when the process is closed to others (PR_SET_DUMPABLE): then the
                    # mark stays where it was, and tells too much rather than too little.
                    with suppress(PermissionError):
                        clear_refs = os.open(f"{thread}/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
                        os.close(self._clear_refs)
                        self._clear_refs = clear_refs
                    return True
        return False


def _kilobytes(status: bytes, name: bytes) -> int:
    at = status.index(name) + len(name)
    return int(status[at : status.index(b"kB", at)])


@dataclass
class _Rollup:
    """What /proc/PID/smaps_rollup tells, in bytes.

    Attributes:
        rss: What is resident.
        pss: The same, with each page divided by the number of processes that have it.
        private: What no other process has.
        anonymous: What is of no file.
    """

    rss: int = 0
    pss: int = 0
    private: int = 0
    anonymous: int = 0


def _open_for_reading(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _threads(pid: int) -> list[str]:
    """Return the folders of the threads of *pid*; none when it is gone, nor for what has ended as a whole."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [f"/proc/{pid}/task/{thread}" for thread in threads if len(threads) > 1]


def _resident_bytes(statm: int) -> int:
    try:
        return int(os.pread(statm, 256, 0).split(b" ", 2)[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def _anonymous_bytes(pid: int) -> int:
    """Return what *pid* has resident that is of no file, by its short file; 0 when it is gone."""
    try:
        return _read_statm(f"/proc/{pid}").anonymous
    except (OSError, ValueError):
        return 0


def _read_statm(folder: str) -> _Rollup:
    """Return what the short file of a process tells: nothing of shares, so what is shared counts in full."""
    with open(f"{folder}/statm", "rb") as statm:
        _, resident, of_files = (int(pages) * _PAGE_BYTES for pages in statm.read().split()[:3])
    return _Rollup(rss=resident, pss=resident, private=resident, anonymous=resident - of_files)


def _rollup(pid: int) -> _Rollup:
    """Return what *pid* has resident, nothing when it is gone.

    Where the kernel will not tell the shares, what is shared counts in full: a process of the same user may close
    itself to the engine (PR_SET_DUMPABLE in prctl(2)), and must not be taken for an empty one.
    """
    try:
        return _read_rollup(f"/proc/{pid}")
    except ProcessLookupError:  # a zombie; perhaps only its main thread is
        for thread in _threads(pid):
            with suppress(ProcessLookupError, FileNotFoundError):
                return _read_rollup(thread)
    except FileNotFoundError:
        pass
    return _Rollup()


def _read_rollup(folder: str) -> _Rollup:
    found = _Rollup()
    try:
        with open(f"{folder}/smaps_rollup", "rb") as rollup:
            for line in rollup:
                if line.startswith(b"Rss:"):
                    found.rss = int(line.split()[1]) * 1024
                elif line.startswith(b"Pss:"):
                    found.pss = int(line.split()[1]) * 1024
                elif line.startswith(b"Private_"):  # clean, dirty, and large pages
                    found.private += int(line.split()[1]) * 1024
                elif line.startswith(b"Anonymous:"):
                    found.anonymous = int(line.split()[1]) * 1024
    except PermissionError:
        found = _read_statm(folder)
        if found.rss == 0:
            raise ProcessLookupError(folder) from None
    return found
