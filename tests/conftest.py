"""What the tests share: runtimes, engines, functions made of source text, and a check that nothing is left behind."""

from __future__ import annotations

import itertools
import os
import select
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from engine import Engine, Function, Result, RuntimeNotFoundError, proc

REQUIRED_RUNTIMES = ("python2.7", "python3.6", "python3.9")
"""The runtimes that FunctionGraph documents: each promise of the engine is tested on every one of them."""

_LEVEL: Any = os.environ.get("FGENGINE_TEST_ISOLATION", "process")
"""The isolation level of the engines that tests share: nothing that is promised depends on it."""

_GRACE_S = 2.0
_shared_engines: list[Engine] = []


class FunctionMaker(Protocol):
    """Writes *source* (dedented) where *handler* says, and returns the Function of it."""

    def __call__(
        self, source: str, handler: str = ..., *, files: Mapping[str, str] | None = ..., **description: Any
    ) -> Function: ...


class Invoker(Protocol):
    """Makes a function of *source* and invokes it once on the shared engine."""

    def __call__(self, source: str, event: object = ..., **description: Any) -> Result: ...


class DeathWatch(Protocol):
    """Waits until the process *pid*, which is no child of ours, has ended; fails when it does not."""

    def __call__(self, pid: int) -> None: ...


def survey(pid: int) -> tuple[int, list[int]]:
    """How many threads and processes *pid* and everything below it have, and what is below it: as a guard asks."""
    tree = proc.Tree()
    with closing(proc.Threads(pid)) as threads:
        for _ in threads.walk(tree):
            pass
    return tree.tasks, tree.below


@dataclass(frozen=True)
class Holdings:
    """What this process holds at one moment, by the names that a person needs to find its origin."""

    descriptors: frozenset[tuple[str, str]]
    threads: frozenset[threading.Thread]
    processes: frozenset[psutil.Process]
    temporary_files: frozenset[str]

    @classmethod
    def now(cls) -> Holdings:
        """Look at descriptors, threads, child processes of any depth, and temporary files."""
        return cls(
            descriptors=frozenset(_descriptors()),
            threads=frozenset(threading.enumerate()),
            processes=frozenset(psutil.Process().children(recursive=True)),
            temporary_files=frozenset(os.listdir(tempfile.gettempdir())),
        )

    def left_since(self, before: Holdings) -> dict[str, list[str]]:
        """Name what is here now and was not *before*; empty kinds are left out."""
        left = {each.name: getattr(self, each.name) - getattr(before, each.name) for each in fields(self)}
        return {kind: sorted(map(str, things)) for kind, things in left.items() if things}


def _descriptors() -> Iterator[tuple[str, str]]:
    for number in os.listdir("/proc/self/fd"):
        try:
            yield number, os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # the descriptor of this very listing


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The system's temporary folder is shared with other programs; what appears in this one is ours."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        patch.setenv("TMPDIR", folder)  # for the command line, which tests start as a program
        yield


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """No test leaves a descriptor, a thread, a process or a temporary file.

    Zygotes of the shared engines stay: they are there before the test, since fixtures of a wider scope come first.
    """
    before = Holdings.now()
    yield
    for engine in _shared_engines:
        engine.release_idle()
    deadline = time.monotonic() + _GRACE_S
    while left := Holdings.now().left_since(before):
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {left}")
        # A dead grandchild vanishes when its parent reaps it, and that is told to nobody here.
        time.sleep(0.005)


@pytest.fixture(scope="session")
def shared_engines() -> list[Engine]:
    """Engines that outlive a test: what of theirs is idle is released before anybody looks for leftovers."""
    return _shared_engines


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for all tests, warmed up so that no test pays for a zygote, or is blamed for one or for a thread."""
    code = tmp_path_factory.mktemp("warm-up") / "index.py"
    code.write_text("def handler(event, context):\n    return event\n", encoding="utf-8")
    with Engine(isolation=_LEVEL, spare_instances=0) as shared:  # tests look at what is alive: it is what they started
        for runtime in REQUIRED_RUNTIMES:
            try:
                shared.invoke(Function(code=code, handler="index.handler", runtime=runtime), None)
            except RuntimeNotFoundError:
                continue  # the runtime fixture skips, or fails in CI, with the reason
        shared.release_idle()
        _shared_engines.append(shared)
        yield shared
        _shared_engines.remove(shared)


@pytest.fixture
def own_engine() -> Iterator[Engine]:
    """An engine for one test: for those that submit, which needs threads, or keep archives unpacked."""
    with Engine(isolation=_LEVEL) as own:
        yield own


# Scope module: hypothesis refuses function-scoped fixtures, and a wider scope would shuffle the files.
@pytest.fixture(scope="module", params=REQUIRED_RUNTIMES)
def runtime(request: pytest.FixtureRequest, engine: Engine) -> str:
    """Each of the three runtimes in turn: skipped where it is not installed, but a failure in CI."""
    label = str(request.param)
    try:
        engine.warm_up([label])
    except RuntimeNotFoundError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {label}: {error}")
        pytest.skip(f"{label} is not installed")
    return label


@pytest.fixture
def make_function(tmp_path: Path, runtime: str) -> FunctionMaker:
    """Functions from source text, each in a fresh folder; *files* are written beside the handler's module."""
    numbers = itertools.count()

    def make(
        source: str, handler: str = "index.handler", *, files: Mapping[str, str] | None = None, **description: Any
    ) -> Function:
        folder = tmp_path / f"function{next(numbers)}"
        module = handler.rpartition(".")[0].replace(".", "/")
        for name, text in {f"{module}.py": source, **(files or {})}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        return Function(code=folder, handler=handler, **{"runtime": runtime, **description})

    return make


@pytest.fixture
def invoke(engine: Engine, make_function: FunctionMaker) -> Invoker:
    """Source text in, Result out."""

    def run(source: str, event: object = None, **description: Any) -> Result:
        return engine.invoke(make_function(source, **description), event)

    return run


@pytest.fixture
def wait_until_dead() -> DeathWatch:
    """The end of a process, told by its pidfd: no polling, and no sleep."""

    def wait(pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            assert poll.poll(5_000), f"process {pid} lives on"
        finally:
            os.close(pidfd)

    return wait
