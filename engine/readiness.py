"""Whether something happened to one descriptor, now or within a time: for waits that no Channel is the place of."""

from __future__ import annotations

import select

from engine.clock import NS_PER_MS


def is_ready(fd: int, events: int, timeout_ns: int) -> bool:
    """Wait until one of *events* happens to *fd*, at most *timeout_ns*; return whether it did. 0 or less: look once.

    It waits for whole milliseconds, rounded up: who is told that nothing happened finds the deadline passed, and need
    not ask again. The close of the other end counts as an event (POLLHUP, POLLERR). A signal does not end the wait.
    """
    poll = select.poll()  # not select(): the host may have more descriptors than its bitmap
    poll.register(fd, events)
    return bool(poll.poll(max(0, -(-timeout_ns // NS_PER_MS))))
