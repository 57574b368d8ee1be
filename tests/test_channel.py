"""The engine's ends of the pipes, with the test at the other ends: what is sent, noticed, read and left unread."""

from __future__ import annotations

import errno
import fcntl
import os
import select
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from engine import protocol
from engine.channel import EXIT, OUTPUT, REPLY, Channel
from engine.clock import NS_PER_MS as MS
from engine.errors import ProtocolError
from engine.protocol import Frame

LOG_BYTES = 4096
PIPE_BYTES = 65536
FRAME = Frame("result", "t", b"[1]")
PATIENCE_NS = 10_000 * MS


@dataclass
class Pipes:
    """A channel, and the ends that an instance would hold; its exit is the end of one more pipe, as poll() sees it."""

    channel: Channel
    request: int
    reply: int
    log: int
    life: int

    def end(self, name: str) -> None:
        """Close one of the instance's ends."""
        os.close(getattr(self, name))
        setattr(self, name, -1)

    def end_all(self) -> None:
        """Close those that are open still."""
        for name in ("request", "reply", "log", "life"):
            if getattr(self, name) >= 0:
                self.end(name)

    def reply_with(self, frame: Frame) -> None:
        os.write(self.reply, protocol.encode({"type": frame.type, "token": frame.token}, frame.payload))


def opened() -> Pipes:
    request_read, request_write = os.pipe()
    reply_read, reply_write = os.pipe()
    log_read, log_write = os.pipe()
    life_read, life_write = os.pipe()
    channel = Channel(
        pidfd=life_read,
        request_fd=request_write,
        request_read_fd=os.dup(request_read),
        reply_fd=reply_read,
        log_fd=log_read,
        log_bytes=LOG_BYTES,
    )
    return Pipes(channel, request_read, reply_write, log_write, life_write)


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    pipes = opened()
    yield pipes
    pipes.channel.close()
    pipes.end_all()


def received_by(pipes: Pipes, size: int) -> bytes:
    """Let the engine wait until the instance has read *size* bytes of requests."""
    got = b""
    while len(got) < size:
        assert 0 == pipes.channel.wait(0)
        got += os.read(pipes.request, size)
    return got


def has_request(pipes: Pipes) -> bool:
    return bool(select.select([pipes.request], [], [], 0)[0])


def test_small_request_is_sent_at_once(pipes: Pipes) -> None:
    """No wait() is needed for what fits into the pipe."""
    pipes.channel.send(b"request")

    assert b"request" == os.read(pipes.request, 100)


@pytest.mark.slow
def test_request_that_does_not_fit_is_sent_while_the_engine_waits(pipes: Pipes) -> None:
    """6 MiB through a pipe of 64 KiB: in order and complete, however small the pieces that are read."""
    data = os.urandom(6 * 1024 * 1024)
    pipes.channel.send(data)

    assert data == received_by(pipes, len(data))
    assert not has_request(pipes)


def test_sending_is_no_news(pipes: Pipes) -> None:
    """wait() returns without a flag when it could write, and rests again once all is written."""
    pipes.channel.send(b"x" * (PIPE_BYTES + 1))

    assert b"x" * PIPE_BYTES == os.read(pipes.request, PIPE_BYTES)
    assert 0 == pipes.channel.wait(PATIENCE_NS)
    assert b"x" == os.read(pipes.request, PIPE_BYTES)
    assert [] == pipes.channel._poll.poll(0)


