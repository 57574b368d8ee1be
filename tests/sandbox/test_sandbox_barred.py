"""The filter of the container level, word by word, and that nothing goes on where it cannot be had."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from sandbox import barred, bpf
from tests.sandbox.filters import (
    ALLOWED,
    AUDIT_NAMES,
    REFUSED,
    TOLD,
    UNKNOWN,
    assert_kernel_takes,
    assert_only_for,
    verdict,
)

if TYPE_CHECKING:
    from tests.sandbox.conftest import Trial

NO_FAMILY = 0x00050000 | errno.EAFNOSUPPORT
POINTER = 0x7FFF_0000_0000

NUMBERS = {
    "x86_64": {"clone": 56, "clone3": 435, "socket": 41, "socketpair": 53, "fcntl": 72},
    "aarch64": {"clone": 220, "clone3": 435, "socket": 198, "socketpair": 199, "fcntl": 25},
}
REFUSED_NUMBERS = {
    "x86_64": {
        101, 103, 153, 155, 159, 161, 163, 164, 165, 166, 167, 168, 169, 170, 171, 175, 176, 179, 212, 227, 246, 248,
        249, 250, 272, 279, 298, 303, 304, 305, 308, 310, 311, 312, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430,
        431, 432, 433, 438, 442, 443, 467,
    },
    "aarch64": {
        18, 39, 40, 41, 51, 58, 60, 89, 97, 104, 105, 106, 112, 116, 117, 142, 161, 162, 170, 171, 217, 218, 219, 224,
        225, 239, 241, 264, 265, 266, 268, 270, 271, 272, 273, 280, 282, 294, 425, 426, 427, 428, 429, 430, 431, 432,
        433, 438, 442, 443, 467,
    },
}  # fmt: skip
"""Of asm/unistd.h, as plain numbers: a name that stands beside a wrong one in the module is found."""


@pytest.fixture(params=sorted(AUDIT_NAMES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(machine: str, name: str, *arguments: int) -> int:
    return verdict(barred.program(machine), AUDIT_NAMES[machine], NUMBERS[machine][name], *arguments)


def test_filter_is_a_program_that_the_kernel_takes(machine: str) -> None:
    """At most 4096 instructions, jumps of one byte that stay inside, and a return at the end."""
    assert_kernel_takes(barred.program(machine))


def test_programs_for_another_machine_find_no_system_calls(machine: str) -> None:
    """32-bit and x32 calls have numbers of their own, none of which is looked at."""
    assert_only_for(machine, barred.program(machine))


def test_what_no_function_needs_is_refused_and_all_else_passes(machine: str) -> None:
    """Whatever the arguments are, so that the kernel does not run the filter for what passes."""
    program = barred.program(machine)
    looked_at = set(NUMBERS[machine].values())
    found = {
        number: {verdict(program, AUDIT_NAMES[machine], number, *[word] * 6) for word in (0, 1, 1024, POINTER, -1)}
        for number in range(1_000)
        if number not in looked_at
    }

    assert REFUSED_NUMBERS[machine] == {number for number, verdicts in found.items() if verdicts == {REFUSED}}
    assert {number for number in found if number not in REFUSED_NUMBERS[machine]} == {
        number for number, verdicts in found.items() if verdicts == {ALLOWED}
    }


def test_no_namespace_is_left_for_another(machine: str) -> None:
    """By clone(2), whose flags are seen; those of clone3(2) are not, and libc goes back to clone."""
    new = {"ns": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000}
    new |= {"pid": 0x20000000, "net": 0x40000000}

    assert [REFUSED] * 7 == [ask(machine, "clone", flag | 17) for flag in new.values()]
    assert [ALLOWED] * 2 == [ask(machine, "clone", flags) for flags in (17, 0x3D0F00)]  # a process, a thread
    assert UNKNOWN == ask(machine, "clone3", POINTER, 88)


@pytest.mark.parametrize("name", ["socket", "socketpair"])
def test_sockets_are_of_four_families(machine: str, name: str) -> None:
    """What a network namespace holds; another one is not known here, as in a kernel without it."""
    unix, internet, internet6, netlink = 1, 2, 10, 16

    for family in range(64):
        expected = ALLOWED if family in (unix, internet, internet6, netlink) else NO_FAMILY
        assert expected == ask(machine, name, family, 1, 0)


def test_leases_are_refused(machine: str) -> None:
    """Whoever opens a file that has one waits; everything else that fcntl(2) does is as ever."""
    set_lease, get_lease = 1024, 1025

    assert REFUSED == ask(machine, "fcntl", 3, set_lease, 1)
    assert [ALLOWED] * 12 == [ask(machine, "fcntl", 3, command, set_lease) for command in (*range(11), get_lease)]


def test_unknown_machine_has_no_filter() -> None:
    """One by the wrong numbers would be worse than none, and bar() raises for none."""
    assert [] == barred.program("s390x")


BARRING = """
    from sandbox import barred, bpf, kernel, shield

    SECCOMP = bpf.number((317, 277), bpf.machine())

    def refusing(number):
        def prepare():
            kernel.renounce_privileges()
            refused = bpf.when_loaded(bpf.EQUAL, SECCOMP, bpf.fail(number))
            bpf.install(bpf.beginning(bpf.machine()) + refused + bpf.ALLOW)
        return prepare

    def as_ordinary_user():
        if os.getuid() == 0:
            os.setuid(65534)

    def raise_shield():
        shield.install(shield.filter_program(bpf.machine(), [1], True))
"""


@pytest.mark.skipif(not bpf.MACHINES.get(bpf.machine()), reason="no filter for this machine")
def test_filter_that_cannot_be_installed_is_an_error_in_a_container_alone(trial: Trial) -> None:
    """There it is a wall and told by its name; the shield is one of two, and goes without where there is none."""
    trial(
        TOLD
        + BARRING
        + """
    assert "done" == told(barred.bar, kernel.renounce_privileges)
    for number in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
        assert "seccomp " + errno.errorcode[number] == told(barred.bar, refusing(number))
        assert "done" == told(raise_shield, refusing(number))
    assert "seccomp EACCES" == told(barred.bar, as_ordinary_user)
    assert "- EACCES" == told(raise_shield, as_ordinary_user)
    bpf.machine = lambda: "s390x"
    assert "seccomp " + errno.errorcode[errno.EOPNOTSUPP] == told(barred.bar, kernel.renounce_privileges)
    assert "done" == told(raise_shield, kernel.renounce_privileges)
"""
    )
