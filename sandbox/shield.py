"""What keeps a function's hands off its zygote, the engine and other instances, all of which run as the same user.

Theory of operation
-------------------
To the kernel a function and whoever started it are one user: it may signal, trace and slow down all of them. Two
walls stand in between, each where it is cheapest.

A Landlock domain of its own for each instance. Signals do not leave it (since Linux 6.12), nor does whatever asks
for the right to trace: ptrace(2), /proc/PID/mem, the descriptors behind /proc/PID/fd, process_vm_writev(2),
pidfd_getfd(2). That holds for root as well, and for numbers that nobody knew beforehand: those of other instances.
The zygote makes the ruleset once; an instance enters it before anything of its function runs, and everything that
it starts is inside with it. From outside nothing changes: zygote and engine see and kill what they like.

A seccomp filter that the zygote installs on itself and that every instance inherits for nothing. It stands in front
of what Landlock knows nothing of: leaving the tree (CLONE_PARENT, or no longer to adopt orphans), hiding from the
engine's looks, limits and scheduling of other processes. On kernels without Landlock's scopes it also refuses
signals to the zygote, the engine and its group, by number; other instances are not protected from signals there.

What a filter refuses it refuses to the zygote as well, which does none of it. Only the few system calls that are
named below pay for it (see ``bpf``).

Kernels that have neither are no reason to refuse work; README.md says what holds where.
"""

import ctypes
import errno
import os
import struct

from sandbox import bpf
from sandbox.bpf import ALLOW, ANY_BIT, EQUAL, HIGH, LOW, REFUSE, UNKNOWN, when
from sandbox.kernel import system_call

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Iterable, Optional

    from sandbox.bpf import Block

# Landlock's three calls have the same numbers on every machine (linux/landlock.h).
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_ACCESS_FS_REFER = 1 << 13
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1 << 0, 1 << 1
_ABI_WITH_REFER, _ABI_WITH_SCOPES = 2, 6

# Before 5.16 a filter also turned a protection against Spectre on that slows all code down; a function's is its own.
_FILTER_FLAG_SPEC_ALLOW = 1 << 2

_CLONE_PARENT = 0x8000
_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36
_PRIO_USER, _IOPRIO_WHO_USER = 2, 3
_F_SETOWN, _F_SETOWN_EX = 8, 15
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902

# Numbers of asm/unistd.h: x86-64's, and those of the generic table.
NUMBERS = {
    "clone": bpf.CLONE, "clone3": bpf.CLONE3, "fcntl": bpf.FCNTL, "ioctl": (16, 29), "ioprio_set": (251, 30),
    "kill": (62, 129), "pidfd_send_signal": (424, 424), "prctl": (157, 167), "prlimit64": (302, 261),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274), "sched_setparam": (142, 118), "sched_setscheduler": (144, 119),
    "setpriority": (141, 140), "tgkill": (234, 131), "tkill": (200, 130),
}  # fmt: skip


def raise_shield():
    # type: () -> Optional[int]
    """Install the filter on this zygote, and return the ruleset that its instances are to enter, if there is one."""
    abi = landlock_abi()
    protected = {os.getpid(), os.getppid(), os.getpgid(os.getppid())} - {0}  # 0: outside of our pid namespace
    install(filter_program(bpf.machine(), protected, abi >= _ABI_WITH_SCOPES))
    return make_ruleset(abi)


