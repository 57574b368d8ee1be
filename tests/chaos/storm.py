"""Runs a plan on several engines and threads at once, and collects what was not true.

Theory of operation
-------------------
A slot is a place for an engine; its threads take the next case of the plan and run it on whatever engine is there.
Now and then one of them puts a new engine there and closes the old one while the others use it: their calls raise
EngineClosedError, or their futures are cancelled, and are made again on the new one. Each engine has other
options than the one before.

An invocation that is to be struck from outside reports its process over a named pipe. It runs by ``submit``, and
the thread of its case strikes in the meantime. In a container it would not see the pipe, so it is never in one.
"""

from __future__ import annotations

import os
import select
import threading
import time
import traceback
import weakref
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait
from itertools import islice
from pathlib import Path
from typing import Any, Final

from engine import Engine, EngineClosedError, Result
from tests.chaos.cases import Case
from tests.chaos.processes import Identity, Strikes
from tests.chaos.truth import Circumstances, ended_by_kill, identities, judge, judge_all

SLOTS: Final = 2
THREADS_PER_SLOT: Final = 3
MOST_PROBLEMS: Final = 20
_MOST_PROBLEM_CHARS: Final = 1000
_MOST_TRIES: Final = 10
_REPORT_BYTES: Final = 100
_LOOK_AGAIN_MS: Final = 10

OPTIONS: Final[tuple[dict[str, Any], ...]] = (
    {"max_instances": 4},
    {"max_instances": 2, "billing_step_ms": 100, "log_bytes": 1000, "idle_timeout_s": 0.02},
    {"max_instances": 2, "start_method": "spawn"},
    {"max_instances": 3, "memory_enforcement": "sample"},
    {"max_instances": 3, "isolation": "container"},
)


class Slot:
    """A place for an engine. Thread-safe."""

    def __init__(self, number: int, all_options: Sequence[dict[str, Any]]) -> None:
        self._generation = number
        self._all_options = all_options
        self._lock = threading.Lock()
        self._closing: weakref.WeakSet[Engine] = weakref.WeakSet()  # a closed engine is not kept by us
        self.reported: deque[Identity] = deque(maxlen=8)
        self._open()

    def current(self) -> tuple[Engine, dict[str, Any], set[Identity]]:
        """Return the engine, its options, and a set for the processes that are seen on it."""
        with self._lock:
            return self._engine, self._options, self._seen

    def is_closing(self, engine: Engine) -> bool:
        """Whether *engine* was closed, or is about to be."""
        with self._lock:
            return engine in self._closing

    def reopen(self) -> list[Identity]:
        """Put another engine in the place, close the old one; return the processes that outlived it."""
        with self._lock:
            old, seen = self._engine, self._seen
            self._closing.add(old)
            self._open()
        return _close(old, seen)

    def close(self) -> list[Identity]:
        """Close the engine; return the processes that outlived it."""
        return _close(self._engine, self._seen)

    def _open(self) -> None:
        self._options = self._all_options[self._generation % len(self._all_options)]
        self._generation += 1
        self._engine = Engine(**self._options)
        self._seen: set[Identity] = set()


def _close(engine: Engine, seen: set[Identity]) -> list[Identity]:
    engine.close()
    return [each for each in list(seen) if each.is_there()]


