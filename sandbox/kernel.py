"""The few system calls that no module of the standard library offers, or not that of 2.7.

ctypes costs 4-5 ms to import, so only a zygote imports this module: what it sets before it starts an
interpreter by exec is kept across the exec, and a forked instance has ctypes from its zygote.
"""

import ctypes
import os

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_M_ARENA_MAX = -8  # malloc.h

_SIG_SETMASK = 2
_SIGSET_BYTES = 128  # of glibc and musl alike: 1024 signals, most of which do not exist

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)


def system_call(number, *arguments):
    # type: (int, *Any) -> int
    """Make the system call of this *number*; integers go as longs, everything else as ctypes has it.

    Raises:
        OSError: The kernel refused.
    """
    longs = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *longs))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, "system call %d: %s" % (number, os.strerror(code)))
    return result


def prctl(option, argument):
    # type: (int, int) -> None
    """Ask the kernel for one of the things that are set by its system call of this name.

    Raises:
        OSError: The kernel refused.
    """
    unsigned = ctypes.c_ulong
    if _libc.prctl(ctypes.c_int(option), unsigned(argument), unsigned(0), unsigned(0), unsigned(0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, "prctl(%d, %d): %s" % (option, argument, os.strerror(number)))


def unblock_signals():
    # type: () -> None
    """Have every signal delivered again; 2.7's signal module has no word for it."""
    nothing = (ctypes.c_ubyte * _SIGSET_BYTES)()
    _libc.sigprocmask(ctypes.c_int(_SIG_SETMASK), nothing, None)


def share_one_arena():
    # type: () -> None
    """Let the threads of this process, and of what it forks, take memory from one place.

    glibc gives a second thread a place of its own, so an instance that serves on one left the pages that it shares
    with its zygote and filled new ones: 2.7 MB of its own instead of 2.4, and 90 page faults more in a cold start.
    musl has one place anyway.
    """
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(ctypes.c_int(_M_ARENA_MAX), ctypes.c_int(1))


def adopt_orphans():
    # type: () -> None
    """Become the parent of every descendant whose own parent ends (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent_pid):
    # type: (int) -> None
    """Be killed when the parent's forking thread ends; the parent is a single-threaded zygote."""
    prctl(PR_SET_PDEATHSIG, 9)
    if os.getppid() != parent_pid:  # it ended before the line above
        os._exit(1)


def renounce_privileges():
    # type: () -> None
    """No program started from here on gains privileges by setuid or file capabilities."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
