"""The nouns of the engine: a function as its user describes it, and a result as its user reads it.

Everything here is a frozen value. Descriptions check themselves when they are made, so that nothing
further down has to; what takes the file system (archives, interpreters) is checked where it is opened.
"""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, get_args

from engine.errors import InvalidFunctionError

MAX_PAYLOAD_BYTES: Final = 6 * 1024 * 1024
"""Largest event and largest return value, 6291456 (RUNTIME_MAX_RESP_BODY_SIZE of the platform)."""

HANDLER_MAX_CHARS: Final = 128
"""Longest handler string (the platform's "Notes and Constraints")."""

MAX_MEMORY_MB: Final = 16 * 1024 * 1024
"""Largest memory limit, 16 TB: more than the machines have, and its bytes still fit 64 bits everywhere."""

MAX_SECONDS: Final = 604_800
"""Longest deadline: a week is twice the platform's own 259,200 s, and stays exact in every clock."""

BARE_PYTHON3: Final = "python3.6"
"""What ``python3`` means: the version that FunctionGraph's guide recommends."""

MAX_PROCESSES: Final = 4_194_304
"""The kernel's own most (proc(5), pid_max)."""

MIN_OPEN_FILES: Final = 256
"""The engine's private descriptors of an instance are above 64; an interpreter needs some room as well."""

MAX_OPEN_FILES: Final = 1_048_576
"""The kernel's own most, unless somebody raised fs.nr_open (proc(5))."""

StartMethod = Literal["fork", "spawn"]
"""``fork`` from a warmed interpreter, or ``spawn`` a fresh one."""

Isolation = Literal["process", "container"]
"""How much of the machine a function sees: see docs/security.md."""

_MODULE_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")
_RUNTIME = re.compile(r"python(2\.7|3\.([6-9]|[1-9][0-9]+))\Z")
_RESERVED_ENVIRONMENT_PREFIX: Final = "RUNTIME_"


