"""Which limit was passed, judged at every look and once more at the end; and when the next look is due."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from engine import proc
from engine.cgroups.limits import Group
from engine.clock import NS_PER_MS as MS
from engine.guard import Guard, Limits, limits_of
from engine.memory import BYTES_PER_MB as MB
from engine.memory import MemoryMeter
from engine.scratch import Scratch
from engine.timeline import Timeline
from engine.verdict import Ended

NEVER_NS = 1 << 62
LIMITS = Limits(memory_bytes=128 * MB, processes=1000, scratch_bytes=10 * MB)


@dataclass
class FakeInstance:
    """An instance by what its meter, its folder, its group and /proc tell of it; counting takes time.

    What is below it is given as the MB that each process has.
    """

    used: int = 10 * MB
    peak: int = 10 * MB
    tasks: int = 1
    scratch: int = 0
    counting_takes_ns: int = 0
    is_quick: bool = False
    kills: int = 0
    now_ns: int = 1000 * MS
    last_used_bytes: int = 10 * MB
    counted: list[int] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    below: list[int] = field(default_factory=list)
    step_takes_ns: int = 0
    estimated: int = 0
    pid: int = 1

    def look(self) -> tuple[int, list[int]]:
        return self.tasks, self.below

    def walk(self, tree: proc.Tree) -> Iterator[None]:
        tree.tasks, tree.below = self.tasks, self.below
        return iter(())

    def start(self) -> None:
        self.peak = self.used

    def sample(self, below: list[int]) -> int:
        self.remember(list(self.sample_steps(below))[-1])
        return self.last_used_bytes

    def remember(self, used: int) -> None:
        self.last_used_bytes = used
        self.peak = max(self.peak, used)

    def sample_steps(self, below: list[int]) -> Iterator[int]:
        for counted in range(len(below) + 1):
            self.now_ns += self.step_takes_ns if counted else 0
            yield self.used + sum(below[:counted]) * MB

    def estimate(self) -> int:
        return max(self.used, self.estimated)

    def forget_tree(self) -> None:
        pass

    def peak_bytes(self) -> int:
        return self.peak

    def short_peak_bytes(self) -> int:
        return self.peak

    def resident_bytes(self) -> int:
        return self.used

    def used_bytes(self) -> int:
        return self.scratch

    def count_steps(self) -> Iterator[int]:
        self.counted.append(self.now_ns)
        self.now_ns += self.counting_takes_ns
        yield self.scratch

    def oom_kills(self) -> int:
        return self.kills

    def close(self) -> None:
        self.closed.append("descriptors")


@pytest.fixture
def instance() -> FakeInstance:
    return FakeInstance()


@pytest.fixture
def guard(instance: FakeInstance) -> Guard:
    return guard_of(instance)


def guard_of(instance: FakeInstance, timeline: Timeline | None = None, group: Group | None = None) -> Guard:
    threads, meter, scratch = cast("proc.Threads", instance), cast("MemoryMeter", instance), cast("Scratch", instance)
    guard = Guard(threads, LIMITS, meter, scratch, group=group, clock=lambda: instance.now_ns)
    guard.start(instance.now_ns, timeline)
    return guard


def next_look(instance: FakeInstance, guard: Guard) -> Ended | None:
    """Look when it is due."""
    instance.now_ns += guard.next_interval_ns()
    return guard.inspect(NEVER_NS)


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, None),
        ({"used": 128 * MB}, None),
        ({"used": 128 * MB + 1}, Ended.OUT_OF_MEMORY),
        ({"peak": 128 * MB}, None),
        ({"peak": 128 * MB + 1}, Ended.OUT_OF_MEMORY),
        ({"tasks": 1000}, None),
        ({"tasks": 1001}, Ended.TOO_MANY_PROCESSES),
        ({"used": 129 * MB, "tasks": 1001}, Ended.OUT_OF_MEMORY),
    ],
)
def test_look_tells_which_limit_is_passed(
    instance: FakeInstance, guard: Guard, changes: dict[str, int], passed: Ended | None
) -> None:
    """The configured amount itself is within the limit. Who was over it is out of memory, whatever it has by now."""
    for name, value in changes.items():
        setattr(instance, name, value)

    assert passed is guard.inspect(NEVER_NS)


@pytest.mark.parametrize(("ended"), [Ended.REPLIED, Ended.TIMED_OUT])
def test_peak_between_two_looks_is_judged_at_the_end(instance: FakeInstance, guard: Guard, ended: Ended) -> None:
    """Over the limit for a millisecond is out of memory every time; at the limit is not."""
    instance.peak = 128 * MB
    within = guard.judge(ended)
    instance.peak += 1

    assert (ended, 128 * MB) == within
    assert (Ended.OUT_OF_MEMORY, 128 * MB + 1) == guard.judge(ended)


@pytest.mark.parametrize("ended", set(Ended) - {Ended.REPLIED, Ended.TIMED_OUT})
def test_other_ends_are_left_as_they_are(instance: FakeInstance, guard: Guard, ended: Ended) -> None:
    """Who died, or broke the protocol, has a reason of its own already; the peak is told all the same."""
    instance.peak, instance.scratch, instance.tasks = 200 * MB, 20 * MB, 2000
    instance.now_ns += 1000 * MS

    assert (ended, 200 * MB) == guard.judge(ended)


def test_kill_by_the_kernel_is_out_of_memory(instance: FakeInstance) -> None:
    """Whatever it looked like: a process that was killed for its memory may have been any of the tree."""
    guard = guard_of(instance, group=cast("Group", instance))
    instance.now_ns += 2 * MS
    before = (guard.inspect(NEVER_NS), guard.judge(Ended.REPLIED)[0])
    instance.kills = 1

    assert (None, Ended.REPLIED) == before
    assert Ended.OUT_OF_MEMORY is guard.inspect(NEVER_NS)
    for ended in (Ended.REPLIED, Ended.EXITED, Ended.TIMED_OUT):
        assert (Ended.OUT_OF_MEMORY, 128 * MB) == guard.judge(ended)


def test_forks_after_the_last_look_are_found_at_the_end(instance: FakeInstance, guard: Guard) -> None:
    """Left alone, they would multiply while nobody looks; what took no time at all had none to fork."""
    instance.tasks = 1001
    at_once = guard.judge(Ended.REPLIED)[0]
    instance.now_ns += 2 * MS
    later = guard.judge(Ended.REPLIED)[0]
    instance.tasks = 1000

    assert [Ended.REPLIED, Ended.TOO_MANY_PROCESSES] == [at_once, later]
    assert Ended.REPLIED is guard.judge(Ended.REPLIED)[0]


def test_folder_is_counted_now_and_then(instance: FakeInstance, guard: Guard) -> None:
    """Every 100 ms, however often the rest is looked at; its configured size is within the limit."""
    start = instance.now_ns
    instance.scratch = 10 * MB
    for _ in range(50):
        assert guard.inspect(NEVER_NS) is None
        instance.now_ns += 10 * MS
    instance.scratch += 1

    assert [start + 100 * MS * n for n in (1, 2, 3, 4)] == instance.counted
    assert Ended.DISK_FULL is guard.inspect(NEVER_NS)


def test_counting_takes_no_more_than_a_tenth_of_the_time(instance: FakeInstance, guard: Guard) -> None:
    """A folder of 100,000 files is counted less often."""
    start = instance.now_ns
    instance.counting_takes_ns = 50 * MS
    for _ in range(150):
        guard.inspect(NEVER_NS)
        instance.now_ns += 10 * MS

    assert [100 * MS, 600 * MS, 1100 * MS] == [at - start for at in instance.counted[:3]]


@pytest.mark.parametrize(("after_ms", "verdict"), [(100, Ended.REPLIED), (101, Ended.DISK_FULL)])
def test_full_folder_is_judged_at_the_end(instance: FakeInstance, guard: Guard, after_ms: int, verdict: Ended) -> None:
    """An invocation that was shorter had no time to fill a disk, and pays nothing for the question."""
    instance.scratch = 11 * MB
    instance.now_ns += after_ms * MS

    assert verdict is guard.judge(Ended.REPLIED)[0]


@pytest.mark.parametrize(
    ("used", "tasks", "interval_ns"),
    [
        (0, 1, (128 << 20) * 10**9 // (4 << 30)),
        (64 * MB, 1, (64 << 20) * 10**9 // (4 << 30)),
        (128 * MB, 1, MS),
        (0, 950, 5 * MS),
        (0, 1000, MS),
    ],
)
def test_next_look_comes_when_a_limit_could_be_reached(
    instance: FakeInstance, guard: Guard, used: int, tasks: int, interval_ns: int
) -> None:
    """At the speed of the fastest memory and the fastest forks, and never sooner than in a millisecond."""
    instance.used, instance.tasks = used, tasks
    guard.inspect(NEVER_NS)

    assert interval_ns == guard.next_interval_ns()


def test_tree_at_rest_is_looked_at_twenty_times_a_second(instance: FakeInstance) -> None:
    """With all the room in the world."""
    threads, meter, scratch = cast("proc.Threads", instance), cast("MemoryMeter", instance), cast("Scratch", instance)
    guard = Guard(threads, limits_of(1024, 10_000, 10), meter, scratch, clock=lambda: 0)
    guard.start(0)

    assert 50 * MS == guard.next_interval_ns()


def test_peak_of_one_invocation_is_not_charged_to_the_next(instance: FakeInstance, guard: Guard) -> None:
    """Each starts with what is there when it starts."""
    instance.peak = 200 * MB
    guard.start(instance.now_ns)

    assert (Ended.REPLIED, 10 * MB) == guard.judge(Ended.REPLIED)


def test_first_look_follows_from_the_last_invocation(instance: FakeInstance) -> None:
    """An instance that is nearly full when it starts is looked at soon."""
    instance.last_used_bytes = 127 * MB

    assert MS == guard_of(instance).next_interval_ns()


def test_timeline_is_drawn_by_the_looks(instance: FakeInstance) -> None:
    """From the start to the end, and often enough for a picture."""
    timeline = Timeline()
    guard = guard_of(instance, timeline)
    for used in (20, 40):
        instance.now_ns += 5 * MS
        instance.used = used * MB
        guard.inspect(NEVER_NS)
    instance.now_ns += MS
    guard.judge(Ended.REPLIED)

    assert 2 * MS == guard.next_interval_ns()
    assert ((5.0, 20.0), (10.0, 40.0), (11.0, 40.0)) == timeline.points()


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({"used": 128 * MB}, None),
        ({"used": 128 * MB + 1}, Ended.OUT_OF_MEMORY),
        ({"below": [60, 60], "tasks": 3}, Ended.OUT_OF_MEMORY),
        ({"below": [1], "scratch": 11 * MB}, Ended.DISK_FULL),
        ({"tasks": 3, "scratch": 11 * MB}, Ended.DISK_FULL),
        ({"tasks": 1001}, Ended.TOO_MANY_PROCESSES),
        ({"kills": 1}, Ended.OUT_OF_MEMORY),
    ],
)
def test_idle_instance_is_held_to_its_limits(
    instance: FakeInstance, changes: dict[str, int], passed: Ended | None
) -> None:
    """What it left behind may grow while nobody calls it: threads, processes, files."""
    guard = guard_of(instance, group=cast("Group", instance))
    before = guard.inspect_idle()
    for name, value in changes.items():
        setattr(instance, name, value)

    assert (None, passed) == (before, guard.inspect_idle())


def test_idle_instance_that_left_nothing_behind_is_asked_cheaply(instance: FakeInstance, guard: Guard) -> None:
    """Nobody is there to fill its folder, but for a timer's signal: that is counted now and then."""
    instance.scratch = 11 * MB
    found = [guard.inspect_idle() for _ in range(16)]

    assert [*[None] * 15, Ended.DISK_FULL] == found
    assert 1 == len(instance.counted)


