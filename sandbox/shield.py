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

What a filter refuses it refuses to the zygote as well, which does none of it. The kernel knows from the filter's
text which system calls pass whatever their arguments are, and does not run it for those (since 5.11): so only the
few that are named below pay for it.

Kernels that have neither are no reason to refuse work; README.md says what holds where.
"""

import ctypes
import errno
import os
import struct

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any, Iterable, Optional

    Instruction = tuple[int, int, int, int]  # operation, jump if true, jump if false, constant
    Block = list[Instruction]

# Landlock's three calls have the same numbers on every machine (linux/landlock.h).
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_ACCESS_FS_REFER = 1 << 13
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1 << 0, 1 << 1
_ABI_WITH_REFER, _ABI_WITH_SCOPES = 2, 6

_SECCOMP_SET_MODE_FILTER = 1
# Before 5.16 a filter also turned a protection against Spectre on that slows all code down; a function's is its own.
_FILTER_FLAG_SPEC_ALLOW = 1 << 2

# struct seccomp_data: where the number, the machine and the arguments are. All machines below are little-endian.
_NUMBER, _MACHINE, _LOW, _HIGH = 0, 4, (16, 24, 32, 40, 48, 56), (20, 28, 36, 44, 52, 60)

_LOAD, _RETURN = 0x20, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_RET | BPF_K (linux/bpf_common.h)
_EQUAL, _AT_LEAST, _ANY_BIT = 0x15, 0x35, 0x45  # BPF_JMP | BPF_K | BPF_JEQ, BPF_JGE, BPF_JSET

_ALLOW = [(_RETURN, 0, 0, 0x7FFF0000)]
_REFUSE = [(_RETURN, 0, 0, 0x00050000 | errno.EPERM)]
_UNKNOWN = [(_RETURN, 0, 0, 0x00050000 | errno.ENOSYS)]

_X32_BIT = 0x40000000
_CLONE_PARENT = 0x8000
_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36
_PRIO_USER, _IOPRIO_WHO_USER = 2, 3
_F_SETOWN, _F_SETOWN_EX = 8, 15
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902

# AUDIT_ARCH_... of linux/audit.h, and the numbers of asm/unistd.h; "seccomp" is for the installation alone.
MACHINES = {
    "x86_64": (
        0xC000003E,
        {
            "clone": 56, "clone3": 435, "fcntl": 72, "ioctl": 16, "ioprio_set": 251, "kill": 62,
            "pidfd_send_signal": 424, "prctl": 157, "prlimit64": 302, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
            "sched_setaffinity": 203, "sched_setattr": 314, "sched_setparam": 142, "sched_setscheduler": 144,
            "seccomp": 317, "setpriority": 141, "tgkill": 234, "tkill": 200,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "clone": 220, "clone3": 435, "fcntl": 25, "ioctl": 29, "ioprio_set": 30, "kill": 129,
            "pidfd_send_signal": 424, "prctl": 167, "prlimit64": 261, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
            "sched_setaffinity": 122, "sched_setattr": 274, "sched_setparam": 118, "sched_setscheduler": 119,
            "seccomp": 277, "setpriority": 140, "tgkill": 131, "tkill": 130,
        },
    ),
}  # type: dict[str, tuple[int, dict[str, int]]]

_libc = ctypes.CDLL(None, use_errno=True)


def raise_shield():
    # type: () -> Optional[int]
    """Install the filter on this zygote, and return the ruleset that its instances are to enter, if there is one."""
    abi = landlock_abi()
    protected = {os.getpid(), os.getppid(), os.getpgid(os.getppid())} - {0}  # 0: outside of our pid namespace
    install(filter_program(_machine(), protected, abi >= _ABI_WITH_SCOPES))
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
        _call(_LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(root)
    return ruleset


def enter(ruleset):
    # type: (int) -> None
    """Put this process, and all that it will ever start, into a domain of its own.

    Raises:
        OSError: The kernel refused: E2BIG, when the engine itself is inside of 16 domains.
    """
    _call(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def filter_program(machine, protected, signals_are_scoped):
    # type: (str, Iterable[int], bool) -> Block
    """Return the filter for *machine*, nothing for one that is not known here.

    Args:
        machine: As uname(2) names it.
        protected: The numbers of the processes and groups that nothing is done to.
        signals_are_scoped: Whether Landlock keeps signals in; the filter then leaves alone what it can only forbid.
    """
    if machine not in MACHINES:
        return []
    audit_name, numbers = MACHINES[machine]
    # 32-bit and x32 programs have other numbers, and would get by: no such system call, as without their support.
    program = _unless(_MACHINE, audit_name, _UNKNOWN) + _when(_NUMBER, _AT_LEAST, _X32_BIT, _UNKNOWN)
    for name, rule in sorted(_rules(sorted(protected), signals_are_scoped).items()):
        program += _when(_NUMBER, _EQUAL, numbers[name], rule + _ALLOW)
    return program + _ALLOW


def _rules(protected, signals_are_scoped):
    # type: (list[int], bool) -> dict[str, Block]
    """What is refused of each system call; what is not refused is allowed."""
    first_is_protected = _refuse_values(0, protected)
    second_is_protected = _refuse_values(1, protected)
    by_signal = _refuse_values(0, protected + [-each for each in protected] + [-1])
    rules = {
        # A child of the caller's parent is none of the instance's tree; and clone3's flags are behind a pointer: libc
        # goes back to clone when there is no such call.
        "clone": _when(_LOW[0], _ANY_BIT, _CLONE_PARENT, _REFUSE),
        "clone3": _UNKNOWN,
        # To adopt orphans is kept for good. And the figures of a process that is not dumpable are root's to read.
        "prctl": _when(_LOW[0], _EQUAL, _PR_SET_CHILD_SUBREAPER, _when_zero(1, _REFUSE))
        + _when(_LOW[0], _EQUAL, _PR_SET_DUMPABLE, _when_zero(1, _REFUSE)),
        # Another instance's number is not known here: limits are set on oneself, which is 0, and read of anybody.
        "prlimit64": _when(_LOW[0], _EQUAL, 0, _ALLOW) + _when_zero(2, _ALLOW) + _REFUSE,
        "setpriority": _when(_LOW[0], _EQUAL, _PRIO_USER, _REFUSE) + second_is_protected,
        "ioprio_set": _when(_LOW[0], _EQUAL, _IOPRIO_WHO_USER, _REFUSE) + second_is_protected,
        "kill": by_signal,
        "rt_sigqueueinfo": by_signal,
    }
    for name in ("sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"):
        rules[name] = first_is_protected
    for name in ("tkill", "tgkill", "rt_tgsigqueueinfo"):
        rules[name] = first_is_protected
    if not signals_are_scoped:
        # Whom a pidfd stands for is nothing that a filter can see; nor is what is behind a pointer.
        rules["pidfd_send_signal"] = _UNKNOWN
        owner = _refuse_values(2, protected + [-each for each in protected])
        rules["fcntl"] = _when(_LOW[1], _EQUAL, _F_SETOWN, owner) + _when(_LOW[1], _EQUAL, _F_SETOWN_EX, _REFUSE)
        rules["ioctl"] = _refuse_values(1, [_FIOSETOWN, _SIOCSPGRP])
    return rules


def _refuse_values(argument, values):
    # type: (int, list[int]) -> Block
    """Refuse when the *argument*, an int, is one of *values*: the kernel looks at its lower half only, and so do we."""
    blocks = [_when(_LOW[argument], _EQUAL, each & 0xFFFFFFFF, _REFUSE) for each in values]
    return [instruction for block in blocks for instruction in block]


def _when_zero(argument, block):
    # type: (int, Block) -> Block
    """Go through *block* when the *argument*, a long or a pointer, is 0."""
    return _when(_LOW[argument], _EQUAL, 0, _when(_HIGH[argument], _EQUAL, 0, block))


def _when(offset, test, constant, block):
    # type: (int, int, int, Block) -> Block
    """Go through *block* when the word at *offset* passes the *test*, else past it: a jump has one byte for that."""
    return [(_LOAD, 0, 0, offset), (test, 0, len(block), constant)] + block


def _unless(offset, constant, block):
    # type: (int, int, Block) -> Block
    """Go through *block* when the word at *offset* is not the *constant*, else past it."""
    return [(_LOAD, 0, 0, offset), (_EQUAL, len(block), 0, constant)] + block


def install(program):
    # type: (Block) -> None
    """Put the filter on this process and what it starts; where there is none it goes without.

    Raises:
        OSError: The kernel refused: EACCES, when this process may still gain privileges.
    """
    if not program:
        return
    code = b"".join(struct.pack("=HBBI", *each) for each in program)
    held = ctypes.create_string_buffer(code, len(code))
    address = struct.pack("@HP", len(program), ctypes.addressof(held))
    number = MACHINES[_machine()][1]["seccomp"]
    try:
        _call(number, _SECCOMP_SET_MODE_FILTER, _FILTER_FLAG_SPEC_ALLOW, ctypes.create_string_buffer(address))
    except OSError as error:
        # Built without CONFIG_SECCOMP_FILTER; or within somebody's sandbox that allows none.
        if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            raise


def _machine():
    # type: () -> str
    """Return what uname(2) names this machine, if this is not a 32-bit interpreter on it."""
    return os.uname()[4] if struct.calcsize("P") == 8 else ""  # noqa: PLR2004


def landlock_abi():
    # type: () -> int
    """Return what this kernel's Landlock can do, 0 when it is not there or was switched off at boot."""
    try:
        return _call(_LANDLOCK_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def _create_ruleset(attributes):
    # type: (bytes) -> int
    size = len(attributes)
    return _call(_LANDLOCK_CREATE_RULESET, ctypes.create_string_buffer(attributes, size), size, 0)


def _call(number, *arguments):
    # type: (int, *Any) -> int
    """Make a system call.

    Raises:
        OSError: The kernel refused.
    """
    longs = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *longs))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, "system call %d: %s" % (number, os.strerror(code)))
    return result
