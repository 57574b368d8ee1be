"""How ``fgengine`` is interrupted: at once, with status 128 + n, and with everything it started cleaned up.

The three signals that people and shells end a command with become SystemExit in the main thread, so that the
ordinary ``with`` and ``finally`` clean up. While that happens, more of the same is ignored: an impatient second
Ctrl-C must not stop the clean-up. Should SystemExit get lost (Python drops exceptions in destructors), the next
signal raises it again.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_on_signals() -> None:
    """From now on, end the process with status 128 + n on SIGINT, SIGTERM and SIGHUP."""
    for number in _ENDING:
        # Ignored by whoever started us (nohup, a shell's background job): stay that way.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


@contextlib.contextmanager
def signals_ignored_at_the_end() -> Iterator[None]:
    """Ignore the ending signals from the moment the block is left, whether by an exception or not."""
    try:
        yield
    finally:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
