"""Engine.map with requests written ahead: each invocation keeps its own deadline, bill, memory, log and end."""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine import Engine, EngineClosedError, InvalidEventError, Result, Status
from engine.ahead import Ahead, new_requests, shares
from engine.channel import Channel
from engine.fleet import Fleet, Loan
from engine.instance import Instance
from engine.stream import Stream

if TYPE_CHECKING:
    from tests.conftest import DeathWatch, FunctionMaker

WINDOW = 1024

ACTING = """
    import os
    import sys
    import time

    calls = []

    def handler(event, context):
        calls.append(event["id"])
        with open(os.environ["RAN"], "a") as ran:
            ran.write("%d\\n" % event["id"])
        do = event.get("do")
        if do == "print":
            for at in range(event["lines"]):
                print("%d line %d" % (event["id"], at))
        elif do == "warn":
            sys.stderr.write("%d warns" % event["id"])
        elif do == "raise":
            raise ValueError("no %d" % event["id"])
        elif do == "exit":
            print("going %d" % event["id"])
            os._exit(event["status"])
        elif do == "hang":
            print("hanging %d" % event["id"])
            while True:
                time.sleep(1)
        elif do == "invalid":
            return {1, 2}
        elif do == "grow":
            return len(bytearray(event["megabytes"] * 2 ** 20).replace(b"\\0", b"1"))
        elif do == "large":
            return "x" * event["bytes"]
        return [event["id"], os.getpid(), context.getRequestID()]
"""
"""Does what its event says; each run is told in a file."""


@pytest.fixture(name="acting")
def _acting(make_function: FunctionMaker, tmp_path: Path) -> Any:
    def make(**description: Any) -> Any:
        return make_function(ACTING, user_data={"RAN": str(tmp_path / "ran")}, **description)

    return make


def ran_so_far(function: Any) -> list[int]:
    """Which of a function's events were run, by its own description."""
    return ran(Path(function.user_data["RAN"]).parent)


def ran(tmp_path: Path) -> list[int]:
    """Which events were run, in the order of time."""
    return [int(line) for line in (tmp_path / "ran").read_text().split()]


def essence(result: Result) -> tuple[Any, ...]:
    """What does not differ between two runs of the same event."""
    value = result.value[0] if isinstance(result.value, list) else result.value
    return result.status, result.error_code, result.error, value, result.log, result.log_dropped_bytes


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_map_gives_what_single_calls_give(own_engine: Engine, acting: Any, tmp_path: Path, seed: int) -> None:
    """A mix of successes, failures, output, exits and deadlines: result by result the same, each event run once."""
    numbers = random.Random(seed)
    kinds = [
        {},
        {},
        {"do": "print", "lines": 3},
        {"do": "print", "lines": 900},
        {"do": "warn"},
        {"do": "raise"},
        {"do": "invalid"},
        {"do": "large", "bytes": 200_000},
    ]
    events = [{"id": at, **numbers.choice(kinds)} for at in range(300)]
    for at in numbers.sample(range(300), 6):
        events[at] = {"id": at, "do": "exit", "status": at % 7}
    for at in numbers.sample(range(300), 3):
        events[at] = {"id": at, "do": "hang"}
    function = acting(timeout_s=0.5)
    singly = [essence(own_engine.invoke(function, event)) for event in events]
    (tmp_path / "ran").unlink()
    mapped = list(own_engine.map(function, events))

    assert singly == [essence(result) for result in mapped]
    assert list(range(300)) == ran(tmp_path)
    assert 300 == len({result.summary.request_id for result in mapped})


def test_instance_serves_them_one_after_the_other(own_engine: Engine, acting: Any) -> None:
    """One process, one cold start, and the context's request id is the summary's."""
    results = list(own_engine.map(acting(), [{"id": at} for at in range(50)]))

    assert [True] + [False] * 49 == [result.cold_start for result in results]
    assert 1 == len({result.value[1] for result in results})
    assert [result.summary.request_id for result in results] == [result.value[2] for result in results]


@pytest.mark.slow
def test_timeout_is_the_deadline_of_its_own_invocation(own_engine: Engine, acting: Any, tmp_path: Path) -> None:
    """What was written behind it runs on a new instance, once, and has all its time."""
    events = [{"id": 0}, {"id": 1}, {"id": 2, "do": "hang"}, {"id": 3}, {"id": 4, "do": "hang"}, {"id": 5}]
    results = list(own_engine.map(acting(timeout_s=0.5), events))

    assert [
        Status.SUCCESS,
        Status.SUCCESS,
        Status.TIMEOUT,
        Status.SUCCESS,
        Status.TIMEOUT,
        Status.SUCCESS,
    ] == [result.status for result in results]
    assert [500.0, 500.0] == [results[at].summary.duration_ms for at in (2, 4)]
    assert "hanging 2\n" == results[2].log
    assert [0, 1, 2, 3, 4, 5] == ran(tmp_path)


