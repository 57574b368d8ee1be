"""A function cannot put what it starts out of the engine's sight: it stays below its instance, and is counted there."""

from __future__ import annotations

import platform
import textwrap
from typing import TYPE_CHECKING

import pytest

from engine import Engine, Status
from sandbox import bpf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import FunctionMaker
    from tests.hostile.conftest import Arena

with_filter = pytest.mark.skipif(platform.machine() not in bpf.MACHINES, reason="no filter for this machine")

LIBC = textwrap.dedent("""
    import ctypes, errno, platform, signal
    libc = ctypes.CDLL(None, use_errno=True)
    CLONE, CLONE3 = {"x86_64": (56, 435), "aarch64": (220, 435)}.get(platform.machine(), (None, None))

    def refusal(result):
        if result == 0:  # in the child of a clone that was not refused
            os._exit(0)
        return errno.errorcode[ctypes.get_errno()] if result == -1 else "done"
""")


@with_filter
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_no_child_for_the_zygote(make_function: FunctionMaker, start_method: str) -> None:
    """A child of the caller's parent (CLONE_PARENT) is refused; for clone3, whose flags are hidden, there is clone."""
    source = """
        import os, struct

        def handler(event, context):
            flags = 0x8000 | int(signal.SIGCHLD)
            arguments = ctypes.create_string_buffer(struct.pack("QQQQQQQQ", 0x8000, 0, 0, 0, 17, 0, 0, 0), 64)
            return [
                refusal(libc.syscall(CLONE, ctypes.c_long(flags), None, None, None, None)),
                refusal(libc.syscall(CLONE3, arguments, ctypes.c_long(64))),
            ]
    """
    with Engine(start_method=start_method) as own:
        assert ["EPERM", "ENOSYS"] == own.invoke(make_function(LIBC + textwrap.dedent(source)), None).value


@with_filter
def test_adoption_of_orphans_and_its_figures_are_kept_to(arena: Arena) -> None:
    """Neither can be switched off, by the instance or by what it starts; both may be switched on again."""
    attack = """
        told = [refusal(libc.prctl(option, ctypes.c_ulong(value)) or 1) for option in (36, 4) for value in (0, 1)]
        told += [os.system("%s -c 'import ctypes; exit(ctypes.CDLL(None).prctl(36, 0))'" % sys.executable) != 0]
        return told
    """
    result = arena(attack, LIBC).result

    assert (Status.SUCCESS, ["EPERM", "done", "EPERM", "done", True]) == (result.status, result.value)


ORPHANS = LIBC + textwrap.dedent("""
    import os, sys, time
    from arms import *

    def orphan(act):
        # A process whose parent has ended, and which says so.
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                while os.getppid() == child:
                    time.sleep(0.001)
                held = act()
                os.write(writing, b"!")
                time.sleep(20)
            os._exit(0)
        os.waitpid(child, 0)
        os.read(reading, 1)
        os.close(reading), os.close(writing)

    def handler(event, context):
        if event is None:
            return "calm"
        libc.prctl(36, 0, 0, 0, 0)
        for _ in range(event["count"]):
            orphan(lambda: bytearray(event["megabytes"] * 2 ** 20))
        hang()
""")


@pytest.fixture
def sampling_engine() -> Iterator[Engine]:
    """The engine's own looks, without the kernel's help."""
    with Engine(memory_enforcement="sample") as own:
        yield own


@with_filter
@pytest.mark.slow
def test_memory_of_orphans_is_counted(sampling_engine: Engine, armed: FunctionMaker) -> None:
    """Four that hold 60 MB each are over 128 MB, whoever tried to give them away."""
    function = armed(ORPHANS, memory_mb=128, timeout_s=15.0)
    result = sampling_engine.invoke(function, {"count": 4, "megabytes": 60})

    assert Status.OUT_OF_MEMORY is result.status
    assert 128 < result.summary.memory_used_mb < 260
    assert "calm" == sampling_engine.invoke(function, None).value


@with_filter
@pytest.mark.slow
def test_number_of_orphans_is_limited(sampling_engine: Engine, armed: FunctionMaker) -> None:
    """They count among the processes of the instance."""
    function = armed(ORPHANS, memory_mb=512, max_processes=20, timeout_s=15.0)
    result = sampling_engine.invoke(function, {"count": 25, "megabytes": 0})

    assert (Status.EXITED, 4204) == (result.status, result.error_code)
    assert "too many processes" in (result.error or {})["errorMessage"]
    assert "calm" == sampling_engine.invoke(function, None).value


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_stop_of_a_traced_instance_is_not_taken_for_its_end(armed: FunctionMaker, start_method: str) -> None:
    """Who makes the zygote its tracer (PTRACE_TRACEME) would stop at its next signal: it is killed for that."""
    source = """
        from arms import *

        def handler(event, context):
            if event:
                libc.ptrace(0, 0, None, None)
                os.kill(os.getpid(), signal.SIGUSR1)
                hang()
            return "calm"
    """
    function = armed(LIBC + textwrap.dedent(source), main_thread=True, timeout_s=15.0)
    with Engine(start_method=start_method) as own:
        result = own.invoke(function, "attack")
        after = own.invoke(function, None)

    assert Status.EXITED is result.status
    assert "runtime process is exited, signal SIGKILL" == (result.error or {})["errorMessage"]
    assert (Status.SUCCESS, "calm", True) == (after.status, after.value, after.cold_start)
