"""Trees of real processes: who is below whom, and who is alive."""

from __future__ import annotations

import builtins
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from engine import proc
from tests.conftest import survey

PROLOGUE = """
    import ctypes, os, sys, threading, time

    PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36
    prctl = ctypes.CDLL(None).prctl

    def child(act):
        pid = os.fork()
        if pid == 0:
            act()
            os._exit(0)
        return pid

    def tell(*words):
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())

    def rest():
        time.sleep(1000)

    prctl(PR_SET_CHILD_SUBREAPER, 1)
"""


class Tree:
    """A process that is a child subreaper, as every instance is, and tells the numbers of what it starts."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.pid = process.pid

    def words(self) -> list[str]:
        """The next line that it tells."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().split()

    def pids(self) -> list[int]:
        return [int(word) for word in self.words()]


@contextmanager
def grown(program: str) -> Iterator[Tree]:
    source = textwrap.dedent(PROLOGUE) + textwrap.dedent(program) + "\nrest()\n"
    command = [sys.executable, "-S", "-E", "-c", source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Tree(process)
        finally:
            for pid in [*survey(process.pid)[1], process.pid]:
                os.kill(pid, signal.SIGKILL)  # nobody reaps them before their subreaper is dead


def surveyed(pid: int) -> tuple[int, list[int]]:
    """What a look at the tree tells; the longer walk, which a look goes over to when it must, tells the same."""
    tree = proc.Tree()
    for _ in proc.walk(pid, tree):
        pass
    assert (tree.tasks, tree.below) == survey(pid)
    return tree.tasks, tree.below


def test_survey_lists_parents_before_their_children() -> None:
    """In three generations here."""
    program = """
        def grow():
            tell(os.getpid(), child(rest))
            rest()
        child(grow)
    """
    with grown(program) as tree:
        below = tree.pids()

        assert (3, below) == surveyed(tree.pid)


def test_survey_counts_threads_and_processes() -> None:
    """Both take from the same limit."""
    program = """
        for _ in range(3):
            threading.Thread(target=rest, daemon=True).start()
        tell(child(rest))
    """
    with grown(program) as tree:
        (pid,) = tree.pids()

        assert (1 + 3 + 1, [pid]) == surveyed(tree.pid)


def test_survey_finds_what_a_thread_started() -> None:
    """The kernel keeps children by the thread that forked."""
    program = """
        def start():
            tell(child(rest))
            rest()
        tell(child(rest))
        threading.Thread(target=start, daemon=True).start()
    """
    with grown(program) as tree:
        pids = {*tree.pids(), *tree.pids()}

        assert pids == set(surveyed(tree.pid)[1])


def test_look_is_not_deceived_by_a_thread_that_took_the_place_of_another() -> None:
    """A listing of a thread that ended is empty and no error; what the new one starts is found all the same."""
    program = """
        start = threading.Event()
        def first():
            start.wait()
        def second():
            tell(child(rest))
            rest()
        thread = threading.Thread(target=first)
        thread.start()
        tell()
        sys.stdin.readline()
        start.set()
        thread.join()
        threading.Thread(target=second, daemon=True).start()
    """
    with grown(program) as tree:
        tree.words()
        threads = proc.Threads(tree.pid)
        assert (2, []) == threads.look()
        assert tree.process.stdin is not None
        tree.process.stdin.write(b"\n")
        tree.process.stdin.flush()
        (pid,) = tree.pids()
        found = proc.Tree()
        for _ in threads.walk(found):
            pass
        threads.close()

        assert (3, [pid]) == (found.tasks, found.below)


def test_survey_counts_a_zombie_as_one() -> None:
    """It has no thread any more, and takes a process number all the same."""
    with grown("tell(child(lambda: None))") as tree:
        (pid,) = tree.pids()
        wait_until_ended(pid)

        assert (2, [pid]) == surveyed(tree.pid)
        assert not proc.is_alive(pid)


def wait_until_ended(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        assert select.select([pidfd], [], [], 10)[0]
    finally:
        os.close(pidfd)


def test_survey_finds_a_daemon_below_its_subreaper() -> None:
    """However often it forks and whatever session it is in: it stays below the instance."""
    with grown(DAEMON) as tree:
        told = {*tree.words(), *tree.words()} - {"reaped"}

        assert told == set(map(str, surveyed(tree.pid)[1]))


DAEMON = """
    def daemonize():
        os.setsid()
        child(lambda: (tell(os.getpid()), rest()))

    os.waitpid(child(daemonize), 0)
    tell("reaped")
"""


def test_survey_of_nothing_is_empty() -> None:
    """A process that is gone has nothing below it."""
    tree = proc.Tree()
    for _ in proc.walk(gone(), tree):
        pass

    assert (0, []) == (tree.tasks, tree.below)


def test_survey_of_what_has_ended_meanwhile_is_empty() -> None:
    """Whoever watches it holds descriptors of it, and they tell no lie."""
    process = subprocess.Popen([sys.executable, "-S", "-E", "-c", "input()"], stdin=subprocess.PIPE)
    tree = proc.Tree()
    with closing(proc.Threads(process.pid)) as threads:
        assert (1, []) == threads.look()
        process.communicate()
        for _ in threads.walk(tree):
            pass

    assert (0, []) == (tree.tasks, tree.below)


def gone() -> int:
    """A number that belongs to nobody, though it did a moment ago."""
    process = subprocess.Popen([sys.executable, "-S", "-E", "-c", ""])
    process.wait()
    return process.pid


def test_survey_works_on_a_kernel_without_lists_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are an option of the kernel (CONFIG_PROC_CHILDREN)."""

    def without_lists(path: str, *arguments: Any) -> Any:
        if path.endswith("/children"):
            raise FileNotFoundError(path)
        return builtins.open(path, *arguments)

    open_descriptor = os.open

    def without_descriptors(path: str, *arguments: Any, **keywords: Any) -> int:
        if path.endswith("/children"):
            raise FileNotFoundError(path)
        return open_descriptor(path, *arguments, **keywords)

    with grown("tell(child(rest))") as tree:
        (pid,) = tree.pids()
        monkeypatch.setattr(proc, "open", without_lists, raising=False)
        monkeypatch.setattr(os, "open", without_descriptors)

        assert (2, [pid]) == surveyed(tree.pid)


def test_parent_and_life_of_a_process() -> None:
    """Of a living one, and of one that is gone."""
    assert (os.getppid(), True) == (proc.parent(os.getpid()), proc.is_alive(os.getpid()))
    assert (0, False) == (proc.parent(gone()), proc.is_alive(gone()))


def test_name_of_a_process_does_not_confuse() -> None:
    """A function may call itself anything: parentheses, spaces and numbers in /proc/PID/stat are only a name."""
    with grown("prctl(PR_SET_NAME, b') Z 1 (x'); tell(0)") as tree:
        tree.pids()

        assert (os.getpid(), True) == (proc.parent(tree.pid), proc.is_alive(tree.pid))