def test_exit_fails_the_one_that_ran(own_engine: Engine, acting: Any, tmp_path: Path) -> None:
    """Those before it have their replies, those behind it run elsewhere."""
    events = [{"id": at} for at in range(20)]
    events[7] = {"id": 7, "do": "exit", "status": 3}
    results = list(own_engine.map(acting(), events))

    assert [7] == [at for at, result in enumerate(results) if not result.ok]
    assert results[7].error is not None
    assert "runtime process is exited, exit status 3" == results[7].error["errorMessage"]
    assert ("going 7\n", 0) == (results[7].log, results[7].log_dropped_bytes)
    assert 2 == len({result.value[1] for result in results if result.ok})
    assert list(range(20)) == ran(tmp_path)


def test_memory_over_the_limit_is_found(own_engine: Engine, acting: Any) -> None:
    """Also when it was given back before the reply; and the rest succeeds."""
    events = [{"id": at} for at in range(10)]
    events[5] = {"id": 5, "do": "grow", "megabytes": 100}
    results = list(own_engine.map(acting(memory_mb=128, timeout_s=20.0), events))

    assert Status.OUT_OF_MEMORY is results[5].status
    assert [5] == [at for at, result in enumerate(results) if not result.ok]
    assert results[5].summary.memory_used_mb > 128
    assert all(result.summary.memory_used_mb <= 128 for result in results if result.ok)


def test_each_has_its_own_log(own_engine: Engine, acting: Any) -> None:
    """The newest 4096 bytes of what it wrote, not of what its neighbours wrote."""
    events = [{"id": at, "do": "print", "lines": at * 10} for at in range(60)]
    results = list(own_engine.map(acting(), events))

    for at, result in enumerate(results):
        text = "".join(f"{at} line {line}\n" for line in range(at * 10))
        assert (text[-4096:], max(0, len(text) - 4096)) == (result.log, result.log_dropped_bytes)


@pytest.mark.slow
def test_output_without_end_blocks_nobody(own_engine: Engine, acting: Any) -> None:
    """Far more than the pipe holds, while the next ones are written already."""
    events = [{"id": at, "do": "print", "lines": 50_000} for at in range(4)]
    results = list(own_engine.map(acting(timeout_s=30.0), events))

    for at, result in enumerate(results):
        assert result.log.endswith(f"{at} line 49998\n{at} line 49999\n")
        assert len(result.log) == 4096


@pytest.mark.slow
def test_large_events_are_bounded_and_in_order(own_engine: Engine, acting: Any) -> None:
    """Megabytes among small ones; no more than a few of them are pulled ahead."""
    pulled = itertools.count()
    held = []

    def events() -> Iterator[Any]:
        for at in range(12):
            next(pulled)
            yield {"id": at, "text": "x" * (3 << 20 if at % 3 else 10)}

    for result in own_engine.map(acting(memory_mb=512, timeout_s=20.0), events()):
        held.append(next(pulled) - len(held) * 2)
        assert result.ok
        assert len(held) - 1 == result.value[0]
    assert max(held) <= 6


def test_results_before_a_wrong_event_are_not_lost(own_engine: Engine, acting: Any) -> None:
    """The error is raised in the place of that event, and nothing behind it is pulled."""
    events = iter([{"id": 0}, {"id": 1}, {2}, {"id": 3}])
    results = own_engine.map(acting(), events)

    assert [0, 1] == [next(results).value[0] for _ in range(2)]
    with pytest.raises(InvalidEventError):
        next(results)
    assert [{"id": 3}] == list(events)


def test_exception_of_the_iterable_comes_behind_the_results(own_engine: Engine, acting: Any) -> None:
    """As from any generator that fails in the middle."""

    def events() -> Iterator[Any]:
        yield {"id": 0}
        yield {"id": 1}
        raise LookupError("no more")

    results = own_engine.map(acting(), events())

    assert [0, 1] == [next(results).value[0] for _ in range(2)]
    with pytest.raises(LookupError, match="no more"):
        next(results)


