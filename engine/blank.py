"""Started interpreters that serve nobody yet, and a stock of them.

Theory of operation
-------------------
What takes long in a start needs nothing of a function: the fork, its page faults, and the move into a control group,
for which the kernel waits 9 to 15 ms on version 1. So one blank instance of each kind in use is started ahead, and the
next function that needs an instance gets it: only its own settings and its own import are left to do. Whoever comes
while there is none starts one as before.

A blank knows no function, so it is as new as one that is started on the spot. A function whose variables act when an
interpreter starts cannot have one: they have to be there before the first instruction.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from engine import proc
from engine.cgroups.limits import Group
from engine.channel import EXIT
from engine.enforcement import Enforcement
from engine.errors import EngineError, InstanceStartError
from engine.guard import Limits
from engine.isolation import scratch_for
from engine.launch import Process, Zygote
from engine.memory import MemoryMeter
from engine.model import StartMethod
from engine.platform import BARE_ENVIRONMENT
from engine.scratch import Scratch


@dataclass(frozen=True)
class Kind:
    """Blanks that can stand for each other: of one zygote, by one method."""

    zygote: Zygote
    method: StartMethod


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
        threads: Its threads and children.
        scratch: Its private temporary folder.
    """

    zygote: Zygote
    process: Process
    enforcement: Enforcement
    limits: Limits
    group: Group | None
    meter: MemoryMeter
    threads: proc.Threads
    scratch: Scratch

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
        """End it, with all that is its own."""
        _end(self.process, self.zygote)
        self.forget()

    def forget(self) -> None:
        """Give its descriptors back, and have its group and its folder removed: it is dead."""
        self.process.channel.close()
        self.meter.close()
        self.threads.close()
        self.enforcement.retire(self.group, self.scratch)


def start_blank(
    zygote: Zygote,
    enforcement: Enforcement,
    limits: Limits,
    scratch: Scratch,
    *,
    method: StartMethod,
    environment: Mapping[str, str],
    log_bytes: int,
    ahead: bool = False,
    place: Mapping[str, Any] | None = None,
) -> Blank:
    """Start an interpreter by *method*, ``fork`` or ``spawn``, and put it into a group of its own.

    One that is started *ahead* of its use takes its time to be quick when it is needed. *scratch* is the blank's own
    from here on, and is removed also when this fails. One that is spawned in a container for a function finds its
    *place* there from its first instruction on.

    Raises:
        InstanceStartError: The interpreter could not be started, or has to have a group and cannot.
    """
    with ExitStack() as on_failure:
        on_failure.callback(scratch.remove)
        process = zygote.start(method, environment, log_bytes, ahead=ahead, place=place)
        on_failure.callback(process.channel.close)
        on_failure.callback(_end, process, zygote)
        scratch.belongs_to(process.pid)
        try:
            meter = MemoryMeter(process.pid)
            on_failure.callback(meter.close)
            threads = proc.Threads(process.pid)
            on_failure.callback(threads.close)
        except OSError as error:
            raise InstanceStartError(f"instance {process.pid} cannot be watched: {error}") from error
        group = enforcement.confine(process.pid, limits)
        on_failure.pop_all()
    return Blank(zygote, process, enforcement, limits, group, meter, threads, scratch)


def _end(process: Process, zygote: Zygote) -> None:
    process.channel.kill()
    with suppress(EngineError):
        zygote.wait_exit(process.pid)