class Status(str, enum.Enum):
    """How an invocation ended. A str, so that it compares with, and is stored as, its lower-case value."""

    SUCCESS = "success"
    FUNCTION_ERROR = "function_error"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    EXITED = "exited"
    LOAD_ERROR = "load_error"
    LOAD_TIMEOUT = "load_timeout"
    INITIALIZER_ERROR = "initializer_error"
    INITIALIZER_TIMEOUT = "initializer_timeout"
    INVALID_RESULT = "invalid_result"
    DISK_FULL = "disk_full"

    __str__ = str.__str__


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What the Context's key and token getters return. Never printed: repr() shows no field of it."""

    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    security_access_key: str = field(default="", repr=False)
    security_secret_key: str = field(default="", repr=False)
    security_token: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            # The value is a secret, perhaps: name the type alone.
            if not isinstance(value, str):
                raise InvalidFunctionError(f"credentials.{each.name}", type(value), "must be a string")
            if not _is_utf8(value):
                raise InvalidFunctionError(
                    f"credentials.{each.name}", type(value), "must be text that UTF-8 can express"
                )


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function as FunctionGraph describes it, with FunctionGraph's defaults.

    Two equal descriptions share their instances.

    Attributes:
        code: A folder, a .zip archive, or one .py file.
        handler: ``[file].[function]``; ``src/index.handler`` and ``src.index.handler`` reach into folders.
        runtime: ``python2.7``, ``python3.6`` and so on; ``python3`` means python3.6.
        memory_mb: Memory limit of an instance with everything it starts, in MB of 1024 KiB.
        timeout_s: Longest run of one invocation, in seconds.
        initializer: ``[file].[function]``, called once for each instance with a context alone.
        initializer_timeout_s: Longest run of the initializer, in seconds.
        load_timeout_s: Longest import of the handler's module, in seconds.
        user_data: What ``context.getUserData`` reads; also environment variables of the instance.
        dependencies: Folders or .zip archives, importable after the code itself.
        credentials: What the context's key and token getters return.
        main_thread: Run the code on the main thread; production does not.
        max_processes: Processes and threads of an instance, with everything it starts.
        max_open_files: Descriptors that each process of an instance may have open.
        tmp_mb: Space in the instance's private temporary folder (TMPDIR), in MB.
        address_space_mb: Address space of each process of an instance, in MB; None for as much as there is. A function
            that runs against it gets a MemoryError of its own; memory_mb is what the engine kills for.
        start_method: ``fork`` or ``spawn``; None for the engine's. Variables that act when an interpreter starts
            (PYTHON*, LD_* and the like) have it spawned in any case.
        preload: Modules of libraries that are imported once, in a process that instances are forked from, instead of
            in each instance: from the interpreter's packages or the dependencies. They run there before there is any
            function and without its environment; what they start in the background is not there in an instance. For a
            container from the interpreter's packages alone: what a function brings along runs inside or not at all.
        isolation: ``process`` or ``container``; None for the engine's own level.
        network: Whether a container has the host's network; without it there is a loopback device and nothing else.
            At the level of a process a function has the host's network in any case.

    Raises:
        InvalidFunctionError: A field cannot work as given; it carries the field and the value.
    """

    code: str | os.PathLike[str]
    handler: str
    runtime: str = BARE_PYTHON3
    name: str = "function"
    package: str = "default"
    version: str = "latest"
    alias: str = ""
    project_id: str = ""
    memory_mb: int = 128
    timeout_s: float = 3.0
    initializer: str | None = None
    initializer_timeout_s: float = 3.0
    load_timeout_s: float = 90.0
    user_data: Mapping[str, str] = field(default_factory=dict, hash=False, repr=False)
    dependencies: Sequence[str | os.PathLike[str]] = ()
    credentials: Credentials = field(default_factory=Credentials)
    main_thread: bool = False
    max_processes: int = 1024
    max_open_files: int = 2048
    tmp_mb: int = 512
    address_space_mb: int | None = None
    start_method: StartMethod | None = None
    preload: Sequence[str] = ()
    isolation: Isolation | None = None
    network: bool = False

    def __post_init__(self) -> None:
        put = object.__setattr__  # the class is frozen from here on; these are its normal forms
        put(self, "code", _existing_path("code", self.code))
        if not isinstance(self.dependencies, Sequence) or isinstance(self.dependencies, (str, bytes)):
            raise InvalidFunctionError("dependencies", self.dependencies, "must be a list of paths")
        put(self, "dependencies", tuple(_existing_path("dependencies", path) for path in self.dependencies))
        put(self, "runtime", normal_runtime(self.runtime))
        put(self, "user_data", _checked_user_data(self.user_data))
        for name in ("name", "package", "version", "alias", "project_id"):
            _check_text(name, getattr(self, name))
        if not isinstance(self.credentials, Credentials):
            raise InvalidFunctionError("credentials", type(self.credentials), "must be an engine.Credentials")
        _check_entry("handler", self.handler)
        if self.initializer is not None:
            _check_entry("initializer", self.initializer)
        _check_flag("main_thread", self.main_thread)
        _check_flag("network", self.network)
        _check_level(self.isolation)
        _check_count("memory_mb", self.memory_mb, MAX_MEMORY_MB)
        _check_count("max_processes", self.max_processes, MAX_PROCESSES)
        _check_count("max_open_files", self.max_open_files, MAX_OPEN_FILES, least=MIN_OPEN_FILES)
        _check_count("tmp_mb", self.tmp_mb, MAX_MEMORY_MB)
        if self.address_space_mb is not None:
            _check_count("address_space_mb", self.address_space_mb, MAX_MEMORY_MB)
        put(self, "preload", _checked_preload(self.preload))
        if self.start_method not in (None, *get_args(StartMethod)):
            raise InvalidFunctionError("start_method", self.start_method, "must be 'fork', 'spawn' or None")
        if self.start_method == "spawn" and self.preload:
            raise InvalidFunctionError("preload", self.preload, "is for start_method 'fork': nothing is forked here")
        for name in ("timeout_s", "initializer_timeout_s", "load_timeout_s"):
            _check_seconds(name, getattr(self, name))
        self._remember_hash()

    def __hash__(self) -> int:
        # The pool looks a function up at every invocation: seventeen fields are hashed once.
        return self._hash  # type: ignore[attr-defined,no-any-return]  # set by _remember_hash

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Another process salts its string hashes differently: a hash that was pickled along is wrong there.
        self.__dict__.update(state)
        self._remember_hash()

    def _remember_hash(self) -> None:
        values = tuple(getattr(self, each.name) for each in fields(self) if each.name != "user_data")
        object.__setattr__(self, "_hash", hash(values))


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The execution summary: what the platform prints beside a result.

    Attributes:
        request_id: Id of the invocation.
        memory_size_mb: Configured memory, in MB.
        duration_ms: Handler time on the engine's monotonic clock, in milliseconds with 3 decimals.
        memory_used_mb: Peak of this invocation, in MB of 1024 KiB.
        billed_duration_ms: duration_ms rounded up to whole billing steps.
        load_duration_ms: Import of the handler's module; None on a warm start. Not billed.
        initializer_duration_ms: Run of the initializer; None on a warm start or without one.
        initializer_billed_duration_ms: The same, rounded up by the same rule.
    """

    request_id: str
    memory_size_mb: int
    duration_ms: float
    memory_used_mb: float
    billed_duration_ms: int
    load_duration_ms: float | None = None
    initializer_duration_ms: float | None = None
    initializer_billed_duration_ms: int | None = None