@pytest.mark.parametrize("has_room", [True, False])
def test_pipes_are_given_room_as_far_as_there_is_some(
    pipes: Pipes,
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_room: bool,
) -> None:
    """For what does not fit, what is written ahead, and much output; who may have no more goes on with small pipes."""
    call = fcntl.fcntl

    def refuse(fd: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETPIPE_SZ:
            raise PermissionError(errno.EPERM, "the user has no more room")
        return call(fd, command, argument)

    if not has_room:
        monkeypatch.setattr(fcntl, "fcntl", refuse)
    ends = (pipes.request, pipes.reply, pipes.log)
    room = 1 << 20 if has_room else PIPE_BYTES

    assert [PIPE_BYTES] * 3 == [call(fd, fcntl.F_GETPIPE_SZ) for fd in ends]
    pipes.channel.send(b"x" * (PIPE_BYTES + 1))
    assert [room, PIPE_BYTES, PIPE_BYTES] == [call(fd, fcntl.F_GETPIPE_SZ) for fd in ends]
    pipes.channel.widen()
    assert [room, room, PIPE_BYTES] == [call(fd, fcntl.F_GETPIPE_SZ) for fd in ends]
    pipes.channel._stop_listening()
    assert [room, room, room] == [call(fd, fcntl.F_GETPIPE_SZ) for fd in ends]


def test_request_waits_behind_what_was_not_sent_yet(pipes: Pipes) -> None:
    """The settings of a new instance may be longer than the pipe; the request comes after them, not instead."""
    pipes.channel.send(b"a" * (PIPE_BYTES + 5))
    pipes.channel.send(b"b" * 7)

    assert b"a" * (PIPE_BYTES + 5) + b"b" * 7 == received_by(pipes, PIPE_BYTES + 12)


def test_reply_is_noticed_while_a_request_is_being_sent(pipes: Pipes) -> None:
    """An instance that answers without reading cannot make the engine wait for ever."""
    pipes.channel.send(b"x" * (2 * PIPE_BYTES))
    pipes.reply_with(FRAME)

    assert REPLY == pipes.channel.wait(PATIENCE_NS)
    assert [FRAME] == pipes.channel.receive()


def test_sending_to_a_dead_instance_goes_nowhere(pipes: Pipes) -> None:
    """No SIGPIPE, no error: its exit is found by the wait that follows."""
    pipes.end_all()
    pipes.channel.send(b"x" * (2 * PIPE_BYTES))

    assert EXIT & pipes.channel.wait(PATIENCE_NS)


@pytest.mark.parametrize(("end", "flag"), [("reply", REPLY), ("log", OUTPUT), ("life", EXIT)])
def test_each_descriptor_has_its_flag(pipes: Pipes, end: str, flag: int) -> None:
    """What can be read is told apart."""
    os.write(getattr(pipes, end), b"x")

    assert flag == pipes.channel.wait(PATIENCE_NS)


def test_everything_that_happened_is_told_at_once(pipes: Pipes) -> None:
    """So that the supervisor can say who wins."""
    for fd in (pipes.reply, pipes.log, pipes.life):
        os.write(fd, b"x")

    assert REPLY | OUTPUT | EXIT == pipes.channel.wait(PATIENCE_NS)


def test_nothing_is_told_when_nothing_happened(pipes: Pipes) -> None:
    """Time that has passed already is no reason to wait at all."""
    assert [0, 0] == [pipes.channel.wait(0), pipes.channel.wait(-PATIENCE_NS)]


@pytest.mark.parametrize(
    ("timeout_ns", "poll_ms", "sleep_s"),
    [
        (0, 0, []),
        (-5 * MS, 0, []),
        (1, 0, [1e-9]),
        (MS - 1, 0, [0.000999999]),
        (MS, 1, []),
        (25 * MS, 25, []),
        (25 * MS + 999_999, 25, []),
    ],
)
def test_wait_is_never_longer_than_asked(
    pipes: Pipes, monkeypatch: pytest.MonkeyPatch, timeout_ns: int, poll_ms: int, sleep_s: list[float]
) -> None:
    """poll() knows whole milliseconds and rounds up: it gets those, and what is below one is slept exactly."""
    polled: list[int] = []
    slept: list[float] = []

    class Poll:
        def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
            polled.append(timeout_ms)
            return []

    def keep(reading: Sequence[Any], writing: Sequence[Any], failing: Sequence[Any], timeout_s: float) -> None:
        slept.append(timeout_s)

    monkeypatch.setattr(pipes.channel, "_poll", Poll())
    monkeypatch.setattr(select, "select", keep)
    pipes.channel.wait(timeout_ns)

    assert ([poll_ms], sleep_s) == (polled, slept)


def test_reply_comes_in_any_pieces(pipes: Pipes) -> None:
    """Nothing is given for a part of a frame; an early look at an empty pipe does no harm."""
    data = protocol.encode({"type": FRAME.type, "token": FRAME.token}, FRAME.payload)

    assert [] == pipes.channel.receive()
    os.write(pipes.reply, data[:5])
    assert [] == pipes.channel.receive()
    os.write(pipes.reply, data[5:])
    assert [FRAME] == pipes.channel.receive()


def test_nonsense_on_the_reply_pipe_is_a_protocol_error(pipes: Pipes) -> None:
    """A handler that writes to every descriptor it finds does not confuse the engine."""
    os.write(pipes.reply, b"hello, world\n")

    with pytest.raises(ProtocolError):
        pipes.channel.receive()


def test_end_of_the_reply_pipe_is_told_once(pipes: Pipes) -> None:
    """A pipe at its end is readable for ever; the wait that follows rests all the same."""
    pipes.end("reply")

    assert REPLY == pipes.channel.wait(PATIENCE_NS)
    assert [] == pipes.channel.receive()
    assert 0 == pipes.channel.wait(0)
    assert [] == pipes.channel.receive()


def test_end_of_the_log_pipe_is_told_once(pipes: Pipes) -> None:
    """A function that closes its output does not keep the engine busy, and what it wrote is kept."""
    os.write(pipes.log, b"last words")
    pipes.end("log")
    pipes.channel.read_output()

    assert OUTPUT == pipes.channel.wait(PATIENCE_NS)
    pipes.channel.read_output()
    assert 0 == pipes.channel.wait(0)
    assert ("last words", 0) == pipes.channel.log.take()


TOKEN = "0123456789abcdef"


def exchanged(pipes: Pipes, *frames: Frame) -> Frame | None:
    """What exchange() gives when these are there as soon as it looks."""
    for frame in frames:
        pipes.reply_with(frame)
    given = pipes.channel.exchange(b"request", TOKEN, PATIENCE_NS)
    assert b"request" == os.read(pipes.request, 100)
    return given


@pytest.mark.parametrize("kind", ["result", "error", "invalid"])
def test_exchange_gives_the_reply(pipes: Pipes, kind: str) -> None:
    """Sent, waited and read in one; failures of the function come the same way."""
    assert Frame(kind, TOKEN, b"[1]") == exchanged(pipes, Frame(kind, TOKEN, b"[1]"))


def test_exchange_drops_frames_with_other_tokens(pipes: Pipes) -> None:
    """A late or a forged reply before the true one changes nothing."""
    reply = Frame("result", TOKEN, b"true")

    assert reply == exchanged(pipes, Frame("result", "f" * 16, b"forged"), reply)


def test_reply_wins_over_everything_that_is_noticed_with_it(pipes: Pipes) -> None:
    """Output and the end of the process at the same moment: the reply all the same, and the output is kept."""
    os.write(pipes.log, b"last words")
    pipes.end("life")

    assert Frame("result", TOKEN, b"1") == exchanged(pipes, Frame("result", TOKEN, b"1"))
    assert ("last words", 0) == pipes.channel.take_pending_log()
    assert EXIT == pipes.channel.wait(0)


@pytest.mark.parametrize("end", ["log", "life"])
def test_exchange_leaves_everything_but_the_reply_to_who_waits(pipes: Pipes, end: str) -> None:
    """Output, an exit, or time: it gives nothing, and takes nothing."""
    os.write(getattr(pipes, end), b"x")

    assert exchanged(pipes) is None
    assert {"log": OUTPUT, "life": EXIT}[end] == pipes.channel.wait(0)


def test_exchange_waits_no_longer_than_asked(pipes: Pipes) -> None:
    """The deadline, or the next look at the memory."""
    assert pipes.channel.exchange(b"request", TOKEN, 0) is None


def test_exchange_of_a_reply_in_pieces_goes_on_with_receive(pipes: Pipes) -> None:
    """What was read of it already is not lost."""
    data = protocol.encode({"type": "result", "token": TOKEN}, b"[1]")
    os.write(pipes.reply, data[:-1])

    assert pipes.channel.exchange(b"request", TOKEN, PATIENCE_NS) is None
    os.write(pipes.reply, data[-1:])
    assert [Frame("result", TOKEN, b"[1]")] == pipes.channel.receive()


def test_exchange_of_nonsense_is_a_protocol_error(pipes: Pipes) -> None:
    """As from receive()."""
    os.write(pipes.reply, b"hello, world\n")

    with pytest.raises(ProtocolError):
        pipes.channel.exchange(b"request", TOKEN, PATIENCE_NS)


def test_exchange_with_a_closed_reply_pipe_is_no_reply(pipes: Pipes) -> None:
    """It is told by nothing; the exit or the deadline comes."""
    pipes.end("reply")

    assert pipes.channel.exchange(b"request", TOKEN, PATIENCE_NS) is None
    assert 0 == pipes.channel.wait(0)


def test_large_request_is_sent_on_while_it_is_waited(pipes: Pipes) -> None:
    """What does not fit into the pipe is left to wait()."""
    data = os.urandom(3 * PIPE_BYTES)

    assert pipes.channel.exchange(data, TOKEN, PATIENCE_NS) is None
    assert data == received_by(pipes, len(data))


def test_pending_log_of_silence_is_empty(pipes: Pipes) -> None:
    """And what came is taken, read before or not."""
    assert ("", 0) == pipes.channel.take_pending_log()
    os.write(pipes.log, b"read ")
    pipes.channel.read_output()
    assert ("read ", 0) == pipes.channel.take_pending_log()
    os.write(pipes.log, b"unread")
    assert ("unread", 0) == pipes.channel.take_pending_log()


def test_quiet_is_when_nothing_happened(pipes: Pipes) -> None:
    """The question before each request."""
    assert [] == pipes.channel.poll_now(0)
    os.write(pipes.log, b"x")
    assert [] != pipes.channel.poll_now(0)


def test_exit_is_told_as_long_as_it_is_asked_for(pipes: Pipes) -> None:
    """It is a state, and no event that could be missed."""
    pipes.end("life")

    assert [EXIT, EXIT] == [pipes.channel.wait(0), pipes.channel.wait(0)]


def test_output_is_read_a_pipe_full_at_a_time(pipes: Pipes) -> None:
    """Whoever prints without end gets no more than one read between two looks at the clock."""
    os.write(pipes.log, b"a" * PIPE_BYTES)
    pipes.channel.read_output()
    os.write(pipes.log, b"b")

    assert (LOG_BYTES, PIPE_BYTES - LOG_BYTES) == (len(pipes.channel.log.take().text), PIPE_BYTES - LOG_BYTES)
    assert OUTPUT == pipes.channel.wait(0)


def test_reading_output_that_is_not_there_does_not_block(pipes: Pipes) -> None:
    """Neither of the two ways to read."""
    pipes.channel.read_output()
    pipes.channel.read_pending_output()

    assert ("", 0) == pipes.channel.log.take()


def test_pending_output_is_taken_whole(pipes: Pipes) -> None:
    """All that was written before the reply belongs to the invocation, and its newest part is in the log."""
    os.write(pipes.log, b"x" * (PIPE_BYTES - 4) + b"end\n")
    pipes.channel.read_pending_output()
    log = pipes.channel.log.take()

    assert (LOG_BYTES, PIPE_BYTES - LOG_BYTES) == (len(log.text), log.dropped_bytes)
    assert log.text.endswith("xend\n")
    assert 0 == pipes.channel.wait(0)


def test_pending_output_is_what_was_there_at_the_beginning(pipes: Pipes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that goes on writing does not keep the result from being returned."""
    os.write(pipes.log, b"before")
    read = os.read

    def read_and_write(fd: int, size: int) -> bytes:
        data = read(fd, size)
        os.write(pipes.log, b"meanwhile")
        return data

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", read_and_write)
        pipes.channel.read_pending_output()

    assert ("before", 0) == pipes.channel.log.take()
    assert OUTPUT == pipes.channel.wait(0)


def test_pending_output_of_a_dead_instance_is_taken(pipes: Pipes) -> None:
    """What it wrote before it died is the most interesting part."""
    os.write(pipes.log, b"last words")
    pipes.end("log")
    pipes.channel.read_pending_output()

    assert ("last words", 0) == pipes.channel.log.take()


def test_discarded_output_never_shows_up(pipes: Pipes) -> None:
    """What was written while nobody asked belongs to no invocation: read or unread, it is gone."""
    os.write(pipes.log, b"read ")
    pipes.channel.read_output()
    os.write(pipes.log, b"unread")
    pipes.channel.discard_output()
    os.write(pipes.log, b"asked for")
    pipes.channel.read_pending_output()

    assert ("asked for", 0) == pipes.channel.log.take()


def made_chatty(pipes: Pipes) -> None:
    """Let the function print so often that it is not listened to any more."""
    for at in range(16):
        os.write(pipes.log, b"%d\n" % at)
        assert OUTPUT == pipes.channel.wait(PATIENCE_NS)
        pipes.channel.read_output()
    assert [] == pipes.channel.poll_now(0)
    os.write(pipes.log, b"more\n")
    assert [] == pipes.channel.poll_now(0)


def test_output_that_keeps_coming_is_found_without_waking(pipes: Pipes) -> None:
    """All of it, once in a tick; nothing is lost, and the newest is kept."""
    made_chatty(pipes)
    assert OUTPUT == pipes.channel.wait(PATIENCE_NS)
    pipes.channel.read_output()
    os.write(pipes.log, b"x" * 600_000)  # the pipe has grown
    assert OUTPUT == pipes.channel.wait(PATIENCE_NS)
    pipes.channel.read_output()
    os.write(pipes.log, b"end")

    log = pipes.channel.take_pending_log()
    printed = sum(len(b"%d\n" % at) for at in range(16)) + 5 + 600_000 + 3
    assert ("x" * (LOG_BYTES - 3) + "end", printed - LOG_BYTES) == log


def test_output_that_fills_the_pipe_is_told_at_once(pipes: Pipes) -> None:
    """Whoever prints that fast would have to wait for the end of the tick."""
    made_chatty(pipes)
    os.write(pipes.log, b"x" * 600_000)
    pipes.channel._poll = None  # type: ignore[assignment]  # nobody waits

    assert OUTPUT == pipes.channel.wait(PATIENCE_NS)
    pipes.channel._poll = select.poll()
    pipes.channel._is_listening = True


def test_reply_and_exit_are_noticed_beside_endless_output(pipes: Pipes) -> None:
    """As if nothing was printed."""
    made_chatty(pipes)
    pipes.reply_with(FRAME)
    pipes.end("life")

    assert REPLY | OUTPUT | EXIT == pipes.channel.wait(PATIENCE_NS)
    assert [FRAME] == pipes.channel.receive()


def test_who_falls_silent_is_listened_to_again(pipes: Pipes) -> None:
    """A tick without output, and the next word wakes at once."""
    made_chatty(pipes)
    pipes.channel.wait(PATIENCE_NS)
    pipes.channel.read_output()
    assert 0 == pipes.channel.wait(PATIENCE_NS)
    os.write(pipes.log, b"again")

    assert [] != pipes.channel.poll_now(0)
    assert OUTPUT == pipes.channel.wait(PATIENCE_NS)


def test_idle_instance_is_listened_to(pipes: Pipes) -> None:
    """What it prints when nobody asks must be found before the next request."""
    made_chatty(pipes)
    pipes.channel.take_pending_log()
    assert [] == pipes.channel.poll_now(0)
    os.write(pipes.log, b"x")

    assert [] != pipes.channel.poll_now(0)


def test_end_of_the_log_of_a_chatty_one_is_told_once(pipes: Pipes) -> None:
    """It neither keeps the engine busy nor hides what came before."""
    made_chatty(pipes)
    pipes.end("log")
    pipes.channel.wait(PATIENCE_NS)
    pipes.channel.read_output()
    for _ in range(3):
        if pipes.channel.wait(0):
            pipes.channel.read_output()

    assert [] == pipes.channel.poll_now(0)
    assert pipes.channel.take_pending_log().text.endswith("15\nmore\n")


def test_close_gives_every_descriptor_back() -> None:
    """All five that it was given, and no other."""
    pipes = opened()
    before = len(os.listdir("/proc/self/fd"))
    pipes.channel.close()

    assert before - 5 == len(os.listdir("/proc/self/fd"))
    pipes.end_all()