def make_ruleset(abi, scopes=SCOPE_SIGNAL):
    # type: (int, int) -> Optional[int]
    """Return a descriptor of the ruleset, or None where Landlock would take more from a function than it gives."""
    if abi >= _ABI_WITH_SCOPES:
        # No right of the file system is handled, so none is taken: renames and mounts are as before.
        return _create_ruleset(struct.pack("=QQQ", 0, 0, scopes))
    if abi < _ABI_WITH_REFER:
        return None  # 5.13 to 5.18: no file could be moved from one folder to another
    # The smallest one that makes a domain; tracing stops there whatever is handled. mount(2) is refused in it.
    ruleset = _create_ruleset(struct.pack("=Q", _ACCESS_FS_REFER))
    root = os.open("/", os.O_RDONLY)
    try:
        rule = ctypes.create_string_buffer(struct.pack("=Qi", _ACCESS_FS_REFER, root), 12)
        system_call(_LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(root)
    return ruleset


def enter(ruleset):
    # type: (int) -> None
    """Put this process, and all that it will ever start, into a domain of its own.

    Raises:
        OSError: The kernel refused: E2BIG, when the engine itself is inside of 16 domains.
    """
    system_call(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def filter_program(machine, protected, signals_are_scoped):
    # type: (str, Iterable[int], bool) -> Block
    """Return the filter for *machine*, nothing for one that is not known here.

    Args:
        machine: As uname(2) names it.
        protected: The numbers of the processes and groups that nothing is done to.
        signals_are_scoped: Whether Landlock keeps signals in; the filter then leaves alone what it can only forbid.
    """
    if machine not in bpf.MACHINES:
        return []
    program = bpf.beginning(machine)
    for name, rule in sorted(_rules(sorted(protected), signals_are_scoped).items()):
        program += when(bpf.NUMBER, EQUAL, bpf.number(NUMBERS[name], machine), rule + ALLOW)
    return program + ALLOW


def _rules(protected, signals_are_scoped):
    # type: (list[int], bool) -> dict[str, Block]
    """What is refused of each system call; what is not refused is allowed."""
    first_is_protected = _refuse_values(0, protected)
    second_is_protected = _refuse_values(1, protected)
    by_signal = _refuse_values(0, protected + [-each for each in protected] + [-1])
    rules = {
        # A child of the caller's parent is none of the instance's tree; and clone3's flags are behind a pointer: libc
        # goes back to clone when there is no such call.
        "clone": when(LOW[0], ANY_BIT, _CLONE_PARENT, REFUSE),
        "clone3": UNKNOWN,
        # To adopt orphans is kept for good. And the figures of a process that is not dumpable are root's to read.
        "prctl": when(LOW[0], EQUAL, _PR_SET_CHILD_SUBREAPER, _when_zero(1, REFUSE))
        + when(LOW[0], EQUAL, _PR_SET_DUMPABLE, _when_zero(1, REFUSE)),
        # Another instance's number is not known here: limits are set on oneself, which is 0, and read of anybody.
        "prlimit64": when(LOW[0], EQUAL, 0, ALLOW) + _when_zero(2, ALLOW) + REFUSE,
        "setpriority": when(LOW[0], EQUAL, _PRIO_USER, REFUSE) + second_is_protected,
        "ioprio_set": when(LOW[0], EQUAL, _IOPRIO_WHO_USER, REFUSE) + second_is_protected,
        "kill": by_signal,
        "rt_sigqueueinfo": by_signal,
    }
    for name in ("sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"):
        rules[name] = first_is_protected
    for name in ("tkill", "tgkill", "rt_tgsigqueueinfo"):
        rules[name] = first_is_protected
    if not signals_are_scoped:
        # Whom a pidfd stands for is nothing that a filter can see; nor is what is behind a pointer.
        rules["pidfd_send_signal"] = UNKNOWN
        owner = _refuse_values(2, protected + [-each for each in protected])
        rules["fcntl"] = when(LOW[1], EQUAL, _F_SETOWN, owner) + when(LOW[1], EQUAL, _F_SETOWN_EX, REFUSE)
        rules["ioctl"] = _refuse_values(1, [_FIOSETOWN, _SIOCSPGRP])
    return rules


def _refuse_values(argument, values):
    # type: (int, list[int]) -> Block
    """Refuse when the *argument*, an int, is one of *values*: the kernel looks at its lower half only, and so do we."""
    return bpf.join([when(LOW[argument], EQUAL, each & 0xFFFFFFFF, REFUSE) for each in values])


def _when_zero(argument, block):
    # type: (int, Block) -> Block
    """Go through *block* when the *argument*, a long or a pointer, is 0."""
    return when(LOW[argument], EQUAL, 0, when(HIGH[argument], EQUAL, 0, block))


def install(program):
    # type: (Block) -> None
    """Put the filter on this process and what it starts; where there is none it goes without.

    Raises:
        OSError: The kernel refused: EACCES, when this process may still gain privileges.
    """
    if not program:
        return
    try:
        bpf.install(program, _FILTER_FLAG_SPEC_ALLOW)
    except OSError as error:
        # Built without CONFIG_SECCOMP_FILTER; or within somebody's sandbox that allows none.
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            raise


def landlock_abi():
    # type: () -> int
    """Return what this kernel's Landlock can do, 0 when it is not there or was switched off at boot."""
    try:
        return system_call(_LANDLOCK_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def _create_ruleset(attributes):
    # type: (bytes) -> int
    size = len(attributes)
    return system_call(_LANDLOCK_CREATE_RULESET, ctypes.create_string_buffer(attributes, size), size, 0)
