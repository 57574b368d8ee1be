"""What the engine could not do. What the *function* did wrong is a value on the result, never one of these.

EngineError
├── InvalidFunctionError             the description of a function cannot work as given
├── InvalidEventError                the event is not JSON, or larger than the limit
├── EngineClosedError                the engine was closed, or belongs to the process we were forked from
├── UnsupportedPlatformError         not Linux, or a kernel without pidfds
├── IsolationUnavailableError        the kernel, or how it is set up here, has no containers for us
├── RuntimeNotFoundError             no interpreter for the requested runtime
├── InstanceError                    an instance broke its side of the contract
│   ├── InstanceStartError           died or stayed silent before its first frame
│   └── ProtocolError                bytes that are no legal frame, or out of turn
└── IllegalTransitionError           our own bug: an event that the state table forbids
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence


class EngineError(Exception):
    """Base of everything that the engine raises on purpose."""


class InvalidFunctionError(EngineError, ValueError):
    """The description of a function cannot work as given.

    Attributes:
        field: Name of the offending field of ``Function``.
        value: What was given for it.
        reason: What is wrong with it, in words.
    """

    def __init__(self, field: str, value: object, reason: str, *, shown: str | None = None) -> None:
        """Say what is wrong; *shown* stands for the value in the text where that may be a secret."""
        super().__init__(f"{field}={value!r}: {reason}" if shown is None else f"{field}={shown}: {reason}")
        self.field = field
        self.value = value
        self.reason = reason
        self._shown = shown

    def __reduce__(self) -> tuple[Callable[..., InvalidFunctionError], tuple[str, object, str]]:
        return functools.partial(type(self), shown=self._shown), (self.field, self.value, self.reason)


class InvalidEventError(EngineError, ValueError):
    """The event is not JSON, or larger than the platform's 6 MiB."""


class EngineClosedError(EngineError, RuntimeError):
    """The engine was closed, or this process is a forked copy of the one that owns it."""


class UnsupportedPlatformError(EngineError, OSError):
    """The engine needs Linux with pidfds (5.3 or newer)."""


class RuntimeNotFoundError(EngineError, LookupError):
    """No interpreter was found for the requested runtime.

    Attributes:
        runtime: The label that was asked for, for example ``python2.7``.
        tried: One line for each place that was looked at, with what was wrong there.
        advice: How to install one, or how to point the engine at it.
    """

    def __init__(self, runtime: str, tried: Sequence[str], advice: str) -> None:
        places = "".join(f"\n  - {line}" for line in tried)
        super().__init__(f"no interpreter found for {runtime}; looked at:{places}\n{advice}")
        self.runtime = runtime
        self.tried = tuple(tried)
        self.advice = advice

    def __reduce__(self) -> tuple[type[RuntimeNotFoundError], tuple[str, tuple[str, ...], str]]:
        return type(self), (self.runtime, self.tried, self.advice)


class IsolationUnavailableError(EngineError, OSError):
    """The kernel, or how it is set up here, does not let us make containers. Never a reason for less isolation.

    Attributes:
        missing: What is missing.
        advice: How to get it.
    """

    def __init__(self, missing: str, advice: str) -> None:
        super().__init__(f"no isolation in a container here: {missing}; {advice}")
        self.missing = missing
        self.advice = advice

    def __reduce__(self) -> tuple[type[IsolationUnavailableError], tuple[str, str]]:
        return type(self), (self.missing, self.advice)


class InstanceError(EngineError):
    """An instance broke its side of the contract before any function code could be blamed."""


class InstanceStartError(InstanceError):
    """An instance, or the zygote it is forked from, died or stayed silent before its first frame."""


class ProtocolError(InstanceError):
    """Bytes that are no legal frame, or a frame out of turn."""


class IllegalTransitionError(EngineError):
    """Our own bug: an event that the state table forbids."""
