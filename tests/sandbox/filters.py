"""What the kernel makes of a filter, word by word: for the tests of both of them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

TOLD = """
    import errno, os

    def told(act, prepare):
        # What *act* raises in a process of its own where *prepare* was called before.
        reading, writing = os.pipe()
        if os.fork() == 0:
            try:
                prepare()
                try:
                    act()
                    os.write(writing, b"done")
                except EnvironmentError as error:
                    words = "%s %s" % (getattr(error, "what", "-"), errno.errorcode[error.errno])
                    os.write(writing, words.encode("ascii"))
            finally:
                os._exit(0)
        os.close(writing)
        try:
            return os.read(reading, 100).decode("ascii")
        finally:
            os.close(reading)
            os.wait()
"""
"""Source for a trial on an interpreter that the filters are written for."""

if TYPE_CHECKING:
    from sandbox.bpf import Block

ALLOWED: Final = 0x7FFF0000
REFUSED: Final = 0x00050000 | errno.EPERM
UNKNOWN: Final = 0x00050000 | errno.ENOSYS

AUDIT_NAMES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def verdict(program: Block, audit_name: int, number: int, *arguments: int) -> int:
    """What the kernel's machine for such programs makes of a system call (seccomp(2), linux/filter.h)."""
    words = [number, audit_name, 0, 0]
    for argument in [*arguments, 0, 0, 0, 0, 0, 0][:6]:
        words += [argument & 0xFFFFFFFF, argument >> 32 & 0xFFFFFFFF]
    at = accumulator = 0
    while True:
        operation, if_true, if_false, constant = program[at]
        at += 1
        if operation == 0x06:
            return constant
        if operation == 0x20:
            assert constant % 4 == 0
            accumulator = words[constant // 4]
            continue
        passed = {0x15: accumulator == constant, 0x35: accumulator >= constant, 0x45: accumulator & constant != 0}
        at += if_true if passed[operation] else if_false


def assert_kernel_takes(program: Block) -> None:
    """At most 4096 instructions, jumps of one byte that stay inside, and a return at the end."""
    assert len(program) <= 4096
    for at, (operation, if_true, if_false, _) in enumerate(program):
        assert operation in (0x20, 0x06, 0x15, 0x35, 0x45)
        assert 0 <= max(if_true, if_false) < min(256, len(program) - at - 1) or operation == 0x06
    assert 0x06 == program[-1][0]


def assert_only_for(machine: str, program: Block) -> None:
    """Programs for other machines find no system calls."""
    assert UNKNOWN == verdict(program, 0x40000003, 37, 4_000, 19)  # kill(2) of i386
    assert UNKNOWN == verdict(program, 0x40000028, 37, 4_000, 19)  # of 32-bit ARM
    assert UNKNOWN == verdict(program, AUDIT_NAMES[machine], 0x40000000 | 62, 4_000, 19)
    assert UNKNOWN == verdict(program, AUDIT_NAMES[machine], 0x40000000, 0)