def test_iterable_runs_on_the_thread_that_asks(own_engine: Engine, acting: Any) -> None:
    """No code of the user on a thread of ours."""
    threads = set()

    def events() -> Iterator[Any]:
        for at in range(5):
            threads.add(threading.current_thread())
            yield {"id": at}

    assert 5 == len(list(own_engine.map(acting(), events())))
    assert {threading.current_thread()} == threads


def map_threads() -> list[threading.Thread]:
    """The threads of running maps."""
    return [thread for thread in threading.enumerate() if thread.name == "fgengine-map"]


def test_leaving_early_leaves_nothing_behind(
    own_engine: Engine, acting: Any, tmp_path: Path, wait_until_dead: DeathWatch
) -> None:
    """The one that runs is killed, the others are not begun, and the thread has ended."""
    events = [{"id": 0}, {"id": 1}, {"id": 2, "do": "hang"}, {"id": 3}]
    function = acting(timeout_s=30.0)
    own_engine.invoke(function, {"id": -1})
    results = own_engine.map(function, events)
    pid = next(results).value[1]
    next(results)
    results.close()  # type: ignore[attr-defined]  # a generator

    wait_until_dead(pid)
    assert [] == map_threads()
    assert 3 not in ran(tmp_path)
    assert own_engine.invoke(function, {"id": 9}).ok


def test_forgotten_iteration_ends(own_engine: Engine, acting: Any) -> None:
    """Garbage collection is as good as close()."""
    results = own_engine.map(acting(timeout_s=30.0), [{"id": 0}, {"id": 1, "do": "hang"}])
    next(results)
    assert 1 == len(map_threads())
    del results
    gc.collect()

    assert [] == map_threads()


