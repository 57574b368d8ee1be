"""Which limit was passed, judged at every look and once more at the end; and when the next look is due."""

from __future__ import annotations

from dataclasses import dataclass, field
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

LIMITS = Limits(memory_bytes=128 * MB, processes=1000, scratch_bytes=10 * MB)


@dataclass
class FakeInstance:
    """An instance by what its meter, its folder, its group and /proc tell of it; counting the folder takes time."""

    used: int = 10 * MB
    peak: int = 10 * MB
    tasks: int = 1
    scratch: int = 0
    counting_takes_ns: int = 0
    kills: int = 0
    now_ns: int = 1000 * MS
    last_used_bytes: int = 10 * MB
    counted: list[int] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.peak = self.used

    def sample(self, below: list[int]) -> int:
        self.last_used_bytes = self.used
        self.peak = max(self.peak, self.used)
        return self.used

    def peak_bytes(self) -> int:
        return self.peak

    def short_peak_bytes(self) -> int:
        return self.peak

    def resident_bytes(self) -> int:
        return self.used

    def used_bytes(self) -> int:
        self.counted.append(self.now_ns)
        self.now_ns += self.counting_takes_ns
        return self.scratch

    def oom_kills(self) -> int:
        return self.kills

    def close(self) -> None:
        self.closed.append("meter")

    def remove(self) -> None:
        self.closed.append("scratch")


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> FakeInstance:
    instance = FakeInstance()
    monkeypatch.setattr(proc, "survey", lambda pid: (instance.tasks, []))
    return instance


@pytest.fixture
def guard(instance: FakeInstance) -> Guard:
    return guard_of(instance)


def guard_of(instance: FakeInstance, timeline: Timeline | None = None, group: Group | None = None) -> Guard:
    meter, scratch = cast("MemoryMeter", instance), cast("Scratch", instance)
    guard = Guard(1, LIMITS, meter, scratch, group=group, clock=lambda: instance.now_ns)
    guard.start(instance.now_ns, timeline)
    return guard


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, None),
        ({"used": 128 * MB}, None),
        ({"used": 128 * MB + 1}, Ended.OUT_OF_MEMORY),
        ({"tasks": 1000}, None),
        ({"tasks": 1001}, Ended.TOO_MANY_PROCESSES),
        ({"used": 129 * MB, "tasks": 1001}, Ended.OUT_OF_MEMORY),
    ],
)
def test_look_tells_which_limit_is_passed(
    instance: FakeInstance, guard: Guard, changes: dict[str, int], passed: Ended | None
) -> None:
    """The configured amount itself is within the limit."""
    for name, value in changes.items():
        setattr(instance, name, value)

    assert passed is guard.inspect()


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
    before = (guard.inspect(), guard.judge(Ended.REPLIED)[0])
    instance.kills = 1

    assert (None, Ended.REPLIED) == before
    assert Ended.OUT_OF_MEMORY is guard.inspect()
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
        assert guard.inspect() is None
        instance.now_ns += 10 * MS
    instance.scratch += 1

    assert [start + 100 * MS * n for n in (1, 2, 3, 4)] == instance.counted
    assert Ended.DISK_FULL is guard.inspect()


def test_counting_takes_no_more_than_a_tenth_of_the_time(instance: FakeInstance, guard: Guard) -> None:
    """A folder of 100,000 files is counted less often."""
    start = instance.now_ns
    instance.counting_takes_ns = 50 * MS
    for _ in range(150):
        guard.inspect()
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
        (200 * MB, 1, MS),
        (0, 950, 5 * MS),
        (0, 1000, MS),
        (0, 2000, MS),
    ],
)
def test_next_look_comes_when_a_limit_could_be_reached(
    instance: FakeInstance, guard: Guard, used: int, tasks: int, interval_ns: int
) -> None:
    """At the speed of the fastest memory and the fastest forks, and never sooner than in a millisecond."""
    instance.used, instance.tasks = used, tasks
    guard.inspect()

    assert interval_ns == guard.next_interval_ns()


def test_tree_at_rest_is_looked_at_twenty_times_a_second(instance: FakeInstance) -> None:
    """With all the room in the world."""
    scratch = cast("Scratch", instance)
    guard = Guard(1, limits_of(1024, 10_000, 10), cast("MemoryMeter", instance), scratch, clock=lambda: 0)
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
        guard.inspect()
    instance.now_ns += MS
    guard.judge(Ended.REPLIED)

    assert 2 * MS == guard.next_interval_ns()
    assert ((5.0, 20.0), (10.0, 40.0), (11.0, 40.0)) == timeline.points()


def test_idle_instance_is_asked_cheaply(instance: FakeInstance, guard: Guard) -> None:
    """Its own memory alone, without a walk through what it started."""
    instance.used = 128 * MB
    within = guard.is_over_memory()
    instance.used += 1

    assert [False, True] == [within, guard.is_over_memory()]


def test_limits_are_compared_in_bytes() -> None:
    """A description has MB of 1024 KiB."""
    assert Limits(128 * 1024 * 1024, 5, 512 * 1024 * 1024) == limits_of(128, 5, 512)


def test_no_point_of_a_timeline_is_above_the_peak(instance: FakeInstance) -> None:
    """The point that closes a timeline is a look like any other: what it finds counts."""
    guard = guard_of(instance, Timeline())
    instance.used = 50 * MB

    assert (Ended.REPLIED, 50 * MB) == guard.judge(Ended.REPLIED)