def test_kill_by_the_kernel_while_idle_is_told_before_the_next_invocation(instance: FakeInstance) -> None:
    """That one must not be charged for it."""
    guard = guard_of(instance, group=cast("Group", instance))
    before = guard.was_hit_while_idle()
    instance.kills = 1

    assert [False, True] == [before, guard.was_hit_while_idle()]


def test_large_tree_is_looked_at_in_pieces(instance: FakeInstance, guard: Guard) -> None:
    """No look takes more than 2 ms and one step, and a pause as long follows."""
    instance.below, instance.step_takes_ns = [0] * 100, MS // 2
    took_ns = []
    too_soon_ns = []
    while not took_ns or guard.has_more_to_see():
        started_ns = instance.now_ns
        assert guard.inspect(NEVER_NS) is None
        stopped_ns = instance.now_ns
        took_ns.append(stopped_ns - started_ns)
        instance.now_ns += took_ns[-1] - 1
        if guard.has_more_to_see():
            guard.inspect(NEVER_NS)
            too_soon_ns.append(instance.now_ns - stopped_ns - took_ns[-1] + 1)
        instance.now_ns += 1

    assert 100 * MS // 2 == sum(took_ns)
    assert 2 * MS == max(took_ns)
    assert [0] * (len(took_ns) - 1) == too_soon_ns


