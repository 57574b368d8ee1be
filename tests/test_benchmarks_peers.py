"""The other tools that are measured: each does the job, is named when it cannot, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import footprint, remains
from benchmarks.footprint import descendants
from benchmarks.harness import CALL, HOST, Job, measure_in_fresh_process, small_event, stage_functions
from benchmarks.peers import ANOTHER, SAME, Cold, Peer, Warm
from benchmarks.peers.everyone import all_peers, notes
from benchmarks.starts import time_starts
from benchmarks.stats import Setting

PEERS = {peer.name: peer for peer in all_peers()}
ELSEWHERE = "python2.7"


def a_job(staged: str, runtime: str = HOST, **changes: Any) -> Job:
    values: dict[str, Any] = {
        "question": "peers_warm",
        "contender": "any",
        "setting": Setting(runtime, pinned=False),
        "python": sys.executable,
        "cpu": None,
        "calls": 2,
        "warm_up": 1,
        "code": staged,
        **changes,
    }
    return Job(**values)


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The measured functions, compiled for the interpreter at hand."""
    return stage_functions([sys.executable], tmp_path_factory.mktemp("staged"))


@pytest.fixture
def grandchild() -> Iterator[int]:
    """The pid of a process below one below this one."""
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        if child.stdin is None or child.stdout is None:
            raise AssertionError("no pipes")
        yield int(child.stdout.readline())
        child.stdin.close()


@pytest.mark.parametrize("question", ["peers_warm", "peers_cold"])
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.slow
def test_peers_answer_in_a_fresh_process_and_leave_nothing(name: str, question: str, staged: str) -> None:
    """Started, called, checked and ended as the benchmarks do it; a process left behind would fail it."""
    job = a_job(staged, question=question, contender=name)
    reason = PEERS[name].unavailable(job)
    if reason is not None:
        pytest.skip(reason)
    values = measure_in_fresh_process(job)
    assert (job.calls, True) == (len(values[CALL]), all(value > 0 for value in values[CALL]))


def test_a_peer_that_is_not_installed_says_which_module_is_missing(staged: str) -> None:
    """Never silently: the reason goes into the table and into the JSON."""

    class Missing(FakePeer):
        module = "no_such_module_anywhere"

    assert "not installed: no module 'no_such_module_anywhere'" == Missing().unavailable(a_job(staged))


def test_a_peer_of_its_own_python_says_so_for_every_other(staged: str) -> None:
    """That it cannot is a finding, and not a gap in the table."""
    peer = FakePeer()
    assert peer.unavailable(a_job(staged)) is None
    assert f"has no way to another Python than the caller's, {HOST}" == peer.unavailable(a_job(staged, ELSEWHERE))


def test_what_cannot_be_installed_is_named_with_the_reason(staged: str) -> None:
    """nuclio's wrapper is in no package; nobody should have to wonder why it is not in the table."""
    assert "not installable" in str(PEERS["nuclio"].unavailable(a_job(staged)))


def test_the_table_says_which_python_each_peer_runs() -> None:
    """Half of them are fast because they fork the caller: whoever reads the figures has to know."""
    said = notes("engine")
    assert (ANOTHER, ANOTHER, SAME) == (said["engine"], said["execnet"], said["loky"])
    assert set(PEERS) <= set(said)


class FakePeer(Peer):
    """A peer without a process that writes down what is done with it."""

    name = "fake"
    module = "sys"

    def __init__(self) -> None:
        self.done: list[str] = []

    def open(self, job: Job) -> None:
        self.done.append("open")

    def start_worker(self, event: Any) -> None:
        self.done.append("start")
        self._event = event

    def call(self) -> Any:
        self.done.append("call")
        return self._event

    def stop_worker(self) -> None:
        self.done.append("stop")

    def close(self) -> None:
        self.done.append("close")


def test_a_warm_peer_starts_one_worker_for_all_calls(staged: str) -> None:
    """The worker is no part of the figure."""
    peer = FakePeer()
    contender = Warm(peer)
    contender.start(a_job(staged), small_event())
    assert [small_event()] * 2 == [contender.decoded(contender.call()) for _ in range(2)]
    contender.close()
    assert ["open", "start", "call", "call", "stop", "close"] == peer.done


def test_a_cold_peer_starts_a_worker_for_each_call_and_ends_it_before_the_next(staged: str) -> None:
    """What all workers share is there once; the workers never stand beside each other."""
    peer = FakePeer()
    contender = Cold(peer)
    contender.start(a_job(staged), small_event())
    values = time_starts(contender, a_job(staged, calls=1, warm_up=1), small_event())
    contender.close()
    assert ["open", *["start", "call", "stop"] * 3, "close"] == peer.done
    assert 1 == len(values[CALL])


@pytest.mark.slow
def test_what_a_measurement_leaves_is_named_and_ended(grandchild: int) -> None:
    """Everything below us but what was there before, however deep; and nothing else."""
    everything = set(descendants(os.getpid()))
    named = remains.end_all(keep=everything - {grandchild}, grace_s=0)
    assert ["sleep 60"] == named
    assert footprint.is_zombie(grandchild)


@pytest.mark.slow
def test_what_ends_by_itself_within_the_grace_is_not_left_behind() -> None:
    """A zygote or a tracker that sees its pipe close needs a moment."""
    before = descendants(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.1)"])
    assert [] == remains.end_all(keep=before, grace_s=30)
    assert 0 == child.wait()  # ours was collected; subprocess takes that for a good end


@pytest.mark.slow
def test_a_worker_that_is_spawned_pays_for_no_module_of_the_benchmarks() -> None:
    """multiprocessing imports the main module again in each worker: that must not cost more than a user's would."""
    code = "import sys, benchmarks.measure; print(sorted(name for name in sys.modules if name.startswith('benchm')))"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "['benchmarks', 'benchmarks.measure']" == ran.stdout.strip()
