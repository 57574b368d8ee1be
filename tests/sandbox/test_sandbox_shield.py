"""The filter, word by word: what it says of each system call, on the machines that it knows."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

import pytest

from sandbox import bpf, shield
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

ZYGOTE, ENGINE, GROUP, SOMEBODY = 4_000, 1_234, 1_200, 5_678
PROTECTED = {ZYGOTE, ENGINE, GROUP}
STOP = 19
POINTER = 0x7FFF_0000_0000
"""Its lower half is nothing: whoever looks at that alone takes it for NULL."""


@pytest.fixture(params=sorted(AUDIT_NAMES))
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(machine: str, name: str, *arguments: int, scoped: bool = True) -> int:
    program = shield.filter_program(machine, PROTECTED, scoped)
    return verdict(program, AUDIT_NAMES[machine], bpf.number(shield.NUMBERS[name], machine), *arguments)


@pytest.mark.parametrize("scoped", [True, False])
def test_filter_is_a_program_that_the_kernel_takes(machine: str, *, scoped: bool) -> None:
    """At most 4096 instructions, jumps of one byte that stay inside, and a return at the end."""
    assert_kernel_takes(shield.filter_program(machine, PROTECTED, scoped))


@pytest.mark.parametrize("scoped", [True, False])
def test_programs_for_another_machine_find_no_system_calls(machine: str, *, scoped: bool) -> None:
    """32-bit and x32 calls have numbers of their own; ENOSYS is what a kernel without them says."""
    assert_only_for(machine, shield.filter_program(machine, PROTECTED, scoped))


def test_unknown_machine_goes_without() -> None:
    """A filter by the wrong numbers would be worse than none."""
    assert [] == shield.filter_program("s390x", PROTECTED, signals_are_scoped=True)


def test_all_other_system_calls_pass_whatever_their_arguments(machine: str) -> None:
    """No argument of theirs is looked at, so the kernel does not run the filter for them."""
    program = shield.filter_program(machine, PROTECTED, signals_are_scoped=True)
    named = [bpf.number(pair, machine) for pair in shield.NUMBERS.values()]
    others = [number for number in range(500) if number not in named]

    assert {ALLOWED} == {verdict(program, AUDIT_NAMES[machine], each, ZYGOTE, ZYGOTE, ZYGOTE) for each in others}


@pytest.mark.parametrize("scoped", [True, False])
@pytest.mark.parametrize("name", ["kill", "rt_sigqueueinfo", "tkill", "tgkill", "rt_tgsigqueueinfo"])
def test_signals_to_zygote_engine_and_group_are_refused(machine: str, name: str, *, scoped: bool) -> None:
    """By their numbers, with any rubbish in the upper half, which the kernel does not look at."""
    for each in PROTECTED:
        assert REFUSED == ask(machine, name, each, STOP, scoped=scoped)
        assert REFUSED == ask(machine, name, each | 0xABCD << 32, STOP, scoped=scoped)
    for each in (SOMEBODY, 0, 1):
        assert ALLOWED == ask(machine, name, each, STOP, scoped=scoped)


@pytest.mark.parametrize("scoped", [True, False])
def test_signals_to_groups_and_to_everybody_are_refused(machine: str, *, scoped: bool) -> None:
    """To those of zygote and engine; its own group and those of its children are a function's business."""
    for each in (-1, *(-each for each in PROTECTED)):
        assert REFUSED == ask(machine, "kill", each, STOP, scoped=scoped)
        assert REFUSED == ask(machine, "kill", each & 0xFFFFFFFF, STOP, scoped=scoped)
    for each in (0, -SOMEBODY):
        assert ALLOWED == ask(machine, "kill", each, STOP, scoped=scoped)


def test_signals_by_the_kernel_are_refused_where_nothing_else_stops_them(machine: str) -> None:
    """A pidfd, and an owner behind a pointer, cannot be seen through: none at all, where Landlock has no scopes."""
    set_own, get_own, set_own_ex = 8, 9, 15
    for each in (*PROTECTED, *(-each for each in PROTECTED)):
        assert REFUSED == ask(machine, "fcntl", 3, set_own, each, scoped=False)
        assert ALLOWED == ask(machine, "fcntl", 3, set_own, each, scoped=True)
    assert ALLOWED == ask(machine, "fcntl", 3, set_own, SOMEBODY, scoped=False)
    assert ALLOWED == ask(machine, "fcntl", 3, get_own, ZYGOTE, scoped=False)
    assert REFUSED == ask(machine, "fcntl", 3, set_own_ex, POINTER, scoped=False)
    for request in (0x8901, 0x8902):
        assert REFUSED == ask(machine, "ioctl", 3, request, POINTER, scoped=False)
    assert ALLOWED == ask(machine, "ioctl", 3, 0x5401, POINTER, scoped=False)
    assert UNKNOWN == ask(machine, "pidfd_send_signal", 3, STOP, scoped=False)
    assert ALLOWED == ask(machine, "pidfd_send_signal", 3, STOP, scoped=True)


