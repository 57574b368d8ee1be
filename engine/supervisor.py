"""The one wait for a reply, an exit, a deadline or too much memory.

Theory of operation
-------------------
The thread that invokes waits itself: no hand-over, and a deadline is kept to a fraction of a millisecond. Who
wins a race is decided here and nowhere else, in this order:

1. A complete reply that is in the pipe wins over everything that is noticed at the same time: over a deadline
   that passed while we were not scheduled, and over an exit right after it. It is read before the clock is.
2. Memory over the limit is judged again from the final peak, after the reply: a function that was over it for a
   millisecond between two looks is out of memory every time, not when a look happened to see it.
3. A deadline is judged before an exit, because what ends at the deadline was most likely ended by it. (The
   engine's own kill comes after this wait, and its reason is this verdict; nobody guesses it from a status.)

A frame with another token than the current one is a late or a forged reply: it is dropped. Anything that is no
frame ends the instance. A reply pipe that ends tells nothing by itself: a process that dies closes it a moment
before its pidfd says so, and one that closed it on purpose can still only exit or run into its deadline.
"""

from __future__ import annotations

from typing import Protocol

from engine import channel as ch
from engine.clock import Clock, monotonic_ns
from engine.errors import ProtocolError
from engine.protocol import Frame
from engine.verdict import Ended, Verdict


class Line(Protocol):
    """What is waited on: the pipes of an instance, or a fake of them."""

    def wait(self, timeout_ns: int) -> int:
        """Wait for something to happen."""

    def receive(self) -> list[Frame]:
        """Return the frames that have come."""

    def read_output(self) -> None:
        """Take some output."""


class Watched(Protocol):
    """What has limits while it is waited for."""

    def next_interval_ns(self) -> int:
        """Return how long the next look can wait."""

    def inspect(self, deadline_ns: int) -> Ended | None:
        """Look at what has a limit, and not beyond the deadline; return which one is passed."""

    def judge(self, ended: Ended) -> tuple[Ended, int]:
        """Return the final verdict and the peak."""


def watch(
    line: Line, guard: Watched, *, token: str, started_ns: int, deadline_ns: int, clock: Clock = monotonic_ns
) -> Verdict:
    """Wait until the request with *token* has its reply, or can have none.

    Args:
        line: The pipes of the instance.
        guard: Its limits.
        token: What the reply must carry.
        started_ns: When the request left the engine, on *clock*.
        deadline_ns: When time is up, on *clock*.
        clock: Monotonic nanoseconds.
    """
    try:
        ended, ended_ns, frame = _wait(
            line, guard, token=token, started_ns=started_ns, deadline_ns=deadline_ns, clock=clock
        )
        detail = ""
    except ProtocolError as error:
        ended, ended_ns, frame, detail = Ended.BROKE_PROTOCOL, clock(), None, str(error)
    return judged(guard, ended, ended_ns - started_ns, frame, detail)


def judged(guard: Watched, ended: Ended, duration_ns: int, frame: Frame | None, detail: str = "") -> Verdict:
    """Return the verdict on a wait that *ended* so: memory has the last word."""
    finally_ended, peak_bytes = guard.judge(ended)
    return Verdict(finally_ended, duration_ns, peak_bytes, frame if finally_ended is ended else None, detail)


def _wait(
    line: Line, guard: Watched, *, token: str, started_ns: int, deadline_ns: int, clock: Clock
) -> tuple[Ended, int, Frame | None]:
    """Return why the wait is over, since when, and the reply if that is why."""
    look_at_ns = started_ns + guard.next_interval_ns()
    while True:
        ready = line.wait(min(deadline_ns, look_at_ns) - clock())
        if ready & ch.REPLY:
            frame = _frame_with(token, line.receive())
            if frame is not None:
                return Ended.REPLIED, clock(), frame
        now = clock()
        if now >= deadline_ns or ready & ch.EXIT:
            # Once more: a reply may have come since the look above, while this thread was not scheduled.
            frame = _frame_with(token, line.receive())
            if frame is not None:
                return Ended.REPLIED, clock(), frame
            return (Ended.TIMED_OUT, deadline_ns, None) if now >= deadline_ns else (Ended.EXITED, now, None)
        if ready & ch.OUTPUT:
            line.read_output()
        if now >= look_at_ns:
            passed = guard.inspect(deadline_ns)
            now = clock()
            if passed is not None:
                return passed, now, None
            look_at_ns = now + guard.next_interval_ns()


def _frame_with(token: str, frames: list[Frame]) -> Frame | None:
    for frame in frames:
        if frame.token == token:
            return frame
    return None