def test_limit_is_watched_while_a_long_look_pauses(instance: FakeInstance, guard: Guard) -> None:
    """By what the tree is estimated to have, again when that could be over the limit."""
    instance.below, instance.step_takes_ns = [0] * 100, 4 * MS
    instance.estimated = 120 * MB
    guard.inspect(NEVER_NS)
    interval_ns = guard.next_interval_ns()
    instance.now_ns += interval_ns
    within = guard.inspect(NEVER_NS)
    instance.estimated = 128 * MB + 1
    instance.now_ns += interval_ns

    assert 8 * MB * 10**9 // (4 << 30) == interval_ns
    assert (None, Ended.OUT_OF_MEMORY) == (within, guard.inspect(NEVER_NS))
    assert (Ended.OUT_OF_MEMORY, 128 * MB + 1) == guard.judge(Ended.OUT_OF_MEMORY)


def test_look_stops_at_the_deadline(instance: FakeInstance, guard: Guard) -> None:
    """The kill does not wait for more than the step that is being taken, nor for one that is known to be longer."""
    instance.below, instance.step_takes_ns = [0] * 100, MS
    deadline_ns = instance.now_ns + 3 * MS // 2
    guard.inspect(deadline_ns)
    stopped_ns = instance.now_ns
    instance.now_ns = deadline_ns - MS // 2
    guard.inspect(deadline_ns)

    assert deadline_ns + MS // 2 == stopped_ns
    assert deadline_ns - MS // 2 == instance.now_ns


