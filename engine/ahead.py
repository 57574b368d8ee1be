"""Requests written ahead into the pipe of one warm instance, so that it never waits for the next.

Theory of operation
-------------------
One thread of the instance serves requests in the order in which they were written. So at any moment at most one of
them runs: the first that has no reply, the head. Its time begins when the reply to the one before was seen, or when it
was written, if there was none before it. Deadline, looks at the limits and exits are the head's; what is behind it has
not started, and can run again elsewhere when the instance has to go.

Replies that are found together ended within one span of the engine's clock. It is shared out among them in the
proportions that the child claims: a lie moves time among invocations of the same function that ended together, and
changes nothing of their sum. They have one peak of memory, the kernel's mark over all of them, which is an upper bound
for each. The head has begun by then, and nobody knows how much of that mark is its own: it is an upper bound for the
head as well. If it is over the limit, the one that claims the longest time is told so, and the others were within it.

Before the engine kills for a deadline or a limit, it stops the instance and looks for a reply once more: one that
was written in the last moment wins, and the next request, which had begun by then, goes on.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NamedTuple

from engine import proc, protocol
from engine.channel import EXIT, OUTPUT, REPLY, Channel
from engine.clock import NS_PER_MS, monotonic_ns
from engine.guard import Guard
from engine.logring import LogCutter, LogTail
from engine.names import request_ids, tokens
from engine.protocol import Frame
from engine.verdict import Ended, Verdict

_STOPS_WITHIN_NS: Final = 20 * NS_PER_MS
"""How long a stop may take: a hundred times what it takes on an idle machine. What cannot be stopped is killed."""

_RANDOM_AT_ONCE: Final = 512
"""Each call gives the GIL away, to a thread that keeps it for milliseconds."""


class Request:
    """One event on its way: its JSON text, the id of its invocation, and the token that its reply must carry."""

    __slots__ = ("event", "request_id", "token")

    def __init__(self, event: bytes, request_id: str, token: str) -> None:
        self.event = event
        self.request_id = request_id
        self.token = token


class Finished(NamedTuple):
    """How a request ended. The log is None where there is no reply: it is complete once the instance is dead."""

    request: Request
    verdict: Verdict
    log: LogTail | None


class Ahead:
    """Writes requests ahead to one instance and tells how they end. For one thread at a time.

    Attributes:
        in_flight: What was written and has no reply: the head, which runs, and what has not started.
        is_over: Whether the head was lost, or what came was no frame: the instance has to be killed.
    """

    def __init__(self, channel: Channel, guard: Guard, pid: int, timeout_ns: int) -> None:
        self.in_flight: deque[Request] = deque()
        self.is_over = False
        self._channel = channel
        self._guard = guard
        self._pid = pid
        self._timeout_ns = timeout_ns
        self._log = LogCutter(channel.log_bytes)
        self._kept_log, channel.log = channel.log, self._log
        self._free_at_ns = 0
        self._look_at_ns = 0
        self._is_first = False  # nothing was written or answered since the head was written
        self._earlier_peak_bytes = 0  # of what was judged last: the head had begun by then
        channel.widen()

    def write(self, requests: Iterable[Request]) -> None:
        """Write *requests* behind those that are in flight."""
        frames = []
        for request in requests:
            self.in_flight.append(request)
            frames.append(
                protocol.encode_call_ahead(request.token, self._timeout_ns, request.request_id, request.event)
            )
        self._is_first = len(frames) == len(self.in_flight)
        if self._is_first:
            self._earlier_peak_bytes = 0
            self._begin()
            self._channel.send(b"".join(frames))
        elif frames:
            self._channel.send_behind(b"".join(frames))

    def wait(self) -> list[Finished]:
        """Wait until something in flight ended: those that have a reply, or the head, which can have none.

        Returns nothing when the instance died before it took what was written: all of it is still in flight.
        """
        while True:
            deadline_ns = self._free_at_ns + self._timeout_ns
            ready = self._channel.wait(min(deadline_ns, self._look_at_ns) - monotonic_ns())
            if ready & REPLY:
                finished = self._collect()
                if finished:
                    return finished
            now = monotonic_ns()
            ended = None
            if now >= deadline_ns:
                ended = Ended.TIMED_OUT
            elif ready & EXIT:
                ended = Ended.EXITED
            elif now >= self._look_at_ns:
                ended = self._guard.inspect(deadline_ns)
                self._look_at_ns = monotonic_ns() + self._guard.next_interval_ns()
            if ended is not None:
                return self._last_look() or self._given_up(ended)
            if ready & OUTPUT:
                self._channel.read_output()
                self._log.flow(protocol.end_of_log(self.in_flight[0].token))

    def close(self) -> None:
        """Leave the channel as it was."""
        self._channel.listen()
        self._channel.log = self._kept_log

    def _begin(self) -> None:
        """Let the time of the head begin now."""
        self._guard.start(monotonic_ns())
        self._free_at_ns = monotonic_ns()
        self._look_at_ns = self._free_at_ns + self._guard.next_interval_ns()

    def _collect(self) -> list[Finished]:
        """Return what has its reply by now; a lost head behind them when what follows is no frame."""
        frames, error = self._channel.receive_all()
        in_flight = self.in_flight
        replied = [  # frames with other tokens are late or forged
            (in_flight.popleft(), frame) for frame in frames if in_flight and frame.token == in_flight[0].token
        ]
        finished = self._judged(replied) if replied else []
        if error is not None and in_flight:
            finished.append(self._lost(Ended.BROKE_PROTOCOL, str(error)))
        self.is_over = self.is_over or error is not None
        return finished

    def _judged(self, replied: list[tuple[Request, Frame]]) -> list[Finished]:
        """Return the verdicts on what ended since the last look, and let the time of the next one begin."""
        self._channel.read_pending_output()  # written before the replies were
        ended, marked_bytes = self._guard.judge(Ended.REPLIED)
        within_bytes = min(marked_bytes, self._guard.limits.memory_bytes)
        claims = [frame.claimed_ns for _, frame in replied]
        spans = shares(monotonic_ns() - self._free_at_ns, claims)
        culprit = -1 if ended is Ended.REPLIED else claims.index(max(claims))
        finished = []
        for at, (request, frame) in enumerate(replied):
            if at == culprit:
                verdict = Verdict(ended, spans[at], max(marked_bytes, self._earlier_peak_bytes))
            else:
                verdict = Verdict(Ended.REPLIED, spans[at], max(within_bytes, self._earlier_peak_bytes), frame)
            finished.append(Finished(request, verdict, self._log.take_until(protocol.end_of_log(request.token))))
        self._is_first = False
        if self.in_flight:
            self._earlier_peak_bytes = within_bytes
            self._begin()
        return finished

    def _given_up(self, ended: Ended) -> list[Finished]:
        if ended is Ended.EXITED and self._is_first and self._channel.is_unread():
            self.is_over = True
            return []
        return [self._lost(ended)]

    def _last_look(self) -> list[Finished]:
        """Return what replied in the last moment, with the instance stopped meanwhile, so that nothing else begins."""
        with suppress(OSError):
            signal.pidfd_send_signal(self._channel.pidfd, signal.SIGSTOP)
        give_up_ns = monotonic_ns() + _STOPS_WITHIN_NS
        while not proc.is_stopped(self._pid) and monotonic_ns() < give_up_ns:
            os.sched_yield()
        finished = self._collect()
        if finished and not self.is_over:
            with suppress(OSError):
                signal.pidfd_send_signal(self._channel.pidfd, signal.SIGCONT)
        return finished

    def _lost(self, ended: Ended, detail: str = "") -> Finished:
        """Return the verdict on the head, which has no reply."""
        self.is_over = True
        span_ns = self._timeout_ns if ended is Ended.TIMED_OUT else monotonic_ns() - self._free_at_ns
        finally_ended, peak_bytes = self._guard.judge(ended)
        peak_bytes = max(peak_bytes, self._earlier_peak_bytes)
        return Finished(self.in_flight.popleft(), Verdict(finally_ended, span_ns, peak_bytes, None, detail), None)


def shares(span_ns: int, claims: list[int]) -> list[int]:
    """Return *span_ns* in whole parts that are as the *claims* are, and that add up to it."""
    total = sum(claims)
    if not total:
        claims, total = [1] * len(claims), len(claims)
    parts, given_ns, claimed = [], 0, 0
    for claim in claims:
        claimed += claim
        until_ns = span_ns * claimed // total
        parts.append(until_ns - given_ns)
        given_ns = until_ns
    return parts


def new_requests() -> Iterable[tuple[str, str]]:
    """Give request ids, random UUIDs of version 4, and tokens of 64 random bits, without end."""
    while True:
        yield from zip(request_ids(_RANDOM_AT_ONCE), tokens(_RANDOM_AT_ONCE), strict=True)