@pytest.fixture(name="reasons")
def _reasons(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Why instances were given back, as long as the test runs."""
    reasons: list[str] = []
    take_back = Fleet.take_back

    def noting(fleet: Fleet, loan: Loan, reason: str, request_id: str | None = None) -> None:
        reasons.append(reason)
        take_back(fleet, loan, reason, request_id)

    monkeypatch.setattr(Fleet, "take_back", noting)
    return reasons


def test_leaving_in_the_last_moment_gives_nobody_a_dying_instance(
    own_engine: Engine, acting: Any, reasons: list[str]
) -> None:
    """What is killed when the consumer leaves is given back as dead, also when it has answered everything by then."""

    def wait_for_the_end(_: Instance, result: Result) -> None:
        if result.value[0] == 0:
            first_is_told.set()
        if result.value[0] == 1:
            answered.set()
            while not stream._is_stopped:
                os.sched_yield()

    def events() -> Iterator[Any]:
        """The second only when the first was answered: answered together, none is announced before both are told."""
        yield {"id": 0}
        first_is_told.wait()
        yield {"id": 1}

    first_is_told, answered, function = threading.Event(), threading.Event(), acting()
    stream = Stream(own_engine._fleet, function, wait_for_the_end, 1)
    own_engine.invoke(function, {"id": -1})
    results = stream.results(events())
    next(results)
    answered.wait()
    results.close()  # type: ignore[attr-defined]  # a generator

    assert "interrupted" == reasons[-1]
    assert own_engine.invoke(function, {"id": 9}).ok


def test_iteration_that_is_forgotten_on_its_own_thread_ends(
    own_engine: Engine, acting: Any, reasons: list[str]
) -> None:
    """The garbage collector runs wherever it is due, and never makes a thread wait for itself."""
    held: list[Any] = []
    troubles: list[Any] = []

    def forget(_: Instance, result: Result) -> None:
        if result.value[0] == 1:
            go.wait()
            held.clear()
            gc.collect()

    go = threading.Event()
    stream = Stream(own_engine._fleet, acting(), forget, 1)
    held.append(stream.results([{"id": 0}, {"id": 1}]))
    next(held[0])
    thread, usual, sys.unraisablehook = map_threads()[0], sys.unraisablehook, troubles.append
    try:
        go.set()
        thread.join()
    finally:
        sys.unraisablehook = usual

    assert [] == troubles
    assert "interrupted" == reasons[-1]


def test_closing_the_engine_ends_the_iteration(acting: Any) -> None:
    """From another thread, in the middle of an invocation."""
    with Engine() as engine:
        results = engine.map(acting(timeout_s=30.0), [{"id": 0}, {"id": 1, "do": "hang"}])
        next(results)
        closing = threading.Thread(target=engine.close)
        closing.start()
        with pytest.raises(EngineClosedError):
            next(results)
        closing.join()


def test_changed_code_is_noticed(own_engine: Engine, make_function: FunctionMaker) -> None:
    """At the latest by what is written after the change."""
    function = make_function("def handler(event, context):\n    return 'old'\n")
    path = os.path.join(function.code, "index.py")

    def events() -> Iterator[int]:
        yield 0
        for at in range(1, 3 * WINDOW):
            if at == WINDOW:
                with open(path, "w", encoding="utf-8") as file:
                    file.write("def handler(event, context):\n    return 'newer'\n")
            yield at

    values = [result.value for result in own_engine.map(function, events())]

    assert "old" == values[0]
    assert "newer" == values[-1]
    assert ["newer"] * WINDOW == values[2 * WINDOW :]


def test_instance_is_free_while_the_consumer_pauses(acting: Any) -> None:
    """With one instance allowed, the consumer may call the same function between two results."""
    function = acting()
    with Engine(max_instances=1) as engine:
        results = engine.map(function, [{"id": at} for at in range(10)])
        for at, result in enumerate(results):
            assert at == result.value[0]
            assert 100 + at == engine.invoke(function, {"id": 100 + at}).value[0]


@pytest.mark.slow
def test_deadline_is_kept_while_the_consumer_pauses(
    own_engine: Engine, acting: Any, wait_until_dead: DeathWatch
) -> None:
    """Nobody need ask for a result to have a hanging function killed."""
    function = acting(timeout_s=0.5)
    pid = own_engine.invoke(function, {"id": -1}).value[1]
    results = own_engine.map(function, [{"id": 0}, {"id": 1, "do": "hang"}, {"id": 2}])
    assert next(results).ok
    wait_until_dead(pid)

    assert [Status.TIMEOUT, Status.SUCCESS] == [result.status for result in results]


def test_two_maps_at_a_time_share_nothing(own_engine: Engine, acting: Any) -> None:
    """Each has an instance, and its own order."""
    function = acting()
    first, second = (own_engine.map(function, [{"id": at} for at in range(start, start + 40)]) for start in (0, 100))
    pairs = [(one.value[0], other.value[0]) for one, other in zip(first, second, strict=True)]

    assert [(at, 100 + at) for at in range(40)] == pairs


SLOW_THEN_TELLING = """
    import os
    import time

    def handler(event, context):
        if event == 1:
            time.sleep(0.75)
        if event == 2:
            with open(os.environ["FIFO"], "w") as fifo:
                fifo.write("begun")
        return [event, os.getpid()]
"""


@pytest.mark.slow
def test_reply_of_the_last_moment_wins_and_the_next_goes_on(
    own_engine: Engine, make_function: FunctionMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine was not scheduled when the reply came: the deadline has passed, and the next request has begun."""
    may_look, looked, pulled = threading.Event(), threading.Event(), threading.Event()
    wait, lend = Channel.wait, Fleet.lend

    def events() -> Iterator[int]:
        yield from (1, 2)
        pulled.set()
        yield 3

    def lend_late(*arguments: Any) -> Loan:
        pulled.wait(20)  # else the first may be written alone, and the second would never begin
        return lend(*arguments)

    def held_up(channel: Channel, timeout_ns: int) -> int:
        if threading.current_thread().name != "fgengine-map" or looked.is_set():
            return wait(channel, timeout_ns)
        may_look.wait(20)
        looked.set()
        return 0  # the reply came right after this wait

    os.mkfifo(tmp_path / "begun")
    function = make_function(SLOW_THEN_TELLING, timeout_s=0.6, user_data={"FIFO": str(tmp_path / "begun")})
    pid = own_engine.invoke(function, 0).value[1]
    monkeypatch.setattr(Channel, "wait", held_up)
    monkeypatch.setattr(Fleet, "lend", lend_late)
    found: list[Result] = []
    consumer = threading.Thread(target=lambda: found.extend(own_engine.map(function, events())))
    consumer.start()
    assert "begun" == (tmp_path / "begun").read_text()
    may_look.set()
    consumer.join()

    assert [[1, pid], [2, pid], [3, pid]] == [result.value for result in found]
    assert found[0].summary.duration_ms > 600


GREAT_FOR_A_MOMENT = """
    import mmap
    import os

    def handler(event, context):
        if event == "great":
            block = mmap.mmap(-1, 40 << 20)
            block[::4096] = b"x" * (40 << 8)
            block.close()
            with open(os.environ["BEGUN"], "w") as begun:
                begun.write("and freed")
            open(os.environ["GO"]).read()
        return event
"""


@pytest.mark.slow
def test_peak_before_the_engine_saw_the_reply_before_is_told(
    own_engine: Engine, make_function: FunctionMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be of either invocation, so it is told for both; the one after them begins anew."""
    pulled, wait, lend = threading.Event(), Channel.wait, Fleet.lend
    begun, go = tmp_path / "begun", tmp_path / "go"

    def lend_late(*arguments: Any) -> Loan:
        pulled.wait(20)  # else the first may be written alone
        return lend(*arguments)

    def held_up(channel: Channel, timeout_ns: int) -> int:
        if threading.current_thread().name == "fgengine-map":
            monkeypatch.setattr(Channel, "wait", wait)
            assert "and freed" == begun.read_text()
        return wait(channel, timeout_ns)

    def events() -> Iterator[str]:
        yield from ("small", "great")
        pulled.set()

    os.mkfifo(begun)
    os.mkfifo(go)
    function = make_function(GREAT_FOR_A_MOMENT, memory_mb=128, user_data={"BEGUN": str(begun), "GO": str(go)})
    own_engine.invoke(function, "first")
    monkeypatch.setattr(Channel, "wait", held_up)
    monkeypatch.setattr(Fleet, "lend", lend_late)
    results = own_engine.map(function, events())
    found = [next(results)]
    go.write_text("on")
    found += [next(results), own_engine.invoke(function, "after")]

    assert ["small", "great", "after"] == [result.value for result in found]
    assert [True, True, False] == [result.summary.memory_used_mb > 40 for result in found]


REMAINING = """
    import time

    def handler(event, context):
        before = context.getRemainingTimeInMilliSeconds()
        give_up_at = time.time() + event
        while time.time() < give_up_at:
            pass
        return before
"""


@pytest.mark.slow
def test_remaining_time_begins_when_the_invocation_does(own_engine: Engine, make_function: FunctionMaker) -> None:
    """Not when it was written: what runs before it takes nothing of its time."""
    results = list(own_engine.map(make_function(REMAINING, timeout_s=5.0), [0.15] * 14))

    assert all(result.ok and 3500 < result.value <= 5000 for result in results)


SLOW_AFTER_A_WORD = """
    import os
    import time

    def handler(event, context):
        if event == "slow":
            open(os.environ["FIFO"]).read()
            give_up_at = time.time() + 0.2
            while time.time() < give_up_at:
                pass
"""


@pytest.mark.slow
def test_bill_is_for_its_own_time(own_engine: Engine, make_function: FunctionMaker, tmp_path: Path) -> None:
    """A slow one among quick ones is billed for itself, and no moment is billed twice."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    function = make_function(SLOW_AFTER_A_WORD, timeout_s=30.0, user_data={"FIFO": str(fifo)})
    own_engine.invoke(function, "quick")
    began = time.monotonic()
    results, durations_ms = own_engine.map(function, ["quick"] * 50 + ["slow"] + ["quick"] * 50), []
    for result in results:
        assert result.ok
        durations_ms.append(result.summary.duration_ms)
        if len(durations_ms) == 50:  # the engine has seen that the slow one began
            fifo.write_text("go", encoding="utf-8")

    assert 200 <= durations_ms[50]
    assert sum(durations_ms) <= (time.monotonic() - began) * 1000


@pytest.fixture(name="slow_to_return")
def _slow_to_return(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have streams keep their instance, after its last reply, until the consumer has left."""
    left = threading.Event()
    stop, close_ahead = Stream._stop, Instance.close_ahead

    def stopped(stream: Stream) -> None:
        stop(stream)
        left.set()

    def closed(instance: Instance, ahead: Ahead) -> None:
        left.wait(10)
        close_ahead(instance, ahead)

    monkeypatch.setattr(Stream, "_stop", stopped)
    monkeypatch.setattr(Instance, "close_ahead", closed)


@pytest.mark.usefixtures("slow_to_return")
def test_instance_outlives_a_map_that_was_read_to_its_end(own_engine: Engine, acting: Any) -> None:
    """Nothing is in flight then, though the stream may not have given it back yet: it is not killed."""
    function = acting()
    own_engine.invoke(function, {"id": 0})
    (mapped,) = own_engine.map(function, [{"id": 1}])
    after = own_engine.invoke(function, {"id": 2})

    assert (Status.SUCCESS, False) == (after.status, after.cold_start)
    assert mapped.value[1] == after.value[1]


@pytest.mark.usefixtures("slow_to_return")
def test_map_that_is_left_during_a_start_does_not_run_it(
    own_engine: Engine, acting: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else leaving would wait for the deadline of a function that hangs."""
    starting, left = threading.Event(), threading.Event()
    stop, start = Stream._stop, Fleet._start_instance

    def stopped(stream: Stream) -> None:
        stop(stream)
        left.set()

    def started(*arguments: Any) -> Instance:
        starting.set()
        left.wait(10)
        return start(*arguments)

    monkeypatch.setattr(Stream, "_stop", stopped)
    monkeypatch.setattr(Fleet, "_start_instance", started)

    def events() -> Iterator[object]:
        yield {"id": 0, "do": "hang"}
        starting.wait(10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(own_engine.map(acting(timeout_s=3), events()))

    assert not (tmp_path / "ran").exists()


def test_death_before_anything_was_taken_is_no_invocations(
    own_engine: Engine, acting: Any, monkeypatch: pytest.MonkeyPatch, wait_until_dead: DeathWatch
) -> None:
    """What was written to it is for another instance, as with a single call."""
    function = acting()
    pid = own_engine.invoke(function, {"id": 0}).value[1]
    send = Channel.send

    def send_to_a_dead_one(channel: Channel, data: bytes) -> None:
        monkeypatch.setattr(Channel, "send", send)
        os.kill(pid, signal.SIGKILL)
        wait_until_dead(pid)
        send(channel, data)

    monkeypatch.setattr(Channel, "send", send_to_a_dead_one)
    results = list(own_engine.map(function, [{"id": 1}, {"id": 2}]))

    assert [Status.SUCCESS] * 2 == [result.status for result in results]
    assert [0, 1, 2] == ran_so_far(function)


FORGING = """
    import struct, sys, os

    def reply_descriptor():
        for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
            if fd < 64 or not os.path.exists("/proc/self/fd/%d" % fd):
                continue
            with open("/proc/self/fdinfo/%d" % fd) as info:
                flags = [int(line.split()[1], 8) for line in info if line.startswith("flags:")][0]
            if flags & os.O_WRONLY and os.readlink("/proc/self/fd/%d" % fd).startswith("pipe:"):
                return fd

    def handler(event, context):
        if event == "garbage":
            os.write(reply_descriptor(), b"garbage!" * 4)
        if event == "guess":
            head = b'{"type":"result","token":"0123456789abcdef","duration_ns":1}'
            os.write(reply_descriptor(), struct.pack(">II", len(head), 8) + head + b'"forged"')
        return event
"""


def test_garbage_in_the_reply_pipe_fails_the_one_that_wrote_it(
    own_engine: Engine, make_function: FunctionMaker
) -> None:
    """Those before it keep their replies, though they were read together with it; those behind it run elsewhere."""
    events = [*range(20), "garbage", *range(20)]
    results = list(own_engine.map(make_function(FORGING), events))

    assert [20] == [at for at, result in enumerate(results) if not result.ok]
    assert Status.INVALID_RESULT is results[20].status
    assert [*range(20), None, *range(20)] == [result.value for result in results]


def test_reply_with_a_guessed_token_is_dropped(own_engine: Engine, make_function: FunctionMaker) -> None:
    """It is nobody's."""
    events = [1, "guess", 2, "guess", 3]

    assert events == [result.value for result in own_engine.map(make_function(FORGING), events)]


@pytest.mark.parametrize(
    ("span", "claims", "expected"),
    [
        (100, [1], [100]),
        (100, [0], [100]),
        (100, [1, 3], [25, 75]),
        (100, [0, 0, 0], [33, 33, 34]),
        (10, [1, 1, 1], [3, 3, 4]),
        (0, [5, 5], [0, 0]),
        (7, [10**18, 0], [7, 0]),
        (10**12, [1] * 3, [333333333333, 333333333333, 333333333334]),
    ],
)
def test_span_is_shared_out_as_it_is_claimed(span: int, claims: list[int], expected: list[int]) -> None:
    """To the nanosecond: a lie moves time, and neither makes nor hides any."""
    assert expected == shares(span, claims)
    assert span == sum(shares(span, claims))


def test_request_ids_and_tokens_are_new_each_time() -> None:
    """UUIDs of version 4, and 16 hexadecimal digits."""
    pairs = list(itertools.islice(new_requests(), 500))

    assert 500 == len({name for name, _ in pairs}) == len({token for _, token in pairs})
    for name, token in pairs:
        assert (36, "4", True, 16) == (len(name), name[14], name[19] in "89ab", len(token))
        assert int(token, 16) >= 0
