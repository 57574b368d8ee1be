"""What this machine's Landlock can do."""

from __future__ import annotations

import ctypes
from typing import Final

WITH_SIGNALS: Final = 6
"""The version that came with Linux 6.12: signals and abstract unix sockets stay within a domain."""


def landlock_abi() -> int:
    """Its version (landlock_create_ruleset(2)); 0 or less when it is not there."""
    return int(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1))
