"""Whether the memory of a process can have grown, told by its count of page faults.

The exact peak is VmHWM in /proc/PID/status, sixty lines that the kernel prints for one: the dearest part of a warm
invocation. But a process that took no page fault cannot have grown. Memory becomes resident in a fault and in nothing
else that a process does in its daily life: a touch, a copy by read(2), mlock(2), MAP_POPULATE and
MADV_POPULATE_WRITE are all counted for the thread that did it (mm_account_fault in mm/memory.c), and the count of a
process is the sum over all its threads, ended ones as well. So if neither the faults nor the resident pages have
changed, the peak is what was resident all the time.

What makes memory resident without a fault: UFFDIO_COPY of a userfaultfd(2), the merging of small pages into large
ones by the kernel (khugepaged) or by request (MADV_COLLAPSE), and another process that writes into this one. All of it
stays resident and is seen by the page count, unless it is given back before the end of the same invocation. That is
why only short invocations ask here (``engine.guard``): within those the error is bounded by what can be filled at all.
"""

from __future__ import annotations

import os
from typing import Final

# Of proc(5)'s fields behind the name: 10 minflt, 12 majflt, 24 rss. The name may hold anything, a parenthesis as well.
_MINOR: Final = 8
_MAJOR: Final = 10
_PAGES: Final = 22


class Faults:
    """Remembers the faults and the pages of one process. Owns a descriptor; close() gives it back."""

    def __init__(self, pid: int) -> None:
        self._stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        self._known: tuple[bytes, bytes, bytes] | None = None

    def has_news(self) -> bool:
        """Whether faults or pages are not what they were at the last call; True at the first, and for who is gone."""
        try:
            stat = os.pread(self._stat, 1024, 0)
            fields = stat[stat.rindex(b")") :].split(b" ", _PAGES + 1)
            found = fields[_MINOR], fields[_MAJOR], fields[_PAGES]
        except (OSError, ValueError, IndexError):
            self._known = None
            return True
        if found == self._known:
            return False
        self._known = found
        return True

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._stat)
