"""Engine.map: events in, results out in the same order, with requests written ahead of the instance.

Theory of operation
-------------------
Two threads. The consumer's, in next(), pulls events from the user's iterable, so that no code of the user runs on a
thread of ours, and takes results. The stream's own, which lives as long as the iteration, has the instance: it
writes requests, waits, keeps the limits and makes the results, whether or not the consumer asks for them just then.

Between them are two deques, which need no lock; a condition is for the one who finds nothing to do. The window - what
was pulled and not yet taken - is bounded by count and by bytes. No more than two events are pulled for a result
that is there, so that it is soon given to who asked for it.

What needs a cold start, and an event too large for the pipe, is invoked as Engine.invoke() does it. An instance that
was lost takes with it the invocation that ran; what was written behind that one goes to the next instance.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from engine.ahead import Ahead, Request, new_requests
from engine.clock import NS_PER_S
from engine.fleet import Fleet, Loan
from engine.instance import Instance
from engine.invocation import Invocation
from engine.model import Function
from engine.payload import encode_event
from engine.result import Result

_WINDOW: Final = 1024
"""Most events between the iterable and the consumer: 12 ms of the fastest function, for a GIL that is held for 5."""

_WINDOW_BYTES: Final = 4 << 20
"""Most bytes of their text; one event may have more, and is then alone."""

_PULLED_BESIDE_A_RESULT: Final = 2
_STOPS_WITHIN_S: Final = 1.0
"""How long an iteration that is left early waits for its thread: hundreds of times what that needs."""

_IN_FLIGHT_BYTES: Final = 256 << 10
_LARGE_BYTES: Final = 32 << 10
"""An event from here on is not written ahead: there is nothing to gain beside its own time."""


class Stream:
    """One running map. Made by one thread, and iterated by one at a time.

    Args:
        fleet: Where instances come from.
        function: What is run for each event.
        tell: Is told of each result, and of the instance that made it.
        billing_step_ms: As the engine's.
    """

    def __init__(
        self, fleet: Fleet, function: Function, tell: Callable[[Instance, Result], None], billing_step_ms: int
    ) -> None:
        self._fleet = fleet
        self._function = function
        self._tell = tell
        self._billing_step_ms = billing_step_ms
        self._pending: deque[Request] = deque()
        self._done: deque[Result | BaseException] = deque()
        # Reentrant: the garbage collector may close a forgotten iteration on any thread, on the stream's own as well.
        # See pool.py for why nothing enters the condition itself.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._is_idle = False  # the stream's thread waits for a request
        self._is_awaited = False  # the consumer waits for a result
        self._is_stopped = False
        self._is_doomed = False  # what is lent was killed by stop()
        self._owed = 0  # results of what was pulled that the consumer has not taken
        self._loan: Loan | None = None

    def results(self, events: Iterable[object]) -> Iterator[Result]:
        """Yield the result of each of *events*, in their order.

        Raises:
            InvalidEventError: In the place of an event that is not JSON.
            EngineError: What the engine cannot do; the results before it were given.
        """
        thread = threading.Thread(target=self._serve, name="fgengine-map", daemon=True)
        try:
            yield from self._results(iter(events), thread)
        finally:
            if not self._fleet.is_copy() and thread.ident is not None:
                self._stop()
                # The garbage collector may have come here: on the thread itself, or on one whose lock that waits for.
                if thread is not threading.current_thread():
                    thread.join(_STOPS_WITHIN_S)

    # The consumer's side.

    def _results(self, events: Iterator[object], thread: threading.Thread) -> Iterator[Result]:
        names, sizes, held_bytes = iter(new_requests()), deque[int](), 0
        trouble: Exception | None = None
        is_open = True
        while True:
            pulled = 0
            while is_open and len(sizes) < _WINDOW and held_bytes < _WINDOW_BYTES:
                if self._done and pulled >= _PULLED_BESIDE_A_RESULT:
                    break
                try:
                    text = encode_event(next(events))
                except StopIteration:
                    is_open = False
                except Exception as error:  # noqa: BLE001  # the iterable's own, or no JSON: told behind the results before it
                    is_open, trouble = False, error
                else:
                    pulled += 1
                    sizes.append(len(text))
                    held_bytes += len(text)
                    self._push(Request(text, *next(names)), thread)
            if not sizes:
                break
            result = self._take()
            held_bytes -= sizes.popleft()
            yield result
        if trouble is not None:
            raise trouble

    def _push(self, request: Request, thread: threading.Thread) -> None:
        self._owed += 1
        self._pending.append(request)
        if thread.ident is None:
            thread.start()
        elif self._is_idle:
            with self._lock:
                self._changed.notify_all()

    def _take(self) -> Result:
        self._fleet.check_process()
        if not self._done:
            with self._lock:
                self._is_awaited = True
                self._changed.wait_for(lambda: self._done)
                self._is_awaited = False
        taken = self._done.popleft()
        if isinstance(taken, BaseException):
            raise taken
        self._owed -= 1
        return taken

    def _stop(self) -> None:
        """End the stream's thread: what is still in flight is killed, for nobody will have its result.

        When all results were taken nothing is, though the thread may still have the instance, about to give it back.
        """
        with self._lock:
            self._is_stopped = True
            if self._loan is not None and self._owed:
                self._is_doomed = True
                self._loan.instance.doom()
            self._changed.notify_all()

    # The side of the stream's own thread.

    def _serve(self) -> None:
        try:
            while self._wait_for_request():
                loan = self._fleet.lend(self._function, self._pending[0].request_id)
                with self._lock:
                    self._loan = loan
                    is_wanted = not self._is_stopped  # it was lent to somebody who left: stop() did not know of it
                try:
                    if not is_wanted:
                        self._return(loan, "interrupted" if loan.is_cold else "")
                    elif loan.is_cold or len(self._pending[0].event) >= _LARGE_BYTES:
                        self._invoke_one(loan)
                    else:
                        self._serve_with(loan)
                finally:
                    if self._loan is not None:
                        self._return(loan, "interrupted")
        except BaseException as error:  # noqa: BLE001  # for the consumer, behind the results that are there
            if not self._is_stopped:
                self._give(error)

    def _wait_for_request(self) -> bool:
        """Wait for something to serve; False when there will be nothing more."""
        if not self._pending:
            with self._lock:
                self._is_idle = True
                self._changed.wait_for(lambda: self._pending or self._is_stopped)
                self._is_idle = False
        return not self._is_stopped

    def _invoke_one(self, loan: Loan) -> None:
        request = self._pending.popleft()
        step_ms = self._billing_step_ms
        invocation = Invocation(loan.instance, request.request_id, is_cold=loan.is_cold, billing_step_ms=step_ms)
        result = invocation.run(request.event)
        if result is None:  # it never took its request: another instance will
            self._pending.appendleft(request)
        self._return(loan, invocation.reason_to_end(result), request.request_id)
        if result is not None:
            self._tell(loan.instance, result)
            self._give(result)

    def _serve_with(self, loan: Loan) -> None:
        """Write ahead to a warm instance until it is lost or nothing is left to write."""
        ahead = loan.instance.open_ahead()
        reason, is_alive, is_healthy = "", True, True
        invocation = Invocation(loan.instance, "", is_cold=False, billing_step_ms=self._billing_step_ms)
        while is_alive and not ahead.is_over:
            if is_healthy and not self._is_stopped and loan.pool.staged.is_current():
                ahead.write(self._next_requests(ahead))
            if not ahead.in_flight:
                break
            for request, verdict, log in ahead.wait():
                invocation.request_id = request.request_id
                result = invocation.conclude(verdict, time.time() - verdict.duration_ns / NS_PER_S, log)
                is_alive = log is not None
                if not invocation.survived:
                    is_healthy, reason = False, invocation.reason_to_end(result)
                self._tell(loan.instance, result)
                self._done.append(result)
            if self._is_awaited:
                with self._lock:
                    self._changed.notify_all()
        self._pending.extendleft(reversed(ahead.in_flight))  # not started: for the next instance
        loan.instance.close_ahead(ahead)
        self._return(loan, reason or ("unusable" if ahead.is_over else ""))

    def _next_requests(self, ahead: Ahead) -> list[Request]:
        """Take from what is pending as much as may be in flight, up to an event that is too large for that."""
        room_bytes = _IN_FLIGHT_BYTES - sum(len(request.event) for request in ahead.in_flight)
        requests = []
        while self._pending and room_bytes > 0 and len(self._pending[0].event) < _LARGE_BYTES:
            request = self._pending.popleft()
            room_bytes -= len(request.event)
            requests.append(request)
        return requests

    def _give(self, item: Result | BaseException) -> None:
        self._done.append(item)
        with self._lock:
            self._changed.notify_all()

    def _return(self, loan: Loan, reason: str, request_id: str | None = None) -> None:
        with self._lock:
            self._loan = None  # before it is anybody else's: stop() kills what is lent to the stream
            if self._is_doomed and not reason:
                # It had replied to everything. It looks healthy for a moment, and would be lent to somebody else.
                reason = "interrupted"
        self._fleet.take_back(loan, reason, request_id)