def test_limit_that_is_passed_over_many_looks_is_found_by_the_second_sum(instance: FakeInstance, guard: Guard) -> None:
    """What moved from one process to another meanwhile was counted twice: only who is over it again is over it."""
    instance.below, instance.step_takes_ns = [2] * 100, MS // 2
    verdicts = [next_look(instance, guard) for _ in range(60)]
    guard.start(instance.now_ns)
    once = [next_look(instance, guard) for _ in range(15)]
    instance.below = [0] * 100
    never_again = [next_look(instance, guard) for _ in range(60)]

    assert 2 * 15 - 1 == verdicts.index(Ended.OUT_OF_MEMORY)
    assert {None} == {*once, *never_again}
    assert (Ended.REPLIED, 10 * MB) == guard.judge(Ended.REPLIED)


def test_instance_that_grows_while_a_long_look_is_taken_is_found(instance: FakeInstance, guard: Guard) -> None:
    """Its own memory is asked for first in every piece."""
    instance.below, instance.step_takes_ns = [0] * 100, MS
    guard.inspect(NEVER_NS)
    instance.used = 129 * MB

    assert guard.has_more_to_see()
    assert Ended.OUT_OF_MEMORY is guard.inspect(NEVER_NS)


def test_halted_instance_did_not_begin(instance: FakeInstance, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was stopped before its request came; one that has taken it, and one that runs, have begun."""
    stopped = True
    monkeypatch.setattr(proc, "is_stopped", lambda _pid: stopped)
    guard.start(instance.now_ns, None, lambda: True)
    not_begun = guard.inspect(NEVER_NS)
    stopped = False
    runs = guard.inspect(NEVER_NS)
    stopped = True
    guard.start(instance.now_ns, None, lambda: False)
    begun = guard.inspect(NEVER_NS)

    assert [Ended.NOT_BEGUN, None, None] == [not_begun, runs, begun]


def test_folder_is_counted_for_a_millisecond_when_time_is_up(instance: FakeInstance, guard: Guard) -> None:
    """The kill comes first; of a folder that is small there is all to know by then."""
    instance.now_ns += 200 * MS
    instance.scratch = 11 * MB
    counts = iter([0, 0, 11 * MB])

    def slowly() -> Iterator[int]:
        for used in counts:
            instance.now_ns += MS // 4
            yield used

    instance.count_steps = slowly  # type: ignore[method-assign]  # for this instance alone
    in_time = guard.judge(Ended.TIMED_OUT)[0]
    counts = iter([0, 0, 0, 0, 0, 11 * MB])

    assert [Ended.DISK_FULL, Ended.TIMED_OUT] == [in_time, guard.judge(Ended.TIMED_OUT)[0]]


def test_closed_guard_holds_no_folder_open(instance: FakeInstance, tmp_path: Path) -> None:
    """A look that was stopped in the middle of one has a descriptor of it."""
    scratch = Scratch(str(tmp_path))
    for number in range(200):
        Path(scratch.path, str(number)).touch()

    def slowly() -> Iterator[int]:
        for used_bytes in scratch.count_steps():
            instance.now_ns += MS
            yield used_bytes

    instance.count_steps = slowly  # type: ignore[method-assign]  # for this instance alone
    guard = guard_of(instance)
    instance.now_ns += 200 * MS
    guard.inspect(NEVER_NS)
    held = scratch.path in open_folders()
    guard.close()

    assert [True, False] == [held, scratch.path in open_folders()]


def open_folders() -> list[str]:
    """What the descriptors of this process are of."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if os.path.lexists(link)]


def test_limits_are_compared_in_bytes() -> None:
    """A description has MB of 1024 KiB."""
    assert Limits(128 * 1024 * 1024, 5, 512 * 1024 * 1024) == limits_of(128, 5, 512)


def test_no_point_of_a_timeline_is_above_the_peak(instance: FakeInstance) -> None:
    """The point that closes a timeline is a look like any other: what it finds counts."""
    guard = guard_of(instance, Timeline())
    instance.used = 50 * MB

    assert (Ended.REPLIED, 50 * MB) == guard.judge(Ended.REPLIED)


@pytest.mark.parametrize(("is_quick", "expected"), [(True, Ended.DISK_FULL), (False, Ended.REPLIED)])
def test_short_invocation_is_asked_for_its_disk_where_that_is_cheap(
    instance: FakeInstance, guard: Guard, *, is_quick: bool, expected: Ended
) -> None:
    """What is filled a little by each of many is found all the same."""
    instance.is_quick = is_quick
    instance.scratch = 10**12
    guard.start(instance.now_ns)

    assert expected is guard.judge(Ended.REPLIED)[0]
