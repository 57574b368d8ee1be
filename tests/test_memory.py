"""Used memory of a real process: the peak of a millisecond, from one invocation to the next, with all below it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.faults import Faults
from engine.memory import BYTES_PER_MB, MemoryMeter
from tests.conftest import survey

CHILD = """
    import mmap, os, sys, time

    def hold(megabytes):
        # An anonymous map and not a bytearray: what is given back goes back to the system at once.
        block = mmap.mmap(-1, megabytes << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, megabytes << 20, 4096):
            block[at] = 1
        return block

    def child(act):
        ready, done = os.pipe()
        if os.fork() == 0:
            kept = act()
            os.write(done, b"!")
            time.sleep(1000)
        os.read(ready, 1)

    print("ready", flush=True)
    for line in sys.stdin:
        exec(line)
        print("done", flush=True)
"""
"""Does what it is told, a line at a time, and says when it is done."""


class Child:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def do(self, line: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert "done\n" == self.process.stdout.readline()


@pytest.fixture
def child() -> Iterator[Child]:
    command = [sys.executable, "-S", "-E", "-c", textwrap.dedent(CHILD)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8") as process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        yield Child(process)
        for pid in survey(process.pid)[1] if process.poll() is None else []:
            subprocess.run(["kill", "-9", str(pid)], check=True)
        process.kill()


@pytest.fixture
def meter(child: Child) -> Iterator[MemoryMeter]:
    with closing(MemoryMeter(child.pid)) as meter:
        meter.start()
        yield meter


def megabytes(size: int) -> int:
    return round(size / BYTES_PER_MB)


def test_peak_is_exact_though_nobody_looked(child: Child, meter: MemoryMeter) -> None:
    """64 MB that were taken and given back between two looks: the kernel marks its own high water."""
    before = meter.resident_bytes()
    child.do("hold(64)")

    assert 63 <= megabytes(meter.peak_bytes() - before) <= 66
    assert megabytes(meter.resident_bytes() - before) <= 2


def test_start_forgets_the_peak_before(child: Child, meter: MemoryMeter) -> None:
    """The next invocation is not charged for this one, whether it was marked or sampled."""
    before = meter.resident_bytes()
    child.do("held = hold(64)")
    meter.sample([])
    child.do("del held")
    meter.start()

    assert megabytes(meter.peak_bytes() - before) <= 2


def test_start_keeps_what_is_still_there(child: Child, meter: MemoryMeter) -> None:
    """Memory that lives on in a module's globals is used by every invocation."""
    child.do("held = hold(64)")
    before = meter.peak_bytes()
    meter.start()

    assert megabytes(before) - 2 <= megabytes(meter.peak_bytes()) <= megabytes(before)


def test_sample_is_what_is_used_now(child: Child, meter: MemoryMeter) -> None:
    """It rises and falls, and the peak remembers the highest."""
    used = [meter.sample([])]
    child.do("held = hold(64)")
    used.append(meter.sample([]))
    child.do("del held")
    used.append(meter.sample([]))

    assert 63 <= megabytes(used[1] - used[0]) <= 66
    assert abs(megabytes(used[2] - used[0])) <= 2
    assert used[2] == meter.last_used_bytes
    assert meter.peak_bytes() >= used[1]


def test_children_count_while_they_live(child: Child, meter: MemoryMeter) -> None:
    """What an instance starts is its own: two children of 32 MB are 64 MB more."""
    before = meter.sample([])
    child.do("for _ in range(2): child(lambda: hold(32))")
    used = meter.sample(survey(child.pid)[1])

    assert 60 <= megabytes(used - before) <= 80
    assert meter.peak_bytes() >= used


def test_memory_that_is_shared_after_a_fork_counts_once(child: Child, meter: MemoryMeter) -> None:
    """Four children that only share the parent's 64 MB do not make 320 of them."""
    child.do("held = hold(64)")
    before = meter.sample([])
    child.do("for _ in range(4): child(lambda: None)")
    used = meter.sample(survey(child.pid)[1])

    assert megabytes(used - before) <= 16