def test_nobody_leaves_the_tree(machine: str) -> None:
    """No child for the zygote, no end of adopting orphans; everything else about clone and prctl is as ever."""
    adopt_orphans, die_with_parent = 36, 1

    assert REFUSED == ask(machine, "clone", 0x8000 | 17)
    assert ALLOWED == ask(machine, "clone", 17)
    assert ALLOWED == ask(machine, "clone", 0x3D0F00)  # a thread
    assert UNKNOWN == ask(machine, "clone3", POINTER, 88)
    assert REFUSED == ask(machine, "prctl", adopt_orphans, 0)
    assert REFUSED == ask(machine, "prctl", adopt_orphans | 1 << 32, 0)
    for value in (1, 1 << 32):
        assert ALLOWED == ask(machine, "prctl", adopt_orphans, value)
    assert ALLOWED == ask(machine, "prctl", die_with_parent, 0)


def test_nobody_hides_from_an_engine_that_is_an_ordinary_user(machine: str) -> None:
    """What /proc tells of a process that is not dumpable is for root alone."""
    set_dumpable, get_dumpable = 4, 3

    assert REFUSED == ask(machine, "prctl", set_dumpable, 0)
    assert ALLOWED == ask(machine, "prctl", set_dumpable, 1)
    assert ALLOWED == ask(machine, "prctl", get_dumpable, 0)


def test_limits_are_ones_own(machine: str) -> None:
    """Set on oneself alone, and read of anybody."""
    processor_time = 0

    assert ALLOWED == ask(machine, "prlimit64", 0, processor_time, POINTER)
    for each in (ZYGOTE, SOMEBODY):
        assert REFUSED == ask(machine, "prlimit64", each, processor_time, POINTER)
        assert REFUSED == ask(machine, "prlimit64", each, processor_time, 8)
        assert ALLOWED == ask(machine, "prlimit64", each, processor_time, 0, POINTER)


@pytest.mark.parametrize("name", ["setpriority", "ioprio_set"])
def test_priorities_of_zygote_engine_and_user_are_refused(machine: str, name: str) -> None:
    """A user is everybody: instances, zygotes and the engine, and all else that runs as it."""
    base = {"setpriority": 0, "ioprio_set": 1}[name]
    process, group, user = base, base + 1, base + 2

    for which in (process, group):
        assert [REFUSED] * 3 == [ask(machine, name, which, each, 5) for each in PROTECTED]
        assert [ALLOWED] * 2 == [ask(machine, name, which, each, 5) for each in (0, SOMEBODY)]
    assert [REFUSED] * 2 == [ask(machine, name, user, each, 5) for each in (0, SOMEBODY)]


@pytest.mark.parametrize("name", ["sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"])
def test_scheduling_of_zygote_and_engine_is_refused(machine: str, name: str) -> None:
    """Of oneself and of one's threads and children it is not: numeric libraries pin their threads."""
    assert [REFUSED] * 3 == [ask(machine, name, each, 0, POINTER) for each in PROTECTED]
    assert [ALLOWED] * 2 == [ask(machine, name, each, 0, POINTER) for each in (0, SOMEBODY)]


# The zygote's own way of doing it, in the interpreters that it is written for, without and with Landlock's scopes.
SHIELDED = """
    import ctypes, fcntl, signal
    from sandbox import kernel, shield

    def shielded(attack, abi):
        # What a child behind the shield of *this* process makes of *attack*.
        pid = os.getpid()

        def enter_the_shield():
            kernel.renounce_privileges()
            shield.install(shield.filter_program(os.uname()[4], [pid], abi >= 6))
            ruleset = shield.make_ruleset(abi)
            if ruleset is not None:
                shield.enter(ruleset)

        return told(lambda: attack(pid), enter_the_shield).split()[-1]

    def move(_):
        import shutil, tempfile
        folder = tempfile.mkdtemp()
        os.mkdir(folder + "/one"), os.mkdir(folder + "/other")
        open(folder + "/one/file", "w").close()
        os.rename(folder + "/one/file", folder + "/other/file")
        os.link(folder + "/other/file", folder + "/one/again")
        shutil.rmtree(folder)

    def own_child(_):
        pid = os.fork()
        if pid == 0:
            signal.pause()
        open("/proc/%d/mem" % pid, "r+b").close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
"""


@pytest.mark.skipif(platform.machine() not in bpf.MACHINES, reason="no filter for this machine")
@pytest.mark.parametrize("abi", [0, 1, 2, 6])
def test_shield_of_older_kernels_holds_what_it_promises(trial: Trial, abi: int) -> None:
    """Signals to the zygote by number are refused on all of them; tracing it since 5.19; files are not touched."""
    if abi > shield.landlock_abi():
        pytest.skip(f"Landlock here is older than {abi}")
    program = """
    abi = int(sys.argv[2])
    assert "EPERM" == shielded(lambda pid: os.kill(pid, signal.SIGCONT), abi)
    assert "EPERM" == shielded(lambda pid: os.kill(-pid, 0), abi)
    assert "EPERM" == shielded(lambda pid: kernel.prctl(36, 0), abi)
    if abi < 6:
        assert "EPERM" == shielded(lambda pid: fcntl.fcntl(0, fcntl.F_SETOWN, pid), abi)
    if abi >= 2:
        assert "EACCES" == shielded(lambda pid: open("/proc/%d/mem" % pid, "r+b").close(), abi)
    assert "done" == shielded(move, abi)
    assert "done" == shielded(own_child, abi)
"""
    trial(TOLD + SHIELDED + program, str(abi))


def test_filter_is_for_this_machine_if_it_is_known() -> None:
    """The name that uname(2) gives is one that the tables have."""
    if os.uname().machine not in bpf.MACHINES:
        pytest.skip("no filter for this machine")
    assert shield.filter_program(os.uname().machine, PROTECTED, signals_are_scoped=True)
