"""Memory: the peak of this invocation is reported, and more than the limit ends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from engine import Engine, Status, UnsupportedPlatformError

if TYPE_CHECKING:
    from engine import Result
    from tests.conftest import FunctionMaker, Invoker

PEAK = """
    import mmap

    def handler(event, context):
        if event:
            # An anonymous map and not a bytearray: it goes back to the system at once, on every malloc.
            size = int(event * 1024 * 1024)
            block = mmap.mmap(-1, size)
            for at in range(0, size, 4096):
                block[at:at + 1] = b"x"
            block.close()
        return event
"""


def _assert_out_of_memory(result: Result) -> None:
    assert (Status.OUT_OF_MEMORY, 4205, None) == (result.status, result.error_code, result.value)
    assert {
        "errorMessage": "runtime memory limit exceeded",
        "errorType": "out_of_memory",
        "stackTrace": [],
    } == result.error
    # Killed when it went over the limit, and not found to be over it at the deadline.
    assert 1 <= result.summary.billed_duration_ms < 10_000


def test_memory_used_is_the_peak_of_this_invocation(engine: Engine, make_function: FunctionMaker) -> None:
    """64 MB that were held for a moment are seen, and are not seen again in the next invocation."""
    function = make_function(PEAK, memory_mb=512, timeout_s=30.0)
    small, big, again = (engine.invoke(function, size) for size in (0, 64, 0))

    assert [False, False] == [big.cold_start, again.cold_start]
    grown_mb = big.summary.memory_used_mb - small.summary.memory_used_mb
    assert 60 < grown_mb < 80
    assert abs(again.summary.memory_used_mb - small.summary.memory_used_mb) < 8


def test_memory_used_of_a_small_function_is_small(invoke: Invoker) -> None:
    """It is the child's memory: the host's, large as it may be, is not in it."""
    ballast = bytearray(b"x" * (100 * 1024 * 1024))
    result = invoke("def handler(event, context):\n    return 1\n")

    assert len(ballast) == 100 * 1024 * 1024
    assert 1 < result.summary.memory_used_mb < 60
    assert 128 == result.summary.memory_size_mb


def test_steady_growth_over_the_limit_is_out_of_memory(engine: Engine, make_function: FunctionMaker) -> None:
    """Killed while it runs, and the next invocation is a cold start that works."""
    function = make_function(
        """
        import time

        def handler(event, context):
            if event is None:
                return "fine"
            kept = []
            for _ in range(50):
                kept.append(b"x" * (8 * 1024 * 1024))
                time.sleep(0.005)
            time.sleep(20)
        """,
        memory_mb=64,
        timeout_s=10.0,
    )
    over = engine.invoke(function, "grow")
    after = engine.invoke(function, None)

    _assert_out_of_memory(over)
    assert over.summary.memory_used_mb >= 64
    assert ("fine", True) == (after.value, after.cold_start)


def test_a_leap_over_the_limit_is_out_of_memory(invoke: Invoker) -> None:
    """200 MB at once and then quiet."""
    source = """
        import time

        def handler(event, context):
            block = b"x" * (200 * 1024 * 1024)
            time.sleep(20)
    """
    _assert_out_of_memory(invoke(source, memory_mb=64, timeout_s=10.0))


def test_memory_of_subprocesses_counts(invoke: Invoker) -> None:
    """A function cannot hide in its children."""
    source = """
        import os
        import time

        def handler(event, context):
            pid = os.fork()
            if pid == 0:
                block = b"x" * (200 * 1024 * 1024)
                time.sleep(20)
                os._exit(0)
            os.waitpid(pid, 0)
    """
    _assert_out_of_memory(invoke(source, memory_mb=64, timeout_s=10.0))


def test_growth_within_the_limit_is_no_failure(invoke: Invoker) -> None:
    """A peak below the limit is reported and forgiven."""
    result = invoke(PEAK, 80, memory_mb=128, timeout_s=30.0)

    assert (Status.SUCCESS, 80) == (result.status, result.value)
    assert 80 < result.summary.memory_used_mb <= 128


@pytest.mark.parametrize("phase", ["import", "initializer"])
def test_memory_is_limited_before_the_handler_too(invoke: Invoker, phase: str) -> None:
    """An import or an initializer that takes too much is the same failure."""
    source = f"""
        import time

        def grow(now):
            if now == "{phase}":
                globals()["block"] = b"x" * (200 * 1024 * 1024)
                time.sleep(20)

        grow("import")

        def initializer(context):
            grow("initializer")

        def handler(event, context):
            return 1
    """
    _assert_out_of_memory(
        invoke(source, memory_mb=64, initializer="index.initializer", initializer_timeout_s=10.0, load_timeout_s=10.0)
    )


EXACT = """
    import mmap, os, time

    def touch(megabytes):
        size = megabytes << 20
        block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, size, 4096):
            block[at:at + 1] = b"x"
        return block

    def private_kb():
        with open("/proc/self/smaps_rollup") as rollup:
            return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))

    def four_children(megabytes):
        # They hold what they have for a second together: 100 ms are enough where nothing else runs, and one look in
        # a hundred where everything else does. Returned is what they have for themselves.
        readers, pids = [], []
        release, hold = os.pipe()
        for _ in range(4):
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(hold)
                block = touch(megabytes) if megabytes else None
                os.write(writer, b"%d" % private_kb())
                os.read(release, 1)
                os._exit(0)
            os.close(writer)
            readers.append(reader)
            pids.append(pid)
        total = sum(int(os.read(reader, 20)) for reader in readers)
        time.sleep(1.0)
        for fd in readers + [release, hold]:
            os.close(fd)
        for pid in pids:
            os.waitpid(pid, 0)
        return total / 1024.0

    def handler(event, context):
        if event == "short":
            block = b"x" * (200 << 20)
            return 200
        if event == "split":
            return four_children(50)
        if event == "shared":
            block = touch(100)
            return 100 + four_children(0)
        return 0
