"""The limits of an instance: memory, processes and threads, temporary files.

Theory of operation
-------------------
What is looked at how often follows from how fast a limit can be reached: the next look comes when the tree could
be over it at the earliest, between 1 ms and 50 ms from now. So a tree at rest costs 20 looks a second, and one
that fills its memory is caught within a millisecond's worth of it.

A look at an instance without children takes 20 microseconds. One at 300 processes takes 30 ms and one at 20,000
files 100 ms, and no deadline can wait for that. So a look is taken in steps: it stops after 2 ms, or at the deadline,
and the next one goes on from there. What is summed up over a while may count what moved from one process or folder
to another twice: a limit that such a sum is over is believed when the sum after it is over it as well. Between two sums
the tree is estimated by what its processes have grown since the last one, in a hundredth of the time.

Instances that do nothing are looked at once a second, because what they left behind may grow. Most have left nothing
behind: no child, no thread but their own two. For them a look is three short reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from engine import proc
from engine.cgroups.limits import Group
from engine.clock import NS_PER_MS, NS_PER_S, NS_PER_US, Clock, monotonic_ns
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

_LOOK_NS: Final = 2 * NS_PER_MS
"""A look stops after this, and a pause as long follows: a large tree costs half a core at most."""

_LAST_LOOK_NS: Final = NS_PER_MS
"""What may be spent between a deadline and the kill; for most, all that there is to know takes a tenth of it."""

_IDLE_LOOK_NS: Final = 500 * NS_PER_US
"""Nobody can be given the instance meanwhile."""

_LONGEST_STEP_NS: Final = 5 * NS_PER_MS
"""The kernel walks 4 GB of page tables in this; what took longer was kept from running."""

_THREADS_AT_REST: Final = 2
"""The one that serves, and the main thread, which does nothing."""

_IDLE_LOOKS_A_COUNT: Final = 16
"""Who has no thread to spare can fill its folder by a timer's signal only: that is found some seconds later."""


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
    """Holds one instance against its limits. Not thread-safe.

    Attributes:
        limits: What it may use.
    """

    def __init__(
        self,
        threads: proc.Threads,
        limits: Limits,
        meter: MemoryMeter,
        scratch: Scratch,
        *,
        group: Group | None = None,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._threads = threads
        self.limits = limits
        self._meter = meter
        self._scratch = scratch
        self._group = group
        self._clock = clock
        self._started_ns = 0
        self._scratch_due_ns = 0
        self._interval_ns = _SHORTEST_INTERVAL_NS
        self._timeline: Timeline | None = None
        self._is_unread: Callable[[], bool] | None = None
        self._look: Iterator[Ended | None] | None = None
        self._resume_at_ns = 0
        self._suspected = False
        self._over_bytes = 0
        self._longest_step_ns = 0
        self._idle_looks = 0

    def start(
        self, started_ns: int, timeline: Timeline | None = None, is_unread: Callable[[], bool] | None = None
    ) -> None:
        """Begin a new invocation: its peak, and its timeline when one is wanted, start here.

        Args:
            started_ns: Now.
            timeline: What to draw.
            is_unread: Whether its request is still where it was put; asked when the instance may have been halted
                before it was given the request. None when that is its own doing.
        """
        self._started_ns = started_ns
        self._scratch_due_ns = started_ns + _SCRATCH_INTERVAL_NS
        self._timeline = timeline
        self._is_unread = is_unread
        self._look = None
        self._suspected = False
        self._meter.start()
        self._interval_ns = self._next_interval_ns(self._meter.last_used_bytes, 1)

    def next_interval_ns(self) -> int:
        """Return how long the next look can wait."""
        if self._timeline is not None:
            return min(self._interval_ns, self._timeline.interval_ns)
        return self._interval_ns

    def inspect(self, deadline_ns: int) -> Ended | None:
        """Look at everything that has a limit, as far as time allows; return which one is passed, or None."""
        now = self._clock()
        # One step may be a long one, for a process that has gigabytes: not when the deadline would have to wait for it.
        if deadline_ns - now < self._longest_step_ns:
            return None
        return self._go_on(self._steps, now, min(deadline_ns, now + _LOOK_NS))

    def inspect_idle(self) -> Ended | None:
        """Look at an instance that does nothing; None also when there is more to see: see ``has_more_to_see``."""
        now = self._clock()
        return self._go_on(self._idle_steps, now, now + _IDLE_LOOK_NS)

    def has_more_to_see(self) -> bool:
        """Whether the last look stopped before its end, or found what has to be found again to be believed."""
        return self._look is not None or self._suspected

    def was_hit_while_idle(self) -> bool:
        """Whether the kernel killed something of it since its last invocation: not a matter for the next one."""
        return self._kernel_has_killed()

    def judge(self, ended: Ended) -> tuple[Ended, int]:
        """Return *ended*, or the limit that was passed on the way there, and the peak in bytes.

        The last look: what was over its limit between two looks is found every time, by the kernel's own mark.
        """
        now = self._clock()
        ran_ns = now - self._started_ns
        if ended is Ended.REPLIED and ran_ns < _SHORTEST_INTERVAL_NS and self._timeline is None:
            return self._judge_short()
        if self._timeline is not None and ended in (Ended.REPLIED, Ended.TIMED_OUT):
            self._draw_end(now, None if ended is Ended.REPLIED else now + _LAST_LOOK_NS)
        peak_bytes = self._meter.peak_bytes()  # after that look: no point of a timeline is above its peak
        # The kernel needs some time to run out; an invocation that was shorter pays nothing for the question.
        if ran_ns > _SHORTEST_INTERVAL_NS and self._kernel_has_killed():
            return Ended.OUT_OF_MEMORY, max(peak_bytes, self.limits.memory_bytes)
        if ended is Ended.REPLIED and ran_ns > _SHORTEST_INTERVAL_NS and self._has_too_many():
            return Ended.TOO_MANY_PROCESSES, peak_bytes
        if ended is Ended.REPLIED or ended is Ended.TIMED_OUT:
            if peak_bytes > self.limits.memory_bytes:
                return Ended.OUT_OF_MEMORY, peak_bytes
            # An invocation that was shorter had no time to fill a disk, and pays nothing for the question.
            if self._scratch.is_quick or ran_ns > _SCRATCH_INTERVAL_NS:
                until_ns = None if ended is Ended.REPLIED else now + _LAST_LOOK_NS
                if any(self._within(self._count_files(), until_ns)):
                    return Ended.DISK_FULL, peak_bytes
        return ended, peak_bytes

    def _judge_short(self) -> tuple[Ended, int]:
        """Judge a reply before any look was due: there are no samples, and the kernel had no time to run out."""
        peak_bytes = self._meter.short_peak_bytes()
        if peak_bytes > self.limits.memory_bytes:
            return Ended.OUT_OF_MEMORY, peak_bytes
        is_full = self._scratch.is_quick and self._scratch.used_bytes() > self.limits.scratch_bytes
        return (Ended.DISK_FULL if is_full else Ended.REPLIED), peak_bytes

    def close(self) -> None:
        """Leave off for good: a look that was stopped in the middle of a folder holds it open."""
        self._look = None

    def _go_on(self, steps: Callable[[int], Iterator[Ended | None]], now_ns: int, until_ns: int) -> Ended | None:
        """Go on with the look that was left off, or begin one; leave off in time."""
        estimate = self._meter.estimate()
        if estimate > self.limits.memory_bytes:
            self._meter.remember(estimate)
            self._draw(now_ns, estimate)
            return Ended.OUT_OF_MEMORY
        if self._look is not None and now_ns < self._resume_at_ns:
            self._interval_ns = min(self._resume_at_ns - now_ns, self._next_interval_ns(estimate, 1))
            return None
        look, self._look = self._look, None
        is_resumed = look is not None
        if look is None:
            look = steps(now_ns)
        at_ns = now_ns
        for passed in look:
            before_ns, at_ns = at_ns, self._clock()
            self._longest_step_ns = max(self._longest_step_ns, min(at_ns - before_ns, _LONGEST_STEP_NS))
            if passed is not None:
                if self._suspected or not is_resumed:
                    if passed is Ended.OUT_OF_MEMORY:
                        self._meter.remember(self._over_bytes)
                        self._draw(now_ns, self._over_bytes)
                    return passed
                self._suspected = True
                self._interval_ns = _SHORTEST_INTERVAL_NS
                return None
            if at_ns >= until_ns:
                self._look = look
                self._resume_at_ns = at_ns + max(_SHORTEST_INTERVAL_NS, at_ns - now_ns)
                self._interval_ns = min(self._resume_at_ns - at_ns, self._next_interval_ns(estimate, 1))
                return None
        self._suspected = False
        return None

    def _steps(self, now_ns: int) -> Iterator[Ended | None]:
        """Look at everything that has a limit; give which one is passed, or None after each step."""
        if self._is_unread is not None and self._was_halted():
            yield Ended.NOT_BEGUN
        used = self._meter.sample([])
        # Its peak as well: who was over the limit for a moment, then waits for half an hour, is not let wait.
        if self._meter.peak_bytes() > self.limits.memory_bytes or self._kernel_has_killed():
            self._over_bytes = used
            yield Ended.OUT_OF_MEMORY
        tree = proc.Tree()
        for _ in self._threads.walk(tree):
            yield Ended.TOO_MANY_PROCESSES if tree.tasks > self.limits.processes else None
        if tree.below:
            for sum_bytes in self._meter.sample_steps(tree.below):
                used = self._over_bytes = sum_bytes
                yield Ended.OUT_OF_MEMORY if used > self.limits.memory_bytes else None
            self._meter.remember(used)
        else:
            self._meter.forget_tree()
        self._draw(now_ns, used)
        self._interval_ns = self._next_interval_ns(used, tree.tasks)
        if tree.tasks > self.limits.processes:
            yield Ended.TOO_MANY_PROCESSES
        if now_ns >= self._scratch_due_ns:
            yield from self._count_files()

    def _idle_steps(self, now_ns: int) -> Iterator[Ended | None]:
        self._idle_looks += 1
        at_rest = self._threads.look()
        is_at_rest = at_rest is not None and at_rest[0] <= _THREADS_AT_REST and not at_rest[1]
        if not is_at_rest or self._idle_looks % _IDLE_LOOKS_A_COUNT == 0:
            self._timeline = self._is_unread = None
            self._scratch_due_ns = now_ns
            yield from self._steps(now_ns)
        elif self._kernel_has_killed():
            yield Ended.OUT_OF_MEMORY

    def _count_files(self) -> Iterator[Ended | None]:
        took_ns = 0
        before_ns = self._clock()
        for used_bytes in self._scratch.count_steps():
            took_ns += self._clock() - before_ns
            # A folder of 100,000 files takes longer to count: never more than a tenth of the time goes into it.
            self._scratch_due_ns = before_ns + max(_SCRATCH_INTERVAL_NS, 10 * took_ns)
            yield Ended.DISK_FULL if used_bytes > self.limits.scratch_bytes else None
            before_ns = self._clock()

    def _within(self, steps: Iterator[Ended | None], until_ns: int | None) -> Iterator[Ended | None]:
        """Give what *steps* give until it is *until_ns*, or to their end."""
        for step in steps:
            yield step
            if until_ns is not None and self._clock() >= until_ns:
                return

    def _was_halted(self) -> bool:
        """Whether the instance is stopped and has not taken its request: it was stopped before that came."""
        if self._is_unread is not None and self._is_unread():
            return proc.is_stopped(self._threads.pid)
        self._is_unread = None
        return False

    def _has_too_many(self) -> bool:
        # Forked between the last look and the return: left alone, they would multiply while nobody looks.
        tree = proc.Tree()
        for _ in self._threads.walk(tree):
            pass
        return tree.tasks > self.limits.processes

    def _kernel_has_killed(self) -> bool:
        """Whether the kernel killed something of the instance's group for its memory, the instance or another."""
        return self._group is not None and self._group.oom_kills() > 0

    def _draw(self, at_ns: int, used_bytes: int) -> None:
        if self._timeline is not None:
            self._timeline.add(at_ns - self._started_ns, used_bytes)

    def _draw_end(self, now_ns: int, until_ns: int | None) -> None:
        """Close the timeline, if a look at the whole tree can be had in time.

        Where it ended otherwise, the look that found it was the last point; the dead use nothing.
        """
        tree = proc.Tree()
        used = 0
        for _ in self._threads.walk(tree):
            if until_ns is not None and self._clock() >= until_ns:
                return
        for sum_bytes in self._meter.sample_steps(tree.below):
            used = sum_bytes
            if until_ns is not None and self._clock() >= until_ns:
                return
        self._meter.remember(used)
        self._draw(now_ns, used)

    def _next_interval_ns(self, used_bytes: int, tasks: int) -> int:
        until_full = (self.limits.memory_bytes - used_bytes) * NS_PER_S // _FASTEST_FILL_BYTES_PER_S
        until_many = (self.limits.processes - tasks) * NS_PER_S // _FASTEST_FORKS_PER_S
        return max(_SHORTEST_INTERVAL_NS, min(_LONGEST_INTERVAL_NS, until_full, until_many))


def limits_of(memory_mb: int, max_processes: int, tmp_mb: int) -> Limits:
    """Return the limits of a description, in the units that are compared."""
    return Limits(memory_mb * BYTES_PER_MB, max_processes, tmp_mb * BYTES_PER_MB)
