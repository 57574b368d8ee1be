"""What else people call a function of another process with, each run as its own documentation says.

One module a peer. A peer says how one worker with the function in it is started, called and ended; ``Warm`` and
``Cold`` make a contender of it. Everything is imported inside of methods: who is not measured is not paid for, and who
is not installed is named and not missed.
"""

from __future__ import annotations

import abc
import importlib.util
import sys
from collections.abc import Callable
from typing import Any, ClassVar, Final

from benchmarks.harness import HOST, Job

ANOTHER: Final = "another"
SAME: Final = "its own"


class Peer(abc.ABC):
    """One worker of another tool.

    Attributes:
        name: What the tables call it.
        module: What has to be importable.
        interpreter: ANOTHER when it can call a function in another Python than the caller's, SAME when it cannot.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    interpreter: ClassVar[str] = SAME

    def unavailable(self, job: Job) -> str | None:
        """Why it cannot run *job*; None when it can."""
        if importlib.util.find_spec(self.module) is None:
            return f"not installed: no module {self.module!r}"
        if self.interpreter == SAME and job.setting.runtime != HOST:
            return f"has no way to another Python than the caller's, {HOST}"
        return None

    def open(self, job: Job) -> None:
        """Import, and start what all workers share, as a program does once; never timed."""
        self.job = job
        sys.path.insert(0, job.code)

    @abc.abstractmethod
    def start_worker(self, event: Any) -> None:
        """Start one worker that can be called with *event*; a part of a cold start."""

    @abc.abstractmethod
    def call(self) -> Any:
        """Have the worker call the function once, and return what it returned."""

    @abc.abstractmethod
    def stop_worker(self) -> None:
        """End the worker; never timed."""

    def close(self) -> None:  # noqa: B027  # most have nothing that all their workers share
        """End what open() started."""

    @property
    def handler(self) -> Callable[[Any, Any], Any]:
        """The measured function, for peers that are handed a function and not its name."""
        module = __import__(self.job.module)
        handler: Callable[[Any, Any], Any] = getattr(module, self.job.function)
        return handler


class _OfPeer:
    """A contender that is a peer. What is timed, call(), is for Warm and Cold to say."""

    def __init__(self, peer: Peer) -> None:
        self.name = peer.name
        self._peer = peer

    def unavailable(self, job: Job) -> str | None:
        return self._peer.unavailable(job)

    def start(self, job: Job, event: Any) -> None:
        self._event = event
        self._peer.open(job)

    def decoded(self, reply: Any) -> Any:
        return reply

    def close(self) -> None:
        self._peer.close()


class Warm(_OfPeer):
    """Calls of one worker."""

    def start(self, job: Job, event: Any) -> None:
        super().start(job, event)
        self._peer.start_worker(event)

    def call(self) -> Any:
        return self._peer.call()

    def close(self) -> None:
        self._peer.stop_worker()
        super().close()


class Cold(_OfPeer):
    """A new worker for each call: its start and its first reply. It is ended by decoded(), which nobody times."""

    def call(self) -> Any:
        self._peer.start_worker(self._event)
        return self._peer.call()

    def decoded(self, reply: Any) -> Any:
        self._peer.stop_worker()
        return reply
