"""Who keeps the memory limit: the kernel where it lets us, and the engine's own looks in any case."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine import Engine, Status, UnsupportedPlatformError
from engine.cgroups.mounts import trees

if TYPE_CHECKING:
    from tests.conftest import FunctionMaker

GROW = """
import time

def handler(event, context):
    held = bytearray(event << 20)
    for at in range(0, len(held), 4096):
        held[at] = 1
    return "done"
"""


def groups_of_this_process() -> set[str]:
    """The engines' groups below ours, in every tree; the shared engine of all tests has some too."""
    prefix = f"fgengine-{os.getpid()}-"
    return {str(path) for tree in trees() for path in Path(tree.own).glob(f"{prefix}*")}


@pytest.fixture(name="kernel_engine")
def _kernel_engine() -> Iterator[Engine]:
    try:
        engine = Engine(memory_enforcement="cgroup")
    except UnsupportedPlatformError as error:
        pytest.skip(str(error))
    with engine:
        yield engine


@pytest.fixture(name="sampling_engine")
def _sampling_engine() -> Iterator[Engine]:
    with Engine(memory_enforcement="sample") as engine:
        yield engine


def test_result_says_that_the_kernel_kept_the_limit(make_function: FunctionMaker) -> None:
    """Groups exist as long as the engine does, and not a moment longer."""
    before = groups_of_this_process()
    try:
        engine = Engine(memory_enforcement="cgroup")
    except UnsupportedPlatformError as error:
        pytest.skip(str(error))
    with engine:
        result = engine.invoke(make_function(GROW), 1)
        during = groups_of_this_process()

    assert "cgroup" == result.memory_enforcement
    assert before < during
    assert before == groups_of_this_process()


def test_result_says_that_sampling_kept_the_limit(sampling_engine: Engine, make_function: FunctionMaker) -> None:
    """No group is made for it."""
    before = groups_of_this_process()
    result = sampling_engine.invoke(make_function(GROW), 1)

    assert "sample" == result.memory_enforcement
    assert before == groups_of_this_process()


@pytest.mark.slow
@pytest.mark.parametrize("enforcement", ["cgroup", "sample"])
def test_same_function_is_out_of_memory_every_time(
    enforcement: str, request: pytest.FixtureRequest, make_function: FunctionMaker
) -> None:
    """Both ways tell the same of a function over its limit, and of one just below it."""
    engine: Engine = request.getfixturevalue({"cgroup": "kernel_engine", "sample": "sampling_engine"}[enforcement])
    function = make_function(GROW, memory_mb=48)

    over = [engine.invoke(function, 64).status for _ in range(10)]
    below = [engine.invoke(function, 30).status for _ in range(10)]

    assert [Status.OUT_OF_MEMORY] * 10 == over
    assert [Status.SUCCESS] * 10 == below


def test_process_of_a_function_that_the_kernel_kills_is_out_of_memory(
    kernel_engine: Engine, make_function: FunctionMaker
) -> None:
    """The engine looks at what the kernel counted, not at who died: here, a child of the instance."""
    function = make_function(
        """
        import os, time

        def handler(event, context):
            pid = os.fork()
            if pid == 0:
                held = bytearray(200 << 20)
                for at in range(0, len(held), 4096):
                    held[at] = 1
                os._exit(0)
            os.waitpid(pid, 0)
            return "survived"
        """,
        memory_mb=64,
    )

    assert Status.OUT_OF_MEMORY is kernel_engine.invoke(function, None).status


def test_fork_over_the_limit_fails_as_on_the_platform(kernel_engine: Engine, make_function: FunctionMaker) -> None:
    """The kernel's limit of tasks is an OSError of the function's own, and nothing is killed."""
    function = make_function(
        """
        import errno, os, time

        def handler(event, context):
            started = []
            try:
                for _ in range(30):  # bounded, should there be no limit
                    pid = os.fork()
                    if pid == 0:
                        time.sleep(30)
                        os._exit(0)
                    started.append(pid)
            except OSError as error:
                return [len(started), errno.errorcode[error.errno]]
            finally:
                for pid in started:
                    os.kill(pid, 9)
                    os.waitpid(pid, 0)
            return "no limit"
        """,
        max_processes=10,
    )
    value = kernel_engine.invoke(function, None).value

    assert "EAGAIN" == value[1]
    assert 10 - 2 == value[0], "two tasks are the instance's own threads"


def test_more_processes_than_allowed_are_killed_where_only_the_engine_looks(
    sampling_engine: Engine, make_function: FunctionMaker
) -> None:
    """RLIMIT_NPROC does not bind root, and counts a user's other programs: the engine counts for itself."""
    function = make_function(
        """
        import os, time

        def handler(event, context):
            for _ in range(30):
                if os.fork() == 0:
                    time.sleep(30)
                    os._exit(0)
            time.sleep(30)
        """,
        max_processes=10,
        timeout_s=10,
    )
    result = sampling_engine.invoke(function, None)

    assert Status.EXITED is result.status
    assert "too many processes" in result.error["errorMessage"]


def test_memory_error_of_the_function_is_its_own(sampling_engine: Engine, make_function: FunctionMaker) -> None:
    """A limit of address space is met by the function itself; out of memory is what the engine kills for."""
    function = make_function("def handler(event, context):\n    return len(bytearray(1 << 30))\n", address_space_mb=512)
    result = sampling_engine.invoke(function, None)

    assert Status.FUNCTION_ERROR is result.status
    assert "MemoryError" == result.error["errorType"]


def test_full_temporary_folder_is_a_full_disk(sampling_engine: Engine, make_function: FunctionMaker) -> None:
    """TMPDIR is the instance's own, it is measured, and it is gone with the instance."""
    function = make_function(
        """
        import os, tempfile, time

        def handler(event, context):
            if event:
                with open(os.path.join(tempfile.gettempdir(), "big"), "wb") as big:
                    big.write(b"x" * (event << 20))
                    big.flush()
                time.sleep(10)
            return tempfile.gettempdir()
        """,
        tmp_mb=8,
        memory_mb=256,
        timeout_s=20,
    )
    folder = sampling_engine.invoke(function, 0).value
    existed = os.path.isdir(folder)
    result = sampling_engine.invoke(function, 16)
    sampling_engine.release_idle()  # else the engine's own thread removes it, within a second

    assert existed
    assert Status.DISK_FULL is result.status
    assert 4207 == result.error_code
    assert not os.path.exists(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
def test_ordinary_user_is_told_why_the_kernel_does_not_help() -> None:
    """An engine that must have groups does not step down to sampling without a word."""
    program = """
        import os, sys
        import engine
        os.setgid(65534); os.setuid(65534)
        try:
            engine.Engine(memory_enforcement="cgroup")
        except engine.UnsupportedPlatformError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line[8:] for line in program.splitlines())],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).resolve().parent.parent), "PATH": os.environ["PATH"]},
    )

    assert "no control groups for memory here: memory: Permission denied" in done.stdout
