"""Functions that write into descriptors that are not theirs, or take them away from the engine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil
import pytest

from engine import Engine, Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import DeathWatch, FunctionMaker
    from tests.hostile.conftest import Aftermath, Arena

BROKEN_PREFIX = "function result is invalid, error: the instance sent "
TIMEOUT_S = 0.5


def _assert_broken(aftermath: Aftermath, what: str) -> None:
    result = aftermath.result
    assert (Status.INVALID_RESULT, 4007, None) == (result.status, result.error_code, result.value)
    assert result.error is not None
    assert result.error["errorMessage"].startswith(BROKEN_PREFIX + what)
    assert ("invalid_result", []) == (result.error["errorType"], result.error["stackTrace"])
    assert not aftermath.instance_survived


def _assert_timeout(aftermath: Aftermath) -> None:
    result = aftermath.result
    assert (Status.TIMEOUT, 4010, None) == (result.status, result.error_code, result.value)
    assert TIMEOUT_S * 1000 == result.summary.duration_ms == result.summary.billed_duration_ms
    assert not aftermath.instance_survived


def _assert_exited(aftermath: Aftermath, how: str) -> None:
    result = aftermath.result
    assert (Status.EXITED, 4204, None) == (result.status, result.error_code, result.value)
    assert result.error is not None
    assert f"runtime process is exited, {how}" == result.error["errorMessage"]
    assert not aftermath.instance_survived


def test_garbage_into_every_descriptor_is_an_invalid_result(arena: Arena) -> None:
    """What is no frame ends the instance; what went to the log is in the log."""
    aftermath = arena("[write(fd, b'garbage!' * 100) for fd in descriptors()]\nhang()")

    _assert_broken(aftermath, "a frame header of 1734439522 bytes")
    assert aftermath.result.log.startswith("garbage!" * 200)


@pytest.mark.parametrize(
    ("lengths", "what"),
    [
        ("'>Q', 10 * 2 ** 30", "a payload of 2147483648 bytes"),
        ("'>II', 0xffffffff, 0xffffffff", "a frame header of 4294967295 bytes"),
        ("'>II', 0, 0", "a frame header of 0 bytes"),
        ("'>II', 4097, 0", "a frame header of 4097 bytes"),
        ("'>II', 2, 1 << 26", "a payload of 67108864 bytes"),
    ],
)
def test_length_that_cannot_be_is_refused_before_memory_is_given(arena: Arena, lengths: str, what: str) -> None:
    """Ten gigabytes that are announced cost nothing."""
    _assert_broken(arena(f"write(reply_descriptor(), struct.pack({lengths}))\nhang()"), what)


@pytest.mark.slow
def test_half_a_frame_swallows_the_reply(arena: Arena) -> None:
    """The engine waits for the rest until the deadline, and no longer: the true reply has become payload."""
    half = "write(reply_descriptor(), frame('result', 'x', b'1' * 1000)[:-900])\nreturn 'swallowed'"

    _assert_timeout(arena(half, timeout_s=TIMEOUT_S))


@pytest.mark.slow
def test_legal_frame_that_comes_in_single_bytes_is_bounded(arena: Arena) -> None:
    """A payload of 36 MB in pieces of one byte costs the engine those bytes, and not an object for each."""
    before = psutil.Process().memory_info().rss
    aftermath = arena(
        """
        fd = reply_descriptor()
        write(fd, struct.pack(">II", 2, 36 * 2 ** 20))
        give_up_at = time.time() + GIVE_UP_S
        while time.time() < give_up_at:
            os.write(fd, b"x")
        """,
        timeout_s=TIMEOUT_S,
    )

    _assert_timeout(aftermath)
    assert psutil.Process().memory_info().rss - before < 8 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("payload_bytes", [0, 50_000])
def test_flood_of_forged_frames_does_not_hide_the_true_reply(arena: Arena, payload_bytes: int) -> None:
    """100 MB of frames that nobody asked for are dropped one by one, in constant memory."""
    megabytes = 100 if payload_bytes else 5
    before = psutil.Process().memory_info().rss
    aftermath = arena(
        f"""
        forged = frame("result", "0" * 16, b"1" * {payload_bytes})
        pipeful = forged * max(1, 65536 // len(forged))
        fd = reply_descriptor()
        for _ in range({megabytes} * 2 ** 20 // len(pipeful)):
            write(fd, pipeful)
        return "true"
        """,
        timeout_s=25.0,
    )

    assert (Status.SUCCESS, "true") == (aftermath.result.status, aftermath.result.value)
    assert aftermath.instance_survived
    assert psutil.Process().memory_info().rss - before < 64 * 2**20


@pytest.mark.slow
def test_100_megabytes_into_every_descriptor(arena: Arena) -> None:
    """The log takes what it takes and keeps its end; the reply pipe does not take any of it."""
    aftermath = arena(
        """
        for fd in descriptors():
            for _ in range(1600):
                if not write(fd, b"x" * 65536):
                    break
        hang()
        """,
        timeout_s=25.0,
    )

    _assert_broken(aftermath, "a frame header of 2021161080 bytes")
    assert "x" * 4096 == aftermath.result.log
    assert 2 * 1600 * 65536 == aftermath.result.log_dropped_bytes + 4096


def test_closing_every_descriptor_is_an_exit(arena: Arena) -> None:
    """Without a way to reply the instance ends itself: sysexits' status for trouble of our own."""
    _assert_exited(arena("os.closerange(0, 4096)\nreturn 'unheard'"), "exit status 70")


@pytest.mark.slow
def test_closing_the_pipes_and_looping_is_a_timeout_that_costs_the_engine_nothing(arena: Arena) -> None:
    """Pipes at their end are readable for ever; the engine sleeps all the same."""
    spent_before_s = time.thread_time()
    aftermath = arena("os.closerange(0, 4096)\nspin()", timeout_s=TIMEOUT_S)

    _assert_timeout(aftermath)
    assert time.thread_time() - spent_before_s < TIMEOUT_S / 2


@pytest.mark.slow
def test_other_files_in_the_place_of_the_pipes_are_the_functions_loss(arena: Arena) -> None:
    """The reply goes where the function led it; the engine hears nothing, and the deadline comes."""
    attack = """
        reply, wire = reply_descriptor(), [fd for fd in descriptors() if fd >= 64]
        null = os.open("/dev/null", os.O_RDWR)
        silence = os.pipe()[0]
        for fd in wire:
            os.dup2(null if fd == reply else silence, fd)
        return "lost"
    """
    _assert_timeout(arena(attack, timeout_s=TIMEOUT_S))


def test_exit_with_half_a_reply_written_is_an_exit(arena: Arena) -> None:
    """A well-formed reply that lacks its last byte is none."""
    half = "write(reply_descriptor(), frame('result', stolen_token(), '\"half\"')[:-1])\nos._exit(0)"

    _assert_exited(arena(half), "exit status 0")


def test_exit_with_a_whole_reply_written_is_a_result(
    engine: Engine, armed: FunctionMaker, wait_until_dead: DeathWatch
) -> None:
    """A complete reply in the pipe wins over the exit behind it; the next start is cold."""
    source = """
        from arms import *

        def handler(event, context):
            if event == "attack":
                write(reply_descriptor(), frame("result", stolen_token(), str(os.getpid())))
                os._exit(0)
            return "calm"
    """
    function = armed(source)
    result = engine.invoke(function, "attack")
    wait_until_dead(result.value)
    after = engine.invoke(function, None)

    assert Status.SUCCESS is result.status
    assert ("calm", True) == (after.value, after.cold_start)


@pytest.mark.slow
def test_reply_after_the_deadline_is_not_heard(arena: Arena, tmp_path: Path) -> None:
    """A helper that waits for its parent's death to reply in its place dies with it."""
    aftermath = arena(
        f"""
        forged, fd, parent = frame("result", stolen_token(), '"late"'), reply_descriptor(), os.getpid()
        if os.fork() == 0:
            os.setsid()
            with open({str(tmp_path / "helper")!r}, "w") as note:
                note.write(str(os.getpid()))
            give_up_at = time.time() + GIVE_UP_S
            while os.getppid() == parent and time.time() < give_up_at:
                pass
            write(fd, forged)
            os._exit(0)
        hang()
        """,
        timeout_s=TIMEOUT_S,
    )

    _assert_timeout(aftermath)
    assert not psutil.pid_exists(int((tmp_path / "helper").read_text()))


def test_reply_of_a_copy_is_not_heard(arena: Arena) -> None:
    """A forked child that returns from the handler is not the instance."""
    aftermath = arena("child = os.fork()\nif child:\n    os.waitpid(child, 0)\nreturn child and 'parent'")

    assert (Status.SUCCESS, "parent") == (aftermath.result.status, aftermath.result.value)
    assert aftermath.instance_survived


@pytest.mark.slow
def test_pipes_that_were_made_small_or_non_blocking_still_work(arena: Arena) -> None:
    """Pipe sizes and flags are shared with the function; six megabytes come through all the same."""
    aftermath = arena(
        """
        import fcntl
        for fd in descriptors():
            try:
                fcntl.fcntl(fd, 1031, 4096)  # F_SETPIPE_SZ
            except EnvironmentError:
                pass
        return "x" * (6 * 2 ** 20 - 2)
        """
    )

    assert 6 * 2**20 - 2 == len(aftermath.result.value)
    assert aftermath.instance_survived
