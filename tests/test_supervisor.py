"""The one wait, on a clock that only moves when somebody waits: who wins which race, and when it is looked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from engine import channel as ch
from engine.clock import NS_PER_MS as MS
from engine.errors import ProtocolError
from engine.protocol import Frame
from engine.supervisor import watch
from engine.verdict import Ended, Verdict

TOKEN = "the one that is due"
REPLY = Frame("result", TOKEN, b"1")
FORGED = Frame("result", "another", b"2")
STARTED_NS = 1_000 * MS
LIMIT_BYTES = 100


class FakeClock:
    """Moves when something takes time, and never by itself."""

    def __init__(self) -> None:
        self.now_ns = STARTED_NS

    def __call__(self) -> int:
        return self.now_ns


@dataclass
class FakeInstance:
    """The pipes and the guard of an instance that lives by a timetable; times are from the start of the request.

    A descriptor stays readable until somebody reads it, a pidfd for ever: as poll() has it.

    Attributes:
        replies: When something comes on the reply pipe, and which frames; none means the end of the pipe.
        exit_at_ns: When it ends.
        printing: Whether its log pipe is never empty.
        memory: From when on it uses how much; a peak between two looks is a row like any other.
        look_every_ns: How long its guard lets the engine wait between two looks, by the bytes in use.
        broken: Whether what it writes is no frame.
        wakes_late_by_ns: How long the engine is kept from running after each wait.
        reading_takes_ns: What it takes to read the reply pipe or the log pipe once.
        waits_ns: How long it was waited for, each time.
    """

    clock: FakeClock
    replies: list[tuple[int, list[Frame]]] = field(default_factory=list)
    exit_at_ns: int | None = None
    printing: bool = False
    memory: list[tuple[int, int]] = field(default_factory=list)
    look_every_ns: Callable[[int], int] = lambda _used: 10 * MS
    wakes_late_by_ns: int = 0
    reading_takes_ns: int = 0
    broken: bool = False
    waits_ns: list[int] = field(default_factory=list)
    looks_ns: list[int] = field(default_factory=list)
    output_reads: int = 0

    def wait(self, timeout_ns: int) -> int:
        self.waits_ns.append(timeout_ns)
        wake_ns = self._age_ns() + max(0, timeout_ns)
        if not self._ready():
            changes = [at for at, _ in self.replies] + ([] if self.exit_at_ns is None else [self.exit_at_ns])
            self._sleep_until(min([wake_ns, *changes]))
            self.clock.now_ns += self.wakes_late_by_ns
        return self._ready()

    def receive(self) -> list[Frame]:
        self.clock.now_ns += self.reading_takes_ns
        if self.broken:
            raise ProtocolError("nonsense")
        if not self.replies or self.replies[0][0] > self._age_ns():
            return []  # looked for and not there: the pipe does not block
        _, frames = self.replies.pop(0)
        return frames

    def read_output(self) -> None:
        self.clock.now_ns += self.reading_takes_ns
        self.output_reads += 1

    def next_interval_ns(self) -> int:
        return self.look_every_ns(self._used_bytes())

    def inspect(self, deadline_ns: int) -> Ended | None:
        self.looks_ns.append(self._age_ns())
        return Ended.OUT_OF_MEMORY if self._used_bytes() > LIMIT_BYTES else None

    def judge(self, ended: Ended) -> tuple[Ended, int]:
        peak = max((used for at, used in self.memory if at <= self._age_ns()), default=0)
        if peak > LIMIT_BYTES and ended in (Ended.REPLIED, Ended.TIMED_OUT):
            ended = Ended.OUT_OF_MEMORY
        return ended, peak

    def watch(self, *, deadline_ns: int = 25 * MS) -> Verdict:
        """Wait for it as the engine does, with a deadline counted from the start of the request."""
        return watch(
            self,
            self,
            token=TOKEN,
            started_ns=STARTED_NS,
            deadline_ns=STARTED_NS + deadline_ns,
            clock=self.clock,
        )

    def _used_bytes(self) -> int:
        return [0, *(used for at, used in self.memory if at <= self._age_ns())][-1]

    def _age_ns(self) -> int:
        return self.clock.now_ns - STARTED_NS

    def _sleep_until(self, age_ns: int) -> None:
        self.clock.now_ns = max(self.clock.now_ns, STARTED_NS + age_ns)

    def _ready(self) -> int:
        now = self._age_ns()
        ready = ch.REPLY if self.broken or any(at <= now for at, _ in self.replies) else 0
        if self.exit_at_ns is not None and self.exit_at_ns <= now:
            ready |= ch.EXIT
        return ready | (ch.OUTPUT if self.printing else 0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_silent_instance_times_out_exactly_at_its_deadline(clock: FakeClock) -> None:
    """The last wait is cut short, so that no look at the memory overshoots the deadline."""
    instance = FakeInstance(clock)
    verdict = instance.watch()

    assert Ended.TIMED_OUT is verdict.ended
    assert [10 * MS, 10 * MS, 5 * MS] == instance.waits_ns


def test_reply_ends_the_wait_at_once(clock: FakeClock) -> None:
    """The verdict carries the frame, the time that it took and the peak on the way."""
    instance = FakeInstance(clock, replies=[(13 * MS, [REPLY])], memory=[(0, 10), (11 * MS, 60), (12 * MS, 20)])

    assert Verdict(Ended.REPLIED, 13 * MS, 60, REPLY) == instance.watch()


def test_time_is_counted_from_the_request_and_not_from_the_wait(clock: FakeClock) -> None:
    """Writing a large event takes time: the function's, and not for free."""
    clock.now_ns += 4 * MS
    verdict = FakeInstance(clock).watch()

    assert (25 * MS, STARTED_NS + 25 * MS) == (verdict.duration_ns, clock.now_ns)


