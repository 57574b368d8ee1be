"""From a function's description to a started instance: which zygote, by which method, with what around it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from engine import isolation, platform
from engine.blank import Kind, Stock, start_blank
from engine.enforcement import Enforcement
from engine.errors import InvalidFunctionError
from engine.guard import Limits, limits_of
from engine.instance import Instance
from engine.isolation import Container
from engine.launch import ZygoteSpec
from engine.model import Function, Isolation, StartMethod
from engine.runtimes import Runtimes
from engine.staging import StagedFunction
from engine.workspace import Workspace
from engine.zygotes import Zygotes

_USUAL_LIMITS: Final = limits_of(128, 1024, 512)
"""Those of a function that says nothing about them; the blank of another one gets its own limits when it is taken."""


class Starter:
    """Starts instances, and holds what they are started from. Thread-safe.

    Args:
        runtimes: Where interpreters are.
        workspace: The engine's folder.
        enforcement: Who keeps memory limits.
        start_method: For functions that do not ask for one.
        level: The isolation of functions that do not ask for one.
        log_bytes: How much output of an instance is kept.
        spare_instances: How many instances are started ahead for each zygote.
    """

    def __init__(
        self,
        runtimes: Runtimes,
        workspace: Workspace,
        enforcement: Enforcement,
        *,
        start_method: StartMethod,
        level: Isolation,
        log_bytes: int,
        spare_instances: int,
    ) -> None:
        self.zygotes: Final = Zygotes()
        self._runtimes = runtimes
        self._workspace = workspace
        self._enforcement = enforcement
        self._start_method: StartMethod = start_method
        self._level: Isolation = level
        self._log_bytes = log_bytes
        self._stock = Stock(enforcement, workspace.root, spare_instances, log_bytes)

    def start(self, function: Function, staged: StagedFunction) -> Instance:
        """Start an instance of *function*; nothing of the function has run when it is returned.

        Raises:
            RuntimeNotFoundError: There is no interpreter for its runtime.
            InstanceStartError: The interpreter could not be started.
            InvalidFunctionError: What it wants preloaded cannot be, or its container cannot read its code.
            IsolationUnavailableError: It wants a container, and the kernel lets us make none.
            EngineClosedError: The engine was closed.
        """
        method = self._method(function)
        container = self._container(function)
        # What a function brings along does not run outside of its container: a zygote sees the host.
        search_path = staged.dependencies if function.preload and container is None else ()
        spec = ZygoteSpec(self._runtimes.find(function.runtime), tuple(function.preload), search_path, container)
        limits = _in_container(limits_of(function.memory_mb, function.max_processes, function.tmp_mb), container)
        seen = isolation.surroundings(function, staged, container, self._workspace)
        with self.zygotes.lease(spec) as zygote, ExitStack() as on_failure:
            is_ordinary = not platform.variables_acting_at_start(function)
            blank = self._stock.take(Kind(zygote, method), limits) if is_ordinary else None
            scratch = isolation.scratch_for(container, self._workspace.root) if blank is None else blank.scratch
            environment = platform.environment(function, code_root=seen.code_root, home=seen.home, scratch=scratch.path)
            if blank is None:
                with self._stock.urgent_start():
                    blank = start_blank(
                        zygote,
                        self._enforcement,
                        limits,
                        scratch,
                        method=method,
                        # As for one that was started ahead. The rest comes with the settings, however much: execve
                        # takes 128 KB for each variable.
                        environment=platform.BARE_ENVIRONMENT if is_ordinary else environment,
                        log_bytes=self._log_bytes,
                        place=seen.place if method == "spawn" else None,
                    )
            on_failure.callback(blank.discard)
            instance = Instance(function, staged, blank, seen, environment=environment)
            on_failure.pop_all()
        return instance

    def warm_up(self, runtime: str) -> None:
        """Start what instances of *runtime* are started from, and the spare instances; return when they are there.

        At the level of functions that do not ask for one; for containers, for those without a network.

        Raises:
            RuntimeNotFoundError: There is no interpreter for it.
            InstanceStartError: The interpreter could not be started.
            IsolationUnavailableError: The kernel lets us make no containers.
            EngineClosedError: The engine was closed.
        """
        container = Container(network=False) if self._level == "container" else None
        with self.zygotes.lease(ZygoteSpec(self._runtimes.find(runtime), container=container)) as zygote:
            self._stock.order(Kind(zygote, self._start_method), _in_container(_USUAL_LIMITS, container))
            self._stock.fill()

    def prepare(self) -> None:
        """Start ahead what the next starts need, and take leave of what nobody needs. For one thread at a time."""
        self._stock.fill()
        self.zygotes.close_unused()

    def clear_stock(self) -> None:
        """End what was started ahead."""
        self._stock.clear()

    def close_stock(self) -> None:
        """End what was started ahead, and start nothing ahead any more."""
        self._stock.close()

    def close(self) -> None:
        """End every zygote with everything below it."""
        self.zygotes.close()
        self._stock.forget()

    def abandon(self) -> None:
        """Forget everything in a forked copy of the host."""
        self.zygotes.abandon()

    def _container(self, function: Function) -> Container | None:
        level = self._level if function.isolation is None else function.isolation
        return Container(function.network) if level == "container" else None

    def _method(self, function: Function) -> StartMethod:
        acting = platform.variables_acting_at_start(function)
        if acting and function.preload:
            advice = f"cannot be had by a function whose variables act when an interpreter starts: {', '.join(acting)}"
            raise InvalidFunctionError("preload", function.preload, advice)
        if acting:
            return "spawn"
        return function.start_method or ("fork" if function.preload else self._start_method)


def _in_container(limits: Limits, container: Container | None) -> Limits:
    if container is None:
        return limits
    return replace(limits, memory_files_bytes=limits.scratch_bytes + isolation.SHM_BYTES)
