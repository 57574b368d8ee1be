"""From the label ``python2.7`` to an executable that was seen to be it.

Theory of operation: a candidate counts only after it ran and told its version, because names lie (a version
manager's shim exists for versions that are not selected, ``python3`` is any 3.x). So each candidate costs a
process of 5 to 30 ms, and the search stops at the first that works. What the caller, or an FGENGINE_ variable,
named is not a candidate but an order: if it does not work, nothing else is looked at.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from engine.errors import InvalidFunctionError, RuntimeNotFoundError
from engine.model import normal_runtime
from engine.places import VirtualEnvironment, places, virtual_environment
from engine.probe import Answer, RefusedError, ask

PLATFORM_RUNTIMES: Final = ("python2.7", "python3.6", "python3.9")
"""The versions that FunctionGraph's base page documents."""

PROBE_TIMEOUT_S: Final = 10.0
"""A candidate that is silent for this long is none. A cold conda on a network disk takes seconds."""

_CALLER: Final = "caller"
_NEWEST_MINOR_LOOKED_FOR: Final = 30
_MAX_VIRTUAL_LAYERS: Final = 4
_LAST_RELEASE: Final = {"2.7": "2.7.18", "3.6": "3.6.15"}


@dataclass(frozen=True)
class Interpreter:
    """An executable that was run and is the Python that it is listed for.

    Attributes:
        runtime: The label, for example ``python3.9``.
        executable: Absolute path of the interpreter itself, not of a shim in front of it.
        version: Major, minor and patch.
        source: Where it was found: ``caller``, ``FGENGINE_PYTHON3_9``, ``PATH``, ``pyenv``, ...
    """

    runtime: str
    executable: str
    version: tuple[int, int, int]
    source: str


