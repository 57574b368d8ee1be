"""From a function's description to a started instance: which zygote, by which method, with what around it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from engine import platform
from engine.blank import Blank, Stock, start_blank
from engine.enforcement import Enforcement
from engine.errors import InvalidFunctionError
from engine.guard import Limits, limits_of
from engine.instance import Instance
from engine.launch import Zygote, ZygoteSpec
from engine.model import Function, StartMethod
from engine.runtimes import Runtimes
from engine.scratch import Scratch
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
        log_bytes: int,
        spare_instances: int,
    ) -> None:
        self.zygotes: Final = Zygotes()
        self._runtimes = runtimes
        self._workspace = workspace
        self._enforcement = enforcement
        self._start_method: StartMethod = start_method
        self._log_bytes = log_bytes
        self._stock = Stock(enforcement, spare_instances, log_bytes)

    def start(self, function: Function, staged: StagedFunction) -> Instance:
        """Start an instance of *function*; nothing of the function has run when it is returned.

        Raises:
            RuntimeNotFoundError: There is no interpreter for its runtime.
            InstanceStartError: The interpreter could not be started.
            InvalidFunctionError: What it wants preloaded cannot be.
            EngineClosedError: The engine was closed.
        """
        method = self._method(function)
        search_path = staged.dependencies if function.preload else ()
        spec = ZygoteSpec(self._runtimes.find(function.runtime), tuple(function.preload), search_path)
        limits = limits_of(function.memory_mb, function.max_processes, function.tmp_mb)
        home = self._workspace.home_for(staged.root)
        with self.zygotes.lease(spec) as zygote, ExitStack() as on_failure:
            scratch = Scratch(self._workspace.root)
            on_failure.callback(scratch.remove)
            environment = platform.environment(function, code_root=staged.root, home=home, scratch=scratch.path)
            blank = self._blank(zygote, limits, method, environment)
            on_failure.callback(blank.discard)
            instance = Instance(function, staged, blank, scratch, home=home, environment=environment)
            on_failure.pop_all()
        return instance

    def warm_up(self, runtime: str) -> None:
        """Start what instances of *runtime* are started from, and one instance ahead.

        Raises:
            RuntimeNotFoundError: There is no interpreter for it.
            InstanceStartError: The interpreter could not be started.
            EngineClosedError: The engine was closed.
        """
        with self.zygotes.lease(ZygoteSpec(self._runtimes.find(runtime))) as zygote:
            self._stock.order(zygote, _USUAL_LIMITS)

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

    def _blank(self, zygote: Zygote, limits: Limits, method: StartMethod, environment: dict[str, str]) -> Blank:
        blank = self._stock.take(zygote, limits) if method == "fork" else None
        if blank is not None:
            return blank
        return start_blank(
            zygote, self._enforcement, limits, method=method, environment=environment, log_bytes=self._log_bytes
        )

    def _method(self, function: Function) -> StartMethod:
        acting = platform.variables_acting_at_start(function)
        if acting and function.preload:
            advice = f"cannot be had by a function whose variables act when an interpreter starts: {', '.join(acting)}"
            raise InvalidFunctionError("preload", function.preload, advice)
        if acting:
            return "spawn"
        return function.start_method or ("fork" if function.preload else self._start_method)
