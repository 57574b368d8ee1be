"""The limits of an instance while it runs: memory, processes and threads, temporary files.

What is looked at how often follows from how fast a limit can be reached: the next look comes when the tree could
be over it at the earliest, between 1 ms and 50 ms from now. So a tree at rest costs 20 looks a second, and one
that fills its memory is caught within a millisecond's worth of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine import proc
from engine.cgroups.limits import Group
from engine.clock import NS_PER_MS, NS_PER_S, Clock, monotonic_ns
from engine.memory import BYTES_PER_MB, MemoryMeter
from engine.scratch import Scratch
from engine.timeline import Timeline
from engine.verdict import Ended

_FASTEST_FILL_BYTES_PER_S: Final = 4 * 1024**3
"""Touching new pages was measured at 1 to 3 GB/s; the limit cannot be passed sooner than at this speed."""

_FASTEST_FORKS_PER_S: Final = 10_000
"""An instance forks in a third of a millisecond and there are a few cores; threads start faster, and cost less."""

_SHORTEST_INTERVAL_NS: Final = NS_PER_MS
_LONGEST_INTERVAL_NS: Final = 50 * NS_PER_MS
_SCRATCH_INTERVAL_NS: Final = 100 * NS_PER_MS
"""Counting a folder's files costs more than the other looks, and a disk fills more slowly than memory."""


@dataclass(frozen=True)
class Limits:
    """What an instance may use, with everything it starts.

    Attributes:
        memory_bytes: Memory.
        processes: Processes and threads.
        scratch_bytes: Temporary files.
        memory_files_bytes: How much of its files is in memory wherever the engine's own folder is: a container's.
    """

    memory_bytes: int
    processes: int
    scratch_bytes: int
    memory_files_bytes: int = 0


class Guard:
    """Holds one instance against its limits. Not thread-safe."""

    def __init__(
        self,
        pid: int,
        limits: Limits,
        meter: MemoryMeter,
        scratch: Scratch,
        *,
        group: Group | None = None,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._pid = pid
        self._limits = limits
        self._meter = meter
        self._scratch = scratch
        self._group = group
        self._clock = clock
        self._started_ns = 0
        self._scratch_due_ns = 0
        self._interval_ns = _SHORTEST_INTERVAL_NS
        self._timeline: Timeline | None = None

    def start(self, started_ns: int, timeline: Timeline | None = None) -> None:
        """Begin a new invocation: its peak, and its timeline when one is wanted, start here."""
        self._started_ns = started_ns
        self._scratch_due_ns = started_ns + _SCRATCH_INTERVAL_NS
        self._timeline = timeline
        self._meter.start()
        self._interval_ns = self._next_interval_ns(self._meter.last_used_bytes, 1)

    def next_interval_ns(self) -> int:
        """Return how long the next look can wait."""
        if self._timeline is not None:
            return min(self._interval_ns, self._timeline.interval_ns)
        return self._interval_ns

    def inspect(self) -> Ended | None:
        """Look at everything that has a limit; return which one is passed, or None."""
        now = self._clock()
        tasks, below = proc.survey(self._pid)
        used = self._meter.sample(below)
        if self._timeline is not None:
            self._timeline.add(now - self._started_ns, used)
        self._interval_ns = self._next_interval_ns(used, tasks)
        if used > self._limits.memory_bytes or self._kernel_has_killed():
            return Ended.OUT_OF_MEMORY
        if tasks > self._limits.processes:
            return Ended.TOO_MANY_PROCESSES
        if now >= self._scratch_due_ns and self._scratch_is_full(now):
            return Ended.DISK_FULL
        return None

    def judge(self, ended: Ended) -> tuple[Ended, int]:
        """Return *ended*, or the limit that was passed on the way there, and the peak in bytes.

        The last look: what was over its limit between two looks is found every time, by the kernel's own mark.
        """
        now = self._clock()
        if ended is Ended.REPLIED and now - self._started_ns < _SHORTEST_INTERVAL_NS and self._timeline is None:
            # No look was due yet: no samples, and no time for the kernel to run out or for a disk to fill.
            peak_bytes = self._meter.short_peak_bytes()
            return (Ended.OUT_OF_MEMORY if peak_bytes > self._limits.memory_bytes else ended), peak_bytes
        if self._timeline is not None and ended in (Ended.REPLIED, Ended.TIMED_OUT):
            # Where it ended otherwise, the look that found it was the last point; the dead use nothing.
            self._timeline.add(now - self._started_ns, self._meter.sample(proc.survey(self._pid)[1]))
        peak_bytes = self._meter.peak_bytes()  # after that look: no point of a timeline is above its peak
        # The kernel needs some time to run out; an invocation that was shorter pays nothing for the question.
        if now - self._started_ns > _SHORTEST_INTERVAL_NS and self._kernel_has_killed():
            return Ended.OUT_OF_MEMORY, max(peak_bytes, self._limits.memory_bytes)
        if ended is Ended.REPLIED and now - self._started_ns > _SHORTEST_INTERVAL_NS and self._has_too_many():
            return Ended.TOO_MANY_PROCESSES, peak_bytes
        if ended is Ended.REPLIED or ended is Ended.TIMED_OUT:
            if peak_bytes > self._limits.memory_bytes:
                return Ended.OUT_OF_MEMORY, peak_bytes
            # An invocation that was shorter had no time to fill a disk, and pays nothing for the question.
            may_ask = self._scratch.is_quick or now - self._started_ns > _SCRATCH_INTERVAL_NS
            if may_ask and self._scratch_is_full(now):
                return Ended.DISK_FULL, peak_bytes
        return ended, peak_bytes

    def _has_too_many(self) -> bool:
        # Forked between the last look and the return: left alone, they would multiply while nobody looks.
        return proc.survey(self._pid)[0] > self._limits.processes

    def is_over_memory(self) -> bool:
        """Whether the instance alone is over its memory now: the cheap question, for instances that do nothing."""
        return self._meter.resident_bytes() > self._limits.memory_bytes

    def _kernel_has_killed(self) -> bool:
        """Whether the kernel killed something of the instance's group for its memory, the instance or another."""
        return self._group is not None and self._group.oom_kills() > 0

    def _scratch_is_full(self, now_ns: int) -> bool:
        used_bytes = self._scratch.used_bytes()
        # A folder of 100,000 files takes longer to count: never more than a tenth of the time goes into it.
        took_ns = self._clock() - now_ns
        self._scratch_due_ns = now_ns + max(_SCRATCH_INTERVAL_NS, 10 * took_ns)
        return used_bytes > self._limits.scratch_bytes

    def _next_interval_ns(self, used_bytes: int, tasks: int) -> int:
        until_full = (self._limits.memory_bytes - used_bytes) * NS_PER_S // _FASTEST_FILL_BYTES_PER_S
        until_many = (self._limits.processes - tasks) * NS_PER_S // _FASTEST_FORKS_PER_S
        return max(_SHORTEST_INTERVAL_NS, min(_LONGEST_INTERVAL_NS, until_full, until_many))


def limits_of(memory_mb: int, max_processes: int, tmp_mb: int) -> Limits:
    """Return the limits of a description, in the units that are compared."""
    return Limits(memory_mb * BYTES_PER_MB, max_processes, tmp_mb * BYTES_PER_MB)