def test_reply_wins_over_a_deadline_that_passed_while_the_engine_was_not_scheduled(clock: FakeClock) -> None:
    """On a loaded machine the engine wakes late: what is in the pipe by then counts."""
    instance = FakeInstance(clock, replies=[(9 * MS, [REPLY])], wakes_late_by_ns=30 * MS)
    verdict = instance.watch()

    assert (Ended.REPLIED, REPLY) == (verdict.ended, verdict.frame)
    assert clock.now_ns > STARTED_NS + 25 * MS


def test_reply_wins_over_an_exit_in_the_same_moment(clock: FakeClock) -> None:
    """A function that returned and died right after it has returned."""
    verdict = FakeInstance(clock, replies=[(5 * MS, [REPLY])], exit_at_ns=5 * MS).watch()

    assert (Ended.REPLIED, REPLY) == (verdict.ended, verdict.frame)


def test_reply_that_is_there_before_the_first_wait_wins(clock: FakeClock) -> None:
    """Also when the deadline has passed by then: the pipe is read before the clock is."""
    instance = FakeInstance(clock, replies=[(0, [REPLY])])

    assert Ended.REPLIED is instance.watch(deadline_ns=0).ended


def test_passed_deadline_without_a_reply_ends_with_the_first_look(clock: FakeClock) -> None:
    """No time left is no reason to wait for ever."""
    instance = FakeInstance(clock)

    assert Ended.TIMED_OUT is instance.watch(deadline_ns=0).ended
    assert 1 == len(instance.waits_ns)


def test_timeout_is_billed_up_to_the_deadline_and_no_further(clock: FakeClock) -> None:
    """The engine's own delay is not the function's time."""
    verdict = FakeInstance(clock, wakes_late_by_ns=70 * MS).watch()

    assert (Ended.TIMED_OUT, 25 * MS) == (verdict.ended, verdict.duration_ns)


def test_exit_ends_the_wait_at_once(clock: FakeClock) -> None:
    """Nothing can come from a process that is no more."""
    verdict = FakeInstance(clock, exit_at_ns=7 * MS, memory=[(0, 30)]).watch()

    assert Verdict(Ended.EXITED, 7 * MS, 30) == verdict


def test_deadline_wins_over_an_exit_in_the_same_moment(clock: FakeClock) -> None:
    """What ends at the deadline was most likely ended by it."""
    assert Ended.TIMED_OUT is FakeInstance(clock, exit_at_ns=25 * MS).watch().ended


def test_exit_is_found_behind_output(clock: FakeClock) -> None:
    """Output that is never read to its end does not hide that the process has ended."""
    verdict = FakeInstance(clock, exit_at_ns=7 * MS, printing=True, reading_takes_ns=MS).watch()

    assert (Ended.EXITED, 7 * MS) == (verdict.ended, verdict.duration_ns)


def test_passed_limit_ends_the_wait_with_the_next_look(clock: FakeClock) -> None:
    """Whatever the function does meanwhile: the look after it passed a limit is the last."""
    verdict = FakeInstance(clock, memory=[(0, 50), (12 * MS, 101)]).watch()

    assert Verdict(Ended.OUT_OF_MEMORY, 20 * MS, 101) == verdict


def test_reply_does_not_hide_a_peak_between_two_looks(clock: FakeClock) -> None:
    """Over the limit for a millisecond is out of memory every time, not when a look happened to see it."""
    instance = FakeInstance(clock, replies=[(8 * MS, [REPLY])], memory=[(0, 50), (3 * MS, 101), (4 * MS, 50)])

    assert Verdict(Ended.OUT_OF_MEMORY, 8 * MS, 101) == instance.watch()
    assert [] == instance.looks_ns


def test_deadline_does_not_hide_a_peak_between_two_looks(clock: FakeClock) -> None:
    """A function that ran out of memory and then out of time ran out of memory."""
    verdict = FakeInstance(clock, memory=[(0, 50), (21 * MS, 101), (22 * MS, 50)]).watch()

    assert Verdict(Ended.OUT_OF_MEMORY, 25 * MS, 101) == verdict


