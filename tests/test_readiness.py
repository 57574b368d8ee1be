"""One wait for one descriptor."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from engine.clock import NS_PER_MS, NS_PER_S, monotonic_ns
from engine.readiness import is_ready


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose ends may be closed by the test."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


@pytest.mark.parametrize("timeout_ns", [-NS_PER_S, -1, 0])
def test_no_time_asks_for_now(pipe: tuple[int, int], timeout_ns: int) -> None:
    """poll(2) takes a negative time for one without end; a deadline that has passed is none."""
    assert not is_ready(pipe[0], select.POLLIN, timeout_ns)

    os.write(pipe[1], b"x")

    assert is_ready(pipe[0], select.POLLIN, timeout_ns)


@pytest.mark.parametrize("timeout_ns", [1, NS_PER_MS // 2, NS_PER_MS, NS_PER_MS + 1])
def test_part_of_a_millisecond_is_waited_for(pipe: tuple[int, int], timeout_ns: int) -> None:
    """Who is told that nothing came finds the deadline passed, and does not ask again and again until it is."""
    began_ns = monotonic_ns()

    assert not is_ready(pipe[0], select.POLLIN, timeout_ns)
    assert monotonic_ns() - began_ns >= timeout_ns


def test_only_what_was_asked_for_counts(pipe: tuple[int, int]) -> None:
    """An end to write to is not one to read from."""
    assert is_ready(pipe[1], select.POLLOUT, 0)
    assert not is_ready(pipe[1], select.POLLIN, 0)


def test_close_of_the_other_end_counts(pipe: tuple[int, int]) -> None:
    """Nothing more will come, so there is nothing to wait for: the read or the write that follows tells why."""
    os.close(pipe[1])

    assert is_ready(pipe[0], select.POLLIN, NS_PER_S)
    assert is_ready(pipe[0], 0, NS_PER_S)


def test_end_of_a_process_counts() -> None:
    """A pidfd is readable from its process's end on."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        pidfd = os.pidfd_open(process.pid)
        try:
            assert not is_ready(pidfd, select.POLLIN, 0)
            assert process.stdin is not None
            process.stdin.close()

            assert is_ready(pidfd, select.POLLIN, 60 * NS_PER_S)
        finally:
            os.close(pidfd)


def test_signal_does_not_end_the_wait(pipe: tuple[int, int]) -> None:
    """Its handler runs, and the wait goes on for what is left of the time."""
    came: list[int] = []
    over = threading.Event()

    def handler(number: int, _frame: object) -> None:
        came.append(number)
        if len(came) == 3:  # the first may come before the wait does
            os.write(pipe[1], b"x")

    def interrupt(thread: int) -> None:
        while len(came) < 3 and not over.wait(0.002):
            signal.pthread_kill(thread, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    sender = threading.Thread(target=interrupt, args=(threading.get_ident(),))
    sender.start()
    try:
        assert is_ready(pipe[0], select.POLLIN, 60 * NS_PER_S)
    finally:
        over.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
