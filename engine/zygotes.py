"""The zygotes of an engine: one for each runtime, and one for each set of modules that functions want preloaded.

Those with preloaded modules are bounded in number. Beyond that the one that was used least recently starts nothing
any more, serves out its instances, and is closed when the last of them has gone.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from engine.errors import EngineClosedError
from engine.launch import Zygote, ZygoteSpec

MAX_PRELOADED: Final = 8
"""Zygotes with preloaded modules: numpy alone is 20 to 30 MB of memory in each."""


class Zygotes:
    """Starts zygotes when they are needed, and keeps them. Thread-safe."""

    def __init__(self, max_preloaded: int = MAX_PRELOADED) -> None:
        self._max_preloaded = max_preloaded
        self._lock = threading.Lock()
        self._turns: dict[ZygoteSpec, threading.Lock] = {}
        self._current: OrderedDict[ZygoteSpec, Zygote] = OrderedDict()  # the least recently used first
        self._retired: list[Zygote] = []
        self._leases: Counter[Zygote] = Counter()
        self._closed = False

    @contextmanager
    def lease(self, spec: ZygoteSpec) -> Iterator[Zygote]:
        """Give the zygote for *spec*, started now when there is none; it is not closed as unused meanwhile.

        Raises:
            InstanceStartError: The interpreter could not be started.
            InvalidFunctionError: A module that it should preload cannot be imported.
            EngineClosedError: The engine was closed.
        """
        # A turn for each kind: the start of one takes some 20 ms, in which others can be used.
        with self._turns.setdefault(spec, threading.Lock()):
            zygote = self._usable(spec)
            if zygote is None:
                zygote = Zygote(spec)
                self._add(zygote)
        try:
            yield zygote
        finally:
            with self._lock:
                self._leases[zygote] -= 1

    def everything(self) -> list[Zygote]:
        """Return every zygote that was not closed here, those that start nothing any more first."""
        with self._lock:
            return [*self._retired, *self._current.values()]

    def close_unused(self) -> None:
        """Close those that start nothing any more and have no instance left."""
        with self._lock:
            unused = [each for each in self._retired if not self._leases[each] and each.is_unused()]
            self._retired = [each for each in self._retired if each not in unused]
            for zygote in unused:
                del self._leases[zygote]
        for zygote in unused:
            zygote.close()

    def close(self) -> None:
        """Close all of them, with everything below. Whoever comes later gets an EngineClosedError."""
        with self._lock:
            self._closed = True
        for zygote in self.everything():
            zygote.close()

    def abandon(self) -> None:
        """Forget all of them in a forked copy of the host."""
        for zygote in [*self._retired, *self._current.values()]:  # the lock may be held by a thread that is not here
            zygote.abandon()

    def _usable(self, spec: ZygoteSpec) -> Zygote | None:
        with self._lock:
            if self._closed:
                raise EngineClosedError("the engine is closed")
            zygote = self._current.get(spec)  # not taken out: a KeyboardInterrupt from here on would lose it
            if zygote is None:
                return None
            if zygote.can_start():
                self._current.move_to_end(spec)  # the most recently used now
                self._leases[zygote] += 1
                return zygote
            # One that cannot start instances any more goes on to serve those that it has.
            self._retired.append(zygote)
            del self._current[spec]
        self.close_unused()
        return None

    def _add(self, zygote: Zygote) -> None:
        with self._lock:
            closed = self._closed
            if not closed:
                self._current[zygote.spec] = zygote
                self._leases[zygote] += 1
                preloaded = [spec for spec in self._current if spec.preload]
                for spec in preloaded[: max(0, len(preloaded) - self._max_preloaded)]:
                    self._current[spec].retire()  # else a spare instance of it would be kept, and keep it, for good
                    self._retired.append(self._current.pop(spec))
        if closed:
            zygote.close()
            raise EngineClosedError("the engine is closed")