def test_interval_between_looks_is_asked_for_anew_after_each(clock: FakeClock) -> None:
    """Close to its limit an instance is looked at more often."""
    instance = FakeInstance(
        clock, memory=[(5 * MS, 90), (12 * MS, 0)], look_every_ns=lambda used: MS if used > 80 else 10 * MS
    )
    instance.watch()

    assert [10 * MS, 11 * MS, 12 * MS, 22 * MS] == instance.looks_ns


def test_frame_with_another_token_is_dropped(clock: FakeClock) -> None:
    """A late or a forged reply changes nothing: not before the real one, and not in one piece with it."""
    instance = FakeInstance(clock, replies=[(2 * MS, [FORGED]), (4 * MS, [FORGED, REPLY, FORGED])])

    assert Verdict(Ended.REPLIED, 4 * MS, 0, REPLY) == instance.watch()


def test_forged_frame_does_not_count_as_a_reply(clock: FakeClock) -> None:
    """A function cannot end its invocation with a frame that it made up."""
    assert Ended.TIMED_OUT is FakeInstance(clock, replies=[(2 * MS, [FORGED])]).watch().ended


def test_unfinished_frame_is_no_reply(clock: FakeClock) -> None:
    """The beginning of a reply in the pipe does not stop the clock; the whole of it must be there."""
    verdict = FakeInstance(clock, replies=[(2 * MS, []), (26 * MS, [REPLY])]).watch()

    assert Ended.TIMED_OUT is verdict.ended


def test_flood_of_frames_does_not_stop_the_deadline(clock: FakeClock) -> None:
    """A reply pipe that is never empty is not read for ever: the clock is looked at after each read."""
    instance = FakeInstance(clock, replies=[(0, [FORGED])] * 1000, reading_takes_ns=2 * MS)
    verdict = instance.watch()

    assert (Ended.TIMED_OUT, 25 * MS) == (verdict.ended, verdict.duration_ns)
    assert STARTED_NS + 28 * MS == clock.now_ns


def test_flood_of_frames_does_not_stop_the_looks_at_memory(clock: FakeClock) -> None:
    """Nor can a function use it to hide what it takes."""
    instance = FakeInstance(clock, replies=[(0, [FORGED])] * 1000, reading_takes_ns=2 * MS, memory=[(0, 101)])

    assert Verdict(Ended.OUT_OF_MEMORY, 10 * MS, 101) == instance.watch()


def test_flood_of_output_does_not_delay_the_deadline(clock: FakeClock) -> None:
    """A function that prints without end is stopped like a silent one, at most one read and the last look later."""
    instance = FakeInstance(clock, printing=True, reading_takes_ns=2 * MS)
    verdict = instance.watch()

    assert (Ended.TIMED_OUT, 25 * MS) == (verdict.ended, verdict.duration_ns)
    assert STARTED_NS + 28 * MS == clock.now_ns


def test_flood_of_output_does_not_stop_the_looks_at_memory(clock: FakeClock) -> None:
    """Printing is no way around the limit: the look comes at its time, at most one read later."""
    instance = FakeInstance(clock, printing=True, reading_takes_ns=2 * MS, memory=[(0, 101)])

    assert Verdict(Ended.OUT_OF_MEMORY, 12 * MS, 101) == instance.watch()


def test_reply_is_taken_before_output_is(clock: FakeClock) -> None:
    """A function that returned does not wait for what it printed: the log is emptied afterwards."""
    instance = FakeInstance(clock, replies=[(0, [REPLY])], printing=True)

    assert Ended.REPLIED is instance.watch().ended
    assert 0 == instance.output_reads


def test_bytes_that_are_no_frame_end_the_wait(clock: FakeClock) -> None:
    """The verdict says what came; the instance is of no more use."""
    instance = FakeInstance(clock, broken=True, memory=[(0, 40)], reading_takes_ns=MS)

    assert Verdict(Ended.BROKE_PROTOCOL, MS, 40, detail="nonsense") == instance.watch()


def test_end_of_the_reply_pipe_tells_nothing_by_itself(clock: FakeClock) -> None:
    """A process that dies closes it a moment before its pidfd says so: the exit is the verdict."""
    verdict = FakeInstance(clock, replies=[(3 * MS, [])], exit_at_ns=4 * MS).watch()

    assert (Ended.EXITED, 4 * MS) == (verdict.ended, verdict.duration_ns)


def test_instance_that_closed_its_reply_pipe_runs_into_its_deadline(clock: FakeClock) -> None:
    """It cannot answer any more, but it may be anything except finished."""
    assert Ended.TIMED_OUT is FakeInstance(clock, replies=[(3 * MS, [])]).watch().ended
