"""How a wait for an instance ended."""

from __future__ import annotations

import enum
from typing import NamedTuple

from engine.protocol import Frame


class Ended(enum.Enum):
    """Why a wait ended: the instance answered or ended by itself, or has to be killed for one of the others.

    NOT_BEGUN: it ended, or was halted, before it took the request, by what it or somebody else did earlier. The request
    is for another instance then.
    """

    REPLIED = "replied"
    EXITED = "exited"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    TOO_MANY_PROCESSES = "too_many_processes"
    BROKE_PROTOCOL = "broke_protocol"
    NOT_BEGUN = "not_begun"

    __hash__ = object.__hash__  # at C speed, as in engine.lifecycle


class Verdict(NamedTuple):
    """How a wait ended, when, and with which peak.

    Attributes:
        duration_ns: From the request to the verdict; never beyond the deadline for TIMED_OUT.
        peak_bytes: Peak memory of the tree.
        frame: The reply, when there was one that counts.
        detail: What broke the protocol, in words.
    """

    ended: Ended
    duration_ns: int
    peak_bytes: int
    frame: Frame | None = None
    detail: str = ""