class Storm:
    """One run of a plan.

    Args:
        folder: For named pipes.
        all_options: What each engine of a slot has instead of those of the one before.

    Attributes:
        problems: What was not true, in words.
        outcomes: How many cases ended how.
        strikes: What was sent from outside.
        contained: How many results came from containers.
        progress: Counts the cases that are over.
    """

    def __init__(self, folder: Path, all_options: Sequence[dict[str, Any]]) -> None:
        self._folder = folder
        self._slots = [Slot(-number, all_options) for number in range(SLOTS)]  # the first and the last options
        self._lock = threading.Lock()
        self._request_ids: set[str] = set()
        self._families: dict[Identity, set[Identity]] = {}
        self.strikes = Strikes()
        self.problems: list[str] = []
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.contained = 0
        self.progress = 0
        self.reopened = 0

    def run(self, cases: list[Case]) -> Iterator[None]:
        """Run *cases* to their end, or until too much was not true; yields now and then, for a watchdog's sake."""
        queue = deque(cases)
        threads = [
            threading.Thread(target=self._work, args=(slot, queue), name=f"chaos-{number}")
            for slot in self._slots
            for number in range(THREADS_PER_SLOT)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)
                yield

    def close(self) -> None:
        """Close the engines."""
        for slot in self._slots:
            self._note_left(slot.close())

    def _work(self, slot: Slot, queue: deque[Case]) -> None:
        while len(self.problems) < MOST_PROBLEMS:
            try:
                case = queue.popleft()
            except IndexError:
                return
            try:
                self._run_case(slot, case)
            except Exception as error:  # noqa: BLE001  # whatever the engine raises is what we are here to find
                frames = [f"{each.name} ({each.lineno})" for each in traceback.extract_tb(error.__traceback__)]
                self._note(case, f"raised {error!r} {error} in {' > '.join(frames)}")
            self.progress += 1

    def _run_case(self, slot: Slot, case: Case) -> None:
        self._prepare(slot, case)
        for _ in range(_MOST_TRIES):
            engine, options, seen = slot.current()
            started = time.monotonic()
            try:
                results = self._map(engine, case) if case.copies else [self._invoke(engine, slot, case)]
            except (EngineClosedError, CancelledError):  # the latter: submitted, and not begun when it was closed
                if not slot.is_closing(engine):
                    raise
                self.outcomes[case.kind, "closed"] += 1
                continue
            elapsed_ms = (time.monotonic() - started) * 1000
            known = Circumstances(options, elapsed_ms, self.strikes)
            for problem in judge_all(case, results, known):
                self._note(case, f"{problem} [{options}]")
            for result in results:
                self._note_processes(case, result, seen)
                for problem in judge(case, result, known):
                    self._note(case, f"{problem} [{options}]")
                self._count(case, result)
            return
        self._note(case, f"found a closed engine {_MOST_TRIES} times")

    def _prepare(self, slot: Slot, case: Case) -> None:
        if case.before == "reopen":
            self.reopened += 1
            self._note_left(slot.reopen())
        elif case.before == "release_idle":
            try:
                slot.current()[0].release_idle()
            except EngineClosedError:
                return  # another thread put a new engine in its place just now
        elif case.before == "strike":
            # The newest one that is still there: it is idle, or just handed out to somebody.
            any(self.strikes.strike(each, case.signals) for each in reversed(list(slot.reported)))

    def _invoke(self, engine: Engine, slot: Slot, case: Case) -> Result:
        arguments = {"request_id": case.request_id, "timeline": case.is_timeline_wanted}
        if case.event["do"] != "report":
            return engine.invoke(case.function, case.make_event(), **arguments)
        path = self._folder / f"{case.nonce}-{threading.get_ident()}"
        os.mkfifo(path)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            future = engine.submit(case.function, {**case.make_event(), "pipe": str(path)}, **arguments)
            target = _reported(reading, future)
            if target is not None:
                slot.reported.append(target)
                if case.before != "strike":
                    wait([future], timeout=case.strike_after_s)
                    self.strikes.strike(target, case.signals)
            return future.result()
        finally:
            os.close(reading)
            path.unlink()

    def _map(self, engine: Engine, case: Case) -> list[Result]:
        results = engine.map(case.function, (case.make_event() for _ in range(case.copies)))
        taken = list(islice(results, case.taken))
        results.close()  # type: ignore[attr-defined]  # a generator
        return taken

    def _count(self, case: Case, result: Result) -> None:
        with self._lock:
            self.contained += result.isolation == "container"
            self.outcomes[case.kind + " by map" * bool(case.copies), result.status.value] += 1
            if result.summary.request_id in self._request_ids:
                self.problems.append(f"request id {result.summary.request_id} twice")
            self._request_ids.add(result.summary.request_id)

    def _note(self, case: Case, problem: str) -> None:
        event = {key: value for key, value in case.event.items() if key not in ("nonce", "value")}
        with self._lock:
            runtime = case.function.runtime
            what = f"#{case.number} {case.kind} on {runtime}, {case.function.name} {event}: {problem}"
            self.problems.append(what[:_MOST_PROBLEM_CHARS])

    def _note_processes(self, case: Case, result: Result, seen: set[Identity]) -> None:
        """Remember who is there; once an instance is dead nothing that it ever started is, be it a zombie."""
        if result.isolation == "container":
            return  # its numbers are those of its own namespace
        named = identities(result.log)
        seen.update(named)
        if not named:
            return
        with self._lock:
            family = self._families.pop(named[0], set()) | set(named)
            if not ended_by_kill(result):
                self._families[named[0]] = family
                return
        left = [each for each in family if each.is_there()]
        if left:
            self._note(case, f"{left} are there after {result.status.value}")

    def _note_left(self, left: list[Identity]) -> None:
        if left:
            with self._lock:
                self.problems.append(f"{left} outlived their engine")


def _reported(reading: int, future: Future[Result]) -> Identity | None:
    """Wait for the report of an instance; None when the invocation ended without one."""
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    while not poll.poll(_LOOK_AGAIN_MS):
        if future.done():
            return None
    words = os.read(reading, _REPORT_BYTES).split()
    return Identity(*map(int, words)) if words else None
