"""Filters of system calls, as the kernel takes them: how they are written, for which machines, and installed.

A filter is a program for a small machine of the kernel's (seccomp(2), linux/filter.h): it looks at the number of a
system call and at its arguments, one word at a time, and jumps forward only. So it is put together of blocks, and
how far a jump goes is the length of the block that it jumps over.

The kernel knows from the filter's text which system calls pass whatever their arguments are, and does not run it for
those (since 5.11): so only the few pay for a filter whose arguments it looks at.

ctypes costs 4-5 ms to import, so only a zygote imports this module, and before anything of a function runs.
"""

import ctypes
import errno
import os
import struct

from sandbox.kernel import system_call

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    Instruction = tuple[int, int, int, int]  # operation, jump if true, jump if false, constant
    Block = list[Instruction]

# How uname(2) names it: AUDIT_ARCH_* of linux/audit.h, and which number of a pair below is this machine's.
MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Numbers of asm/unistd.h that more than one module needs: x86-64's, and those of the generic table.
CLONE, CLONE3, FCNTL, _SECCOMP = (56, 220), (435, 435), (72, 25), (317, 277)

# struct seccomp_data: where the number, the machine and the arguments are. All machines above are little-endian.
NUMBER, _MACHINE, LOW, HIGH = 0, 4, (16, 24, 32, 40, 48, 56), (20, 28, 36, 44, 52, 60)

_LOAD, _RETURN = 0x20, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_RET | BPF_K (linux/bpf_common.h)
EQUAL, _AT_LEAST, ANY_BIT = 0x15, 0x35, 0x45  # BPF_JMP | BPF_K | BPF_JEQ, BPF_JGE, BPF_JSET

_X32_BIT = 0x40000000
_SET_MODE_FILTER = 1


def fail(number):
    # type: (int) -> Block
    """End with this errno; no system call is made."""
    return [(_RETURN, 0, 0, 0x00050000 | number)]


ALLOW = [(_RETURN, 0, 0, 0x7FFF0000)]  # type: Block
REFUSE, UNKNOWN = fail(errno.EPERM), fail(errno.ENOSYS)


def machine():
    # type: () -> str
    """Return what uname(2) names this machine, if this is not a 32-bit interpreter on it."""
    return os.uname()[4] if struct.calcsize("P") == 8 else ""  # noqa: PLR2004  # the bytes of a 64-bit pointer


def number(pair, name):
    # type: (tuple[int, int], str) -> int
    """Return which of a system call's numbers is that of the machine of this *name*."""
    return pair[MACHINES[name][1]]


def beginning(name):
    # type: (str) -> Block
    """What every filter for the machine of this *name* begins with. The word that it leaves loaded is the number.

    32-bit and x32 programs have other numbers, and would get by: no such system call, as without their support.
    """
    of_this_machine = load(_MACHINE) + [(EQUAL, len(UNKNOWN), 0, MACHINES[name][0])] + UNKNOWN
    return of_this_machine + when(NUMBER, _AT_LEAST, _X32_BIT, UNKNOWN)


def load(offset):
    # type: (int) -> Block
    """Load the word at *offset*."""
    return [(_LOAD, 0, 0, offset)]


def when(offset, test, constant, block):
    # type: (int, int, int, Block) -> Block
    """Go through *block* when the word at *offset* passes the *test*, else past it."""
    return load(offset) + when_loaded(test, constant, block)


def when_loaded(test, constant, block):
    # type: (int, int, Block) -> Block
    """The same with the word that was loaded last; a jump has one byte for how far."""
    return [(test, 0, len(block), constant)] + block


def join(blocks):
    # type: (list[Block]) -> Block
    """One block after the other."""
    return [instruction for block in blocks for instruction in block]


def install(program, flags=0):
    # type: (Block, int) -> None
    """Have every system call of this process, and of what it starts, pass the filter from here on.

    Raises:
        OSError: The kernel refused: EACCES, when this process may still gain privileges. EOPNOTSUPP: there is no
            *program* for this machine.
    """
    if not program:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    code = b"".join(struct.pack("=HBBI", *each) for each in program)
    held = ctypes.create_string_buffer(code, len(code))
    address = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(held)))
    system_call(number(_SECCOMP, machine()), _SET_MODE_FILTER, flags, address)
