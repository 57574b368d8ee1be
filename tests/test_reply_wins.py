"""A reply that is in the pipe wins, however large it is and whatever happens at the same moment."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from engine import Engine, Status
from engine.channel import Channel

if TYPE_CHECKING:
    from tests.conftest import FunctionMaker

LARGE_BYTES = 300_000
"""More than one read of the engine, less than the pipe that the child makes of it."""


@pytest.fixture(name="delayed")
def _delayed(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An engine that is not scheduled between the request and its next look, until the test says so."""
    may_look = threading.Event()
    wait = Channel.wait

    def held_up(channel: Channel, timeout_ns: int) -> int:
        if timeout_ns > 0:
            may_look.wait(20)
            return wait(channel, 0)
        return wait(channel, timeout_ns)

    def sent_only(channel: Channel, request: bytes, _token: str, _timeout_ns: int) -> None:
        channel.send(request)

    monkeypatch.setattr(Channel, "wait", held_up)
    monkeypatch.setattr(Channel, "exchange", sent_only)
    return may_look


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["pass", "os._exit(7)"], ids=["deadline", "exit"])
def test_large_reply_wins_over_what_happens_behind_it(
    ending: str, own_engine: Engine, make_function: FunctionMaker, delayed: threading.Event, tmp_path: Any
) -> None:
    """It is read to its end before the clock, or the end of the process, is judged."""
    fifo = tmp_path / "done"
    function = make_function(
        f"""
        import os, threading, time

        def end(path):
            time.sleep(0.3)  # the reply is written by now, and the deadline of 0.2 s has passed
            with open(path, "w"):
                pass
            {ending}

        def handler(event, context):
            if event is None:
                return None
            threading.Thread(target=end, args=(event,)).start()
            return "x" * {LARGE_BYTES}
        """,
        timeout_s=0.2,
    )
    delayed.set()
    own_engine.invoke(function, None)
    delayed.clear()
    os.mkfifo(fifo)
    invocation = own_engine.submit(function, str(fifo))
    with open(fifo, encoding="ascii") as announced:
        announced.read()
    delayed.set()
    result = invocation.result(20)

    assert Status.SUCCESS is result.status
    assert LARGE_BYTES == len(result.value)