class Stock:
    """Keeps blanks of the kinds that were asked for. Thread-safe.

    Args:
        enforcement: Who makes their groups.
        scratch_root: Where their temporary folders are made.
        size: How many are kept of each kind; 0 for none.
        log_bytes: How much output of an instance is kept.
    """

    def __init__(self, enforcement: Enforcement, scratch_root: str, size: int, log_bytes: int) -> None:
        self._enforcement = enforcement
        self._scratch_root = scratch_root
        self._size = size
        self._log_bytes = log_bytes
        self._filling = threading.Lock()
        self._lock = threading.RLock()  # see pool.py for why nothing enters the condition itself
        self._changed = threading.Condition(self._lock)
        self._blanks: dict[Kind, deque[Blank]] = {}
        self._wanted: dict[Kind, Limits] = {}
        self._coming: Kind | None = None
        self._claimed = False
        self._urgent_starts = 0
        self._closed = False

    def order(self, kind: Kind, limits: Limits) -> None:
        """Have fill() start a blank of this *kind*, unless one was asked for already."""
        with self._lock:
            self._wanted.setdefault(kind, limits)

    def take(self, kind: Kind, limits: Limits) -> Blank | None:
        """Return a blank of this *kind* that keeps *limits*, or None: the caller starts one.

        One that is on its way is waited for by one caller: it is there sooner than another one could be.
        """
        if not self._size:
            return None
        with self._lock:
            self._wanted[kind] = limits
            if not self._blanks.get(kind) and self._coming == kind and not self._claimed:
                self._claimed = True
                self._changed.wait_for(lambda: self._coming != kind)
            blanks = self._blanks.get(kind)
            blank = blanks.popleft() if blanks else None
        if blank is None or blank.fits(limits):
            return blank
        blank.discard()
        return None

    @contextmanager
    def urgent_start(self) -> Iterator[None]:
        """Keep fill() from starting more while somebody waits for a start: in a rush it would only be in the way."""
        with self._lock:
            self._urgent_starts += 1
        try:
            yield
        finally:
            with self._lock:
                self._urgent_starts -= 1

    def fill(self) -> None:
        """Start what is lacking, unless somebody waits for a start; what another thread starts now is waited for."""
        with self._filling:
            while (order := self._next_order()) is not None:
                self._start_one(*order)

    def _start_one(self, kind: Kind, limits: Limits) -> None:
        blank = None
        try:
            blank = start_blank(
                kind.zygote,
                self._enforcement,
                limits,
                scratch_for(kind.zygote.spec.container, self._scratch_root),
                method=kind.method,
                environment=BARE_ENVIRONMENT,
                log_bytes=self._log_bytes,
                ahead=True,
            )
        except (EngineError, OSError):
            pass  # whoever needs one meets the reason itself
        finally:
            is_kept = self._deliver(kind, blank)
        if blank is not None and not is_kept:
            blank.discard()

    def clear(self) -> None:
        """End what is there, and what is on its way; the next one is started when somebody has needed one again."""
        self._drop(list(self._wanted), Blank.discard)
        with self._filling:  # what was on its way has arrived, and was discarded: nobody wants it any more
            pass

    def close(self) -> None:
        """Keep nothing any more, and end what is there. fill() ends soon, and whoever runs it waits for that."""
        with self._lock:
            self._closed = True
        self.clear()

    def forget(self) -> None:
        """Give the descriptors of blanks back that died with their zygotes."""
        self._drop(list(self._wanted), Blank.forget)

    def _next_order(self) -> tuple[Kind, Limits] | None:
        self._drop([kind for kind in list(self._wanted) if not kind.zygote.can_start()], Blank.discard)
        with self._lock:
            if self._closed or self._urgent_starts:
                return None
            for kind, limits in self._wanted.items():
                if len(self._blanks.get(kind, ())) < self._size and kind.zygote.can_start():
                    self._coming, self._claimed = kind, False
                    return kind, limits
        return None

    def _deliver(self, kind: Kind, blank: Blank | None) -> bool:
        """Put *blank* into the stock, and tell who waits for it; without one, nobody wants it any more."""
        with self._lock:
            self._coming = None
            self._changed.notify_all()
            if blank is None:
                self._wanted.pop(kind, None)
            elif not self._closed and kind in self._wanted:
                self._blanks.setdefault(kind, deque()).append(blank)
                return True
            return False

    def _drop(self, kinds: list[Kind], how: Callable[[Blank], None]) -> None:
        with self._lock:
            dropped = [blank for kind in kinds for blank in self._blanks.pop(kind, ())]
            for kind in kinds:
                self._wanted.pop(kind, None)
        for blank in dropped:
            how(blank)
