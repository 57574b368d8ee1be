"""Started interpreters that serve nobody yet, and a stock of them.

Theory of operation
-------------------
What takes long in a start needs nothing of a function: the fork, its page faults, and the move into a control group,
for which the kernel waits 9 to 15 ms on version 1. So one blank instance for each zygote is started ahead, and the
next function that needs an instance gets it: only its own settings and its own import are left to do. Whoever comes
while there is none starts one as before.

A blank has read nothing but the zygote's memory, so it is as new as one that is started on the spot. One that was
started by exec has its function's variables from its first instruction on, and is never kept in stock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from engine.cgroups.limits import Group
from engine.channel import EXIT
from engine.enforcement import Enforcement
from engine.errors import EngineError, InstanceStartError
from engine.guard import Limits
from engine.launch import Process, Zygote
from engine.memory import MemoryMeter


@dataclass(eq=False)
class Blank:
    """An interpreter that waits for the settings of its function.

    Attributes:
        zygote: Who started it, and tells how it ends.
        process: Its number and its pipes.
        enforcement: Who made its group, and takes it back.
        limits: What its group was made for.
        group: Its control group, where there is one.
        meter: Its memory.
    """

    zygote: Zygote
    process: Process
    enforcement: Enforcement
    limits: Limits
    group: Group | None
    meter: MemoryMeter

    def fits(self, limits: Limits) -> bool:
        """Make its group keep *limits*; False when it died, or the kernel refuses."""
        if self.process.channel.wait(0) & EXIT:
            return False
        if self.group is not None and limits != self.limits:
            try:
                self.enforcement.change(self.group, limits)
            except OSError:
                return False
        self.limits = limits
        return True

    def discard(self) -> None:
        """End it: it never became an instance."""
        _end(self.process, self.zygote)
        self.forget()

    def forget(self) -> None:
        """Give its descriptors and its group back: it is dead."""
        self.process.channel.close()
        self.meter.close()
        if self.group is not None:
            self.enforcement.retire(self.group)


def start_blank(
    zygote: Zygote,
    enforcement: Enforcement,
    limits: Limits,
    *,
    method: str,
    environment: Mapping[str, str],
    log_bytes: int,
) -> Blank:
    """Start an interpreter by *method*, ``fork`` or ``spawn``, and put it into a group of its own.

    Raises:
        InstanceStartError: The interpreter could not be started, or has to have a group and cannot.
    """
    with ExitStack() as on_failure:
        process = zygote.start(method, environment, log_bytes)
        on_failure.callback(process.channel.close)
        on_failure.callback(_end, process, zygote)
        try:
            meter = MemoryMeter(process.pid)
        except OSError as error:
            raise InstanceStartError(f"instance {process.pid} ended before it was reached: {error}") from error
        on_failure.callback(meter.close)
        group = enforcement.confine(process.pid, limits)
        on_failure.pop_all()
    return Blank(zygote, process, enforcement, limits, group, meter)


def _end(process: Process, zygote: Zygote) -> None:
    process.channel.kill()
    with suppress(EngineError):
        zygote.wait_exit(process.pid)


class Stock:
    """Keeps blanks of the zygotes that were asked for one. Thread-safe.

    Args:
        enforcement: Who makes their groups.
        size: How many are kept for each zygote; 0 for none.
        log_bytes: How much output of an instance is kept.
    """

    def __init__(self, enforcement: Enforcement, size: int, log_bytes: int) -> None:
        self._enforcement = enforcement
        self._size = size
        self._log_bytes = log_bytes
        self._changed = threading.Condition()
        self._blanks: dict[Zygote, deque[Blank]] = {}
        self._wanted: dict[Zygote, Limits] = {}
        self._coming: Zygote | None = None
        self._claimed = False
        self._closed = False

    def order(self, zygote: Zygote, limits: Limits) -> None:
        """Have fill() start a blank of *zygote*, unless one was asked for already."""
        with self._changed:
            self._wanted.setdefault(zygote, limits)

    def take(self, zygote: Zygote, limits: Limits) -> Blank | None:
        """Return a blank of *zygote* that keeps *limits*, or None: the caller starts one.

        One that is on its way is waited for by one caller: it is there sooner than another one could be.
        """
        if not self._size:
            return None
        with self._changed:
            self._wanted[zygote] = limits
            if not self._blanks.get(zygote) and self._coming is zygote and not self._claimed:
                self._claimed = True
                self._changed.wait_for(lambda: self._coming is not zygote)
            blanks = self._blanks.get(zygote)
            blank = blanks.popleft() if blanks else None
        if blank is None or blank.fits(limits):
            return blank
        blank.discard()
        return None

    def fill(self) -> None:
        """Start what is lacking. For one thread, which nobody waits for."""
        while (order := self._next_order()) is not None:
            zygote, limits = order
            blank = None
            try:
                blank = start_blank(
                    zygote, self._enforcement, limits, method="fork", environment={}, log_bytes=self._log_bytes
                )
            except EngineError:
                pass  # whoever needs one meets the reason itself
            finally:
                is_kept = self._deliver(zygote, blank)
            if blank is not None and not is_kept:
                blank.discard()

    def clear(self) -> None:
        """End what is there; the next one is started when somebody has needed one again."""
        with self._changed:
            zygotes = list(self._wanted)
        self._drop(zygotes, Blank.discard)

    def close(self) -> None:
        """Keep nothing any more, and end what is there. fill() ends soon, and whoever runs it waits for that."""
        with self._changed:
            self._closed = True
        self.clear()

    def forget(self) -> None:
        """Give the descriptors of blanks back that died with their zygotes."""
        self._drop(list(self._wanted), Blank.forget)

    def _next_order(self) -> tuple[Zygote, Limits] | None:
        self._drop([zygote for zygote in list(self._wanted) if not zygote.can_start()], Blank.discard)
        with self._changed:
            if self._closed:
                return None
            for zygote, limits in self._wanted.items():
                if len(self._blanks.get(zygote, ())) < self._size and zygote.can_start():
                    self._coming, self._claimed = zygote, False
                    return zygote, limits
        return None

    def _deliver(self, zygote: Zygote, blank: Blank | None) -> bool:
        """Put *blank* into the stock, and tell who waits for it; without one, nobody wants it any more."""
        with self._changed:
            self._coming = None
            self._changed.notify_all()
            if blank is None:
                self._wanted.pop(zygote, None)
            elif not self._closed and zygote in self._wanted:
                self._blanks.setdefault(zygote, deque()).append(blank)
                return True
            return False

    def _drop(self, zygotes: list[Zygote], how: Callable[[Blank], None]) -> None:
        with self._changed:
            dropped = [blank for zygote in zygotes for blank in self._blanks.pop(zygote, ())]
            for zygote in zygotes:
                self._wanted.pop(zygote, None)
        for blank in dropped:
            how(blank)