def normal_runtime(runtime: str) -> str:
    """Return the full label of *runtime*: ``python3`` becomes ``python3.6``.

    Raises:
        InvalidFunctionError: It names no Python that the engine can run.
    """
    if runtime == "python3":
        return BARE_PYTHON3
    if not isinstance(runtime, str) or not _RUNTIME.match(runtime):
        raise InvalidFunctionError(
            "runtime", runtime, "must be python2.7, python3.6 or newer as pythonX.Y, or python3 (python3.6)"
        )
    return runtime


def _existing_path(name: str, path: object) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidFunctionError(name, path, "must be a path")
    text = os.fspath(path)
    if not isinstance(text, str):
        raise InvalidFunctionError(name, path, "must be a text path, not bytes")
    if not text or "\0" in text or not os.path.exists(text):
        raise InvalidFunctionError(name, text, "no such file or folder")
    # Absolute from the start: the host may change its working directory between two invocations.
    absolute = os.path.abspath(text)
    if not _is_utf8(absolute):
        raise InvalidFunctionError(name, absolute, "must be a path that UTF-8 can express: it travels as JSON")
    return absolute


def _checked_user_data(user_data: object) -> dict[str, str]:
    if not isinstance(user_data, Mapping):
        raise InvalidFunctionError("user_data", user_data, "must be a mapping of strings")
    for key, value in user_data.items():  # the values are not told: people keep passwords in variables
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidFunctionError(
                "user_data", {key: value}, "keys and values must be strings", shown=f"{{{key!r}: ...}}"
            )
        if not key or "=" in key or "\0" in key + value or not _is_utf8(key + value):
            raise InvalidFunctionError(
                "user_data", {key: value}, "cannot be an environment variable", shown=f"{{{key!r}: ...}}"
            )
        if key.startswith(_RESERVED_ENVIRONMENT_PREFIX):
            raise InvalidFunctionError(
                "user_data",
                {key: value},
                "names that start with RUNTIME_ are the platform's",
                shown=f"{{{key!r}: ...}}",
            )
    return dict(user_data)


def _checked_preload(preload: object) -> tuple[str, ...]:
    if not isinstance(preload, Sequence) or isinstance(preload, (str, bytes)):
        raise InvalidFunctionError("preload", preload, "must be a list of module names")
    for name in preload:
        if not isinstance(name, str) or not _MODULE_NAME.match(name):
            raise InvalidFunctionError("preload", name, "must be a module's name, such as numpy or xml.dom")
    return tuple(dict.fromkeys(preload))


def _check_entry(name: str, entry: Any) -> None:
    """A ``[file].[function]`` string: refused when no file of the code could ever be meant by it."""
    _check_text(name, entry)
    if len(entry) > HANDLER_MAX_CHARS:
        raise InvalidFunctionError(name, entry, f"must have at most {HANDLER_MAX_CHARS} characters")
    module, dot, attribute = entry.rpartition(".")
    if not dot or not module or not attribute:
        raise InvalidFunctionError(name, entry, "must have the form [file].[function], such as index.handler")
    parts = module.replace("/", ".").split(".")
    if not entry.isprintable():
        raise InvalidFunctionError(name, entry, "must be printable")
    if not all(part.strip() for part in parts):
        raise InvalidFunctionError(name, entry, "the file part must have no leading, doubled or final / or .")


def _check_text(name: str, value: object) -> None:
    """Text that can be an environment variable and JSON: all of these travel to the instance as both."""
    if not isinstance(value, str):
        raise InvalidFunctionError(name, value, "must be a string")
    if "\0" in value or not _is_utf8(value):
        raise InvalidFunctionError(name, value, "must be text without NUL that UTF-8 can express")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidFunctionError(name, value, "must be True or False")


def _check_level(value: object) -> None:
    if value is not None and value not in get_args(Isolation):
        raise InvalidFunctionError("isolation", value, f"must be one of {get_args(Isolation)}")


def _check_count(name: str, value: object, most: int, *, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidFunctionError(name, value, f"must be a whole number, at least {least}, at most {most}")


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_SECONDS:
        raise InvalidFunctionError(name, value, f"must be a number of seconds above 0, at most {MAX_SECONDS}")