"""


@pytest.fixture(params=["cgroup", "sample"])
def either_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Memory is counted alike, whoever keeps the limit."""
    try:
        enforced = Engine(memory_enforcement=request.param)
    except UnsupportedPlatformError as error:
        pytest.skip(str(error))
    with enforced:
        yield enforced


@pytest.mark.slow
def test_memory_used_is_within_two_percent_of_the_truth(either_engine: Engine, make_function: FunctionMaker) -> None:
    """Or 1 MB: a peak of milliseconds, four processes together, pages shared after a fork; nothing of it afterwards."""
    function = make_function(EXACT, memory_mb=512, timeout_s=20.0)
    errors = {}
    for what in ("short", "split", "shared"):
        before, during, after = (either_engine.invoke(function, event) for event in (None, what, None))
        truth_mb = before.summary.memory_used_mb + during.value
        errors[what] = (during.summary.memory_used_mb - truth_mb) / max(1.0, 0.02 * truth_mb)
        errors[f"after {what}"] = after.summary.memory_used_mb - before.summary.memory_used_mb
        assert not after.cold_start

    assert {} == {what: error for what, error in errors.items() if abs(error) > 1}


@pytest.mark.slow
def test_out_of_memory_is_reproducible(either_engine: Engine, make_function: FunctionMaker) -> None:
    """20 of 20 that are 2 MB over the limit are killed, and none of 20 that stay 1.5 MB below it."""
    function = make_function(PEAK, memory_mb=128, timeout_s=20.0)
    used_mb = either_engine.invoke(function, 0).summary.memory_used_mb
    below = [either_engine.invoke(function, 128 - used_mb - 1.5).status for _ in range(20)]
    over = [either_engine.invoke(function, 128 - used_mb + 2).status for _ in range(20)]

    assert {Status.SUCCESS} == set(below)
    assert {Status.OUT_OF_MEMORY} == set(over)