def test_peak_of_a_dead_instance_is_the_last_one_known(child: Child, meter: MemoryMeter) -> None:
    """A zombie has no high-water mark, and a process that is gone has nothing: a result needs a figure."""
    child.do("hold(64)")
    known = meter.peak_bytes()
    child.process.kill()
    child.process.wait()
    meter.start()

    assert (known, 0, 0) == (meter.peak_bytes(), meter.resident_bytes(), meter.sample([]))


def test_memory_of_the_host_is_not_the_childs(child: Child) -> None:
    """Where ru_maxrss would give the 100 MB of whoever started it."""
    ballast = bytearray(b"x" * (100 * BYTES_PER_MB))
    command = [sys.executable, "-S", "-E", "-c", "print(flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with closing(MemoryMeter(process.pid)) as meter:
            meter.start()
            peak = meter.peak_bytes()

    assert len(ballast) == 100 * BYTES_PER_MB
    assert 1 <= megabytes(peak) <= 60


GROWING_CHILD = """
def grow():
    kept = [hold(16)]
    while True:
        os.write(told, b"!")
        act = os.read(orders, 1)
        if act == b"+":
            kept.append(hold(32))
        elif act == b"-":
            kept.pop().close()
        else:
            os._exit(0)
"""
ORDERED = (
    "(heard, told), (orders, order) = os.pipe(), os.pipe()",
    f"exec({GROWING_CHILD!r})",
    "pid = os.fork() or grow()",
    "os.read(heard, 1)",
)


def test_estimate_follows_a_tree_after_its_sum(child: Child, meter: MemoryMeter) -> None:
    """What its processes take and give back since; and what one that ended had counts no more."""
    for line in ORDERED:
        child.do(line)
    (below,) = survey(child.pid)[1]
    before = meter.sample([below])
    estimates = [meter.estimate()]
    meter.sample([])  # how the next look begins
    more, less = ("os.write(order, b'+'); os.read(heard, 1)", "os.write(order, b'-'); os.read(heard, 1)")
    for act in (more, "kept = hold(8)", less):
        child.do(act)
        estimates.append(meter.estimate())
    child.do("os.write(order, b'x'); os.waitpid(pid, 0)")
    after = meter.estimate()

    assert [0, 32, 40, 8] == [megabytes(each - before) for each in estimates]
    assert meter.resident_bytes() == after


def test_estimate_counts_once_what_was_shared_by_a_fork(child: Child, meter: MemoryMeter) -> None:
    """A process that forks, and one that writes to what it shares, have no more pages by that than the sum knew."""
    child.do("held = hold(64)")
    child.do("child(lambda: None)")
    before = meter.sample(survey(child.pid)[1])
    child.do("child(lambda: None)")
    estimate = meter.estimate()
    known = meter.sample(survey(child.pid)[1])

    assert 0 == megabytes(estimate - before)
    assert megabytes(known - before) <= 2


def test_tree_that_ended_is_forgotten(child: Child, meter: MemoryMeter) -> None:
    """Its numbers may be those of others by then."""
    for line in ORDERED:
        child.do(line)
    meter.sample(survey(child.pid)[1])
    meter.forget_tree()
    child.do("os.write(order, b'+'); os.read(heard, 1)")
    estimate = meter.estimate()
    child.do("os.write(order, b'x'); os.waitpid(pid, 0)")

    assert 0 == megabytes(estimate - meter.resident_bytes())


HOLD = "held = hold(32)"
MLOCK = (
    "import ctypes; b = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE); "
    "ctypes.CDLL(None).mlock(ctypes.byref(ctypes.c_char.from_buffer(b)), ctypes.c_size_t(32 << 20))"
)

LOCKABLE_BYTES = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
MAY_LOCK = os.geteuid() == 0 or LOCKABLE_BYTES == resource.RLIM_INFINITY or LOCKABLE_BYTES >= 32 << 20


@pytest.mark.parametrize(
    "act",
    [
        HOLD,
        "import threading; t = threading.Thread(target=hold, args=(32,)); t.start(); t.join()",
        "m = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000)",  # MAP_POPULATE
        "z = open('/dev/zero', 'rb', 0); m = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE); z.readinto(m)",
        "m = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE); m.madvise(23)",  # MADV_POPULATE_WRITE
        pytest.param(MLOCK, marks=pytest.mark.skipif(not MAY_LOCK, reason="RLIMIT_MEMLOCK is less than 32 MB")),
    ],
    ids=["touch", "thread", "map_populate", "read", "madvise_populate", "mlock"],
)
def test_memory_that_grows_is_news(child: Child, meter: MemoryMeter, act: str) -> None:
    """However it becomes resident: the faults are counted, and the short way finds the peak that the long way finds."""
    child.do("import mmap")
    with closing(Faults(child.pid)) as faults:
        assert [True, False] == [faults.has_news(), faults.has_news()]
        before = meter.short_peak_bytes()
        meter.start()
        child.do(act)
        assert [True, False] == [faults.has_news(), faults.has_news()]

    assert megabytes(meter.short_peak_bytes() - before) >= 30


def test_memory_that_came_and_went_is_news(child: Child, meter: MemoryMeter) -> None:
    """The pages are what they were; the faults are not."""
    before = meter.short_peak_bytes()
    meter.start()
    child.do("hold(32).close()")

    assert 31 <= megabytes(meter.short_peak_bytes() - before) <= 35


def test_memory_that_was_given_back_is_news(child: Child, meter: MemoryMeter) -> None:
    """Without a fault; and the peak of the invocation after that is what is left."""
    child.do(HOLD)
    meter.start()
    high = meter.short_peak_bytes()
    meter.start()
    child.do("held.close()")
    assert megabytes(high - meter.short_peak_bytes()) <= 1
    meter.start()

    assert 31 <= megabytes(high - meter.short_peak_bytes()) <= 33
    assert meter.peak_bytes() == meter.short_peak_bytes()


def test_peak_of_one_that_rests_is_what_it_holds(child: Child, meter: MemoryMeter) -> None:
    """The short way and the long way agree to the byte, as often as one asks."""
    for _ in range(3):
        meter.start()
        child.do("pass")
        assert meter.short_peak_bytes() == meter.peak_bytes()


def test_process_that_is_gone_has_news(child: Child) -> None:
    """There is nothing to rely on any more."""
    with closing(Faults(child.pid)) as faults:
        faults.has_news()
        child.process.kill()
        child.process.wait()
        assert [True, True] == [faults.has_news(), faults.has_news()]


STAT = "42 (a) S 0 (b) S 1 40 42 0 -1 4194304 {minor} 7 {major} 8 {user} 42 0 0 20 0 1 0 1181380 11665408 {pages} 1 0"


@pytest.mark.parametrize(("field", "is_news"), [("minor", True), ("major", True), ("pages", True), ("user", False)])
def test_news_are_faults_and_pages_alone(
    child: Child, monkeypatch: pytest.MonkeyPatch, field: str, *, is_news: bool
) -> None:
    """Each of the three for itself; not the time that was spent, and whatever the process calls itself."""
    values = {"minor": 1216, "major": 2, "user": 20, "pages": 2315}
    told = [STAT.format(**values), STAT.format(**{**values, field: 3000})]
    with closing(Faults(child.pid)) as faults, monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda *_: told.pop(0).encode())
        assert [True, is_news] == [faults.has_news(), faults.has_news()]


CLOSED = """
    import ctypes, os, sys
    sys.path.insert(0, sys.argv[1])
    from engine.memory import BYTES_PER_MB, MemoryMeter

    import signal, time
    prctl, PR_SET_DUMPABLE = ctypes.CDLL(None).prctl, 4
    if os.geteuid() == 0:  # nothing is closed to root
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        prctl(PR_SET_DUMPABLE, 1)
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        held = bytearray(b"x" * (64 * BYTES_PER_MB))
        prctl(PR_SET_DUMPABLE, 0)
        os.write(done, b"!")
        time.sleep(1000)
    os.read(ready, 1)
    try:
        open(f"/proc/{child}/smaps_rollup").read()
    except PermissionError:
        print("closed")
    try:
        print(MemoryMeter(os.getpid()).sample([child]) // BYTES_PER_MB)
    finally:
        os.kill(child, signal.SIGKILL)
"""


def test_process_that_is_closed_to_its_own_user_is_not_empty() -> None:
    """Its shares are not told (PR_SET_DUMPABLE), so it counts with all that it has resident."""
    command = [sys.executable, "-c", textwrap.dedent(CLOSED), str(Path(__file__).resolve().parent.parent)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert "closed" == said[0]
    assert int(said[1]) >= 64
