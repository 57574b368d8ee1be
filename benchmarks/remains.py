"""Nothing may outlive its measurement: whatever is left is found, named and ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from benchmarks.footprint import descendants, is_zombie

_PR_SET_CHILD_SUBREAPER: Final = 36
_GRACE_S: Final = 2.0
"""A helper that ends when it sees its pipe close, as a zygote or a resource tracker does, needs a moment for it."""

_LOOK_EVERY_S: Final = 0.01


def adopt_orphans() -> None:
    """Make this process the parent of every process below it that loses its own.

    Without it a daemon that a contender leaves behind would become a child of init, and nobody would notice.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def end_all(keep: Collection[int], grace_s: float = _GRACE_S) -> list[str]:
    """Wait for every process below this one, but for those to *keep*.

    Returns:
        The names of those that were still alive after *grace_s*, and had to be killed.
    """
    latest = time.monotonic() + grace_s
    while _others(keep) and time.monotonic() < latest:
        time.sleep(_LOOK_EVERY_S)
    left: dict[int, str] = {}
    # Again and again: one that is being killed may have started another.
    while alive := _others(keep):
        for pid in alive:
            left.setdefault(pid, _name_of(pid))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_EVERY_S)
    return sorted(left.values())


def _others(keep: Collection[int]) -> list[int]:
    """Who is alive below us and not to *keep*, after those that have ended were collected."""
    others = [pid for pid in descendants(os.getpid()) if pid not in keep]
    return [pid for pid in others if not _has_ended(pid)]


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        # The child of somebody below us, who may never collect it.
        return is_zombie(pid)


def _name_of(pid: int) -> str:
    """The command line of *pid*, its first argument without its folder."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").rstrip("\0").split("\0")
    except OSError:
        arguments = []
    return " ".join([os.path.basename(arguments[0]), *arguments[1:3]]) if arguments else str(pid)