class Runtimes:
    """Finds interpreters, each label once, and only when it is asked for. Safe to use from many threads.

    Looked at in this order: what the caller gave, the ``FGENGINE_PYTHON2_7``-style variables, PATH, pyenv, uv, asdf,
    mise, conda, /usr/local/bin, /usr/bin, the interpreter of this process. A found virtual environment stands for
    the interpreter that it was made from; one that was named by the caller or the variable is used with its packages,
    except the engine's own environment, whose packages no function may see.

    Args:
        given: Paths of interpreters by label.
        environ: What to read variables from instead of os.environ.
        probe_timeout_s: How long one candidate may take to tell its version, in seconds.

    Raises:
        InvalidFunctionError: *given* has a label that names no Python, or something that is no path.
    """

    def __init__(
        self,
        given: Mapping[str, str | os.PathLike[str]] | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        probe_timeout_s: float = PROBE_TIMEOUT_S,
    ) -> None:
        self._given = {normal_runtime(label): _given_path(label, path) for label, path in (given or {}).items()}
        self._environ = os.environ if environ is None else environ
        self._probe_timeout_s = probe_timeout_s
        self._found: dict[str, Interpreter] = {}
        self._searches: dict[str, threading.Lock] = {}

    def find(self, runtime: str) -> Interpreter:
        """Return the interpreter for *runtime*: a process or two the first time, a dictionary look-up afterwards.

        A failure is not remembered, so that an interpreter installed meanwhile is found.

        Raises:
            InvalidFunctionError: *runtime* names no Python that the engine can run.
            RuntimeNotFoundError: None works.
        """
        label = normal_runtime(runtime)
        known = self._found.get(label)
        if known is not None:
            return known
        # A lock for each label: a slow search must not hold up another one. setdefault is atomic.
        with self._searches.setdefault(label, threading.Lock()):
            known = self._found.get(label)
            if known is None:
                known = self._found[label] = self._search(label)
        return known

    def installed(self) -> list[Interpreter]:
        """Return every interpreter of this machine, one a label, oldest first. Takes a process for each."""
        minors = [f"python3.{minor}" for minor in range(6, _NEWEST_MINOR_LOOKED_FOR + 1)]
        labels = dict.fromkeys([*PLATFORM_RUNTIMES, *minors, *self._given])
        found = []
        for label in labels:
            try:
                found.append(self.find(label))
            except RuntimeNotFoundError:
                continue
        return sorted(found, key=lambda interpreter: interpreter.version)

    def _search(self, label: str) -> Interpreter:
        tried: list[str] = []
        named = self._named(label)
        if named is not None:
            source, executable = named
            found = self._try(label, executable, source, tried)
            if found is not None:
                return found
            raise RuntimeNotFoundError(label, tried, _advice(label))
        seen: set[tuple[str, str]] = set()
        for place in places(label.removeprefix("python"), self._environ):
            if not place.executables:
                tried.append(f"{place.name}: no {label} in {place.where}")
            for executable in place.executables:
                # The name as well: mise's shims are all links to one file, which looks at how it was called.
                identity = os.path.realpath(executable), os.path.basename(executable)
                if identity not in seen:
                    seen.add(identity)
                    found = self._try(label, executable, place.name, tried)
                    if found is not None:
                        return found
        raise RuntimeNotFoundError(label, tried, _advice(label))

    def _named(self, label: str) -> tuple[str, str] | None:
        """What somebody named for *label*, with who did."""
        if label in self._given:
            return _CALLER, self._given[label]
        variable = _variable(label)
        path = self._environ.get(variable)
        return (variable, os.path.abspath(os.path.expanduser(path))) if path else None

    def _try(self, label: str, executable: str, source: str, tried: list[str]) -> Interpreter | None:
        try:
            answer = self._settle(executable, keep_virtual=source in (_CALLER, _variable(label)))
        except RefusedError as refused:
            reason = str(refused)
        else:
            if f"python{answer.short_version}" == label:
                return Interpreter(label, answer.executable, answer.version, source)
            reason = "is Python {}.{}.{}".format(*answer.version)
        tried.append(f"{source}: {executable}: {reason}")
        return None

    def _settle(self, executable: str, *, keep_virtual: bool) -> Answer:
        """Follow *executable* through shims and virtual environments to the interpreter itself."""
        answer = self._ask(executable)
        if answer.executable != executable:
            # Usually a shim, and what it starts is faster without it. A wrapper script that sets LD_LIBRARY_PATH
            # first is needed, however: then the real one does not run alone.
            try:
                answer = self._ask(answer.executable)
            except RefusedError:
                answer = Answer(answer.version, executable)
        for _ in range(_MAX_VIRTUAL_LAYERS):
            environment = virtual_environment(answer.executable, answer.short_version)
            if environment is None or (keep_virtual and not _is_our_own(environment.root)):
                return answer
            answer = self._base_of(environment, answer.short_version)
        raise RefusedError("is a virtual environment of virtual environments")

    def _base_of(self, environment: VirtualEnvironment, version: str) -> Answer:
        for executable in environment.bases:
            if os.path.isabs(executable) and os.access(executable, os.X_OK):
                try:
                    answer = self._ask(executable)
                except RefusedError:
                    continue
                if answer.short_version == version:
                    return answer
        raise RefusedError(f"is in the virtual environment {environment.root}, whose own interpreter is gone")

    def _ask(self, executable: str) -> Answer:
        return ask(executable, self._environ, self._probe_timeout_s)


def _given_path(label: str, path: object) -> str:
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidFunctionError("runtimes", {label: path}, "must be the path of an interpreter")
    return os.path.abspath(os.path.expanduser(text))


def _variable(label: str) -> str:
    return f"FGENGINE_{label.upper().replace('.', '_')}"


def _is_our_own(root: str) -> bool:
    return sys.prefix != sys.base_prefix and os.path.realpath(root) == os.path.realpath(sys.prefix)


def _advice(label: str) -> str:
    version = label.removeprefix("python")
    ways = [f"`pyenv install {_LAST_RELEASE.get(version, version)}`"]
    if version not in ("2.7", "3.6", "3.7"):  # uv offers CPython from 3.8 on
        ways.append(f"`uv python install {version}`")
    return (
        f"install it with {' or '.join(ways)}, or name one with {_variable(label)}=/path/to/{label} "
        f'or Engine(runtimes={{"{label}": "/path/to/{label}"}})'
    )
