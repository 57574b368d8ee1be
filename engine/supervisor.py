"""The one wait for a reply, an exit, a deadline or too much memory.

Theory of operation
-------------------
The thread that invokes waits itself: no hand-over, and a deadline is kept to a fraction of a millisecond. Who
wins a race is decided here and nowhere else, in this order:

1. A complete reply that is in the pipe wins over everything that is noticed at the same time: over a deadline
   that passed while we were not scheduled, and over an exit right after it. It is read before the clock is.
2. Memory over the limit is judged again from the final peak, after the reply: a function that was over it for a
   millisecond between two samples is out of memory every time, not when a sample happened to see it.
3. A deadline is judged before an exit, because what ends at the deadline was most likely ended by it. (The
   engine's own kill comes after this wait, and its reason is this verdict; nobody guesses it from a status.)

A frame with another token than the current one is a late or a forged reply: it is dropped. Anything that is no
frame ends the instance. A reply pipe that ends tells nothing by itself: a process that dies closes it a moment
before its pidfd says so, and one that closed it on purpose can still only exit or run into its deadline.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from engine import channel as ch
from engine.clock import Clock, monotonic_ns
from engine.errors import ProtocolError
from engine.protocol import Frame


class Ended(enum.Enum):
    """How a wait ended."""

    REPLIED = "replied"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    EXITED = "exited"
    BROKE_PROTOCOL = "broke_protocol"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a wait ended, when, and with which peak.

    Attributes:
        frame: The reply, when there was one that counts.
        duration_ns: From the request to the verdict; never beyond the deadline for TIMED_OUT.
        peak_bytes: Peak memory of the tree.
        detail: What broke the protocol, in words.
    """

    ended: Ended
    duration_ns: int
    peak_bytes: int
    frame: Frame | None = None
    detail: str = ""


class Line(Protocol):
    """What is waited on: the pipes of an instance, or a fake of them."""

    def wait(self, timeout_ns: int) -> int:
        """Wait for something to happen."""

    def receive(self) -> list[Frame]:
        """Return the frames that have come."""

    def read_output(self) -> None:
        """Take some output."""


class Meter(Protocol):
    """What measures memory."""

    def sample(self) -> int:
        """Return the bytes in use now."""

    def peak_bytes(self) -> int:
        """Return the peak so far."""

    def next_interval_ns(self, used_bytes: int) -> int:
        """Return how long the next sample can wait."""


def watch(
    line: Line,
    meter: Meter,
    *,
    token: str,
    started_ns: int,
    deadline_ns: int,
    limit_bytes: int,
    clock: Clock = monotonic_ns,
) -> Verdict:
    """Wait until the request with *token* has its reply, or can have none.

    Args:
        line: The pipes of the instance.
        meter: Its memory.
        token: What the reply must carry.
        started_ns: When the request left the engine, on *clock*.
        deadline_ns: When time is up, on *clock*.
        limit_bytes: Memory that the tree may use.
        clock: Monotonic nanoseconds.
    """
    sample_at_ns = started_ns + meter.next_interval_ns(0)
    while True:
        ready = line.wait(min(deadline_ns, sample_at_ns) - clock())
        if ready & ch.REPLY:
            try:
                frame = _frame_with(token, line.receive())
            except ProtocolError as error:
                return Verdict(Ended.BROKE_PROTOCOL, clock() - started_ns, meter.peak_bytes(), detail=str(error))
            if frame is not None:
                return _judged(Ended.REPLIED, clock() - started_ns, meter, limit_bytes, frame)
        now = clock()
        if now >= deadline_ns:
            return _judged(Ended.TIMED_OUT, deadline_ns - started_ns, meter, limit_bytes)
        if ready & ch.EXIT:
            return Verdict(Ended.EXITED, now - started_ns, meter.peak_bytes())
        if ready & ch.OUTPUT:
            line.read_output()
        if now >= sample_at_ns:
            used = meter.sample()
            if used > limit_bytes:
                return Verdict(Ended.OUT_OF_MEMORY, clock() - started_ns, max(used, meter.peak_bytes()))
            sample_at_ns = clock() + meter.next_interval_ns(used)


def _judged(ended: Ended, duration_ns: int, meter: Meter, limit_bytes: int, frame: Frame | None = None) -> Verdict:
    """Return the verdict *ended*, unless the final peak says that memory ran out on the way there."""
    peak_bytes = meter.peak_bytes()
    if peak_bytes > limit_bytes:
        ended, frame = Ended.OUT_OF_MEMORY, None
    return Verdict(ended, duration_ns, peak_bytes, frame)


def _frame_with(token: str, frames: list[Frame]) -> Frame | None:
    for frame in frames:
        if frame.token == token:
            return frame
    return None
