"""A reply that is in the pipe wins, however large it is and whatever happens at the same moment."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from engine import Engine, Status
from engine.channel import Channel

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import DeathWatch, FunctionMaker

TIMEOUT_S = 0.2

LARGE_BYTES = 300_000
"""More than one read of the engine, less than the pipe that the child makes of it."""


@dataclass
class Delayed:
    """An engine that is not scheduled between a request and its next look, until the test says so."""

    may_look: threading.Event
    channel: Channel | None = None  # that of the latest request

    def wait_for_reply(self, size: int) -> None:
        """Return when a reply of *size* bytes is in the pipe."""
        while self.channel is None or self.channel._bytes_in(self.channel._reply_fd) < size:
            time.sleep(0.005)  # whoever reads a pipe is told when something comes, and not when all has


@pytest.fixture(name="delayed")
def _delayed(monkeypatch: pytest.MonkeyPatch) -> Delayed:
    delayed = Delayed(threading.Event())
    wait = Channel.wait

    def held_up(channel: Channel, timeout_ns: int) -> int:
        if timeout_ns > 0:
            delayed.may_look.wait(20)
            return wait(channel, 0)
        return wait(channel, timeout_ns)

    def sent_only(channel: Channel, request: bytes, _token: str, _timeout_ns: int) -> None:
        channel.send(request)
        delayed.channel = channel

    monkeypatch.setattr(Channel, "wait", held_up)
    monkeypatch.setattr(Channel, "exchange", sent_only)
    return delayed


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["pass", "os._exit(7)"], ids=["deadline", "exit"])
def test_large_reply_wins_over_what_happens_behind_it(
    own_engine: Engine,
    make_function: FunctionMaker,
    delayed: Delayed,
    wait_until_dead: DeathWatch,
    tmp_path: Path,
    *,
    ending: str,
) -> None:
    """It is read to its end before the clock, or the end of the process, is judged."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    function = make_function(
        f"""
        import os, threading

        def end(path):
            with open(path) as fifo:
                fifo.read()
            {ending}

        def handler(event, context):
            if event is not None:
                threading.Thread(target=end, args=(event,)).start()
            return [os.getpid(), "x" * (0 if event is None else {LARGE_BYTES})]
        """,
        timeout_s=TIMEOUT_S,
    )
    delayed.may_look.set()
    while not (before := own_engine.invoke(function, None)).ok:
        pass  # others had the processor for all of its time
    delayed.may_look.clear()
    invocation = own_engine.submit(function, str(fifo))
    delayed.wait_for_reply(LARGE_BYTES)
    threading.Event().wait(TIMEOUT_S)  # the deadline has passed
    fifo.write_text("end")
    if ending != "pass":
        wait_until_dead(before.value[0])
    delayed.may_look.set()
    result = invocation.result(20)

    assert Status.SUCCESS is result.status
    assert [before.value[0], LARGE_BYTES] == [result.value[0], len(result.value[1])]
