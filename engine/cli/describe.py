"""From what was typed to what the engine takes: user data, credentials, the event, interpreters, functions."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final

import click

from engine.errors import InvalidFunctionError
from engine.model import MAX_PAYLOAD_BYTES, Credentials, Function, normal_runtime

PLATFORM_TEST_EVENT: Final = '{"key": "value"}'
"""The blank template of the platform's console."""

DEFAULTS: Final[Mapping[str, Any]] = {
    each.name: each.default for each in fields(Function) if each.default is not MISSING
}
"""Defaults of ``Function``, so that the help always tells the ones in force."""

OPTION_OF_FIELD: Final = {
    "code": "CODE",
    "handler": "--handler",
    "runtime": "--runtime",
    "name": "--name",
    "package": "--package",
    "version": "--version",
    "alias": "--alias",
    "project_id": "--project-id",
    "memory_mb": "--memory",
    "max_processes": "--max-processes",
    "max_open_files": "--max-open-files",
    "tmp_mb": "--tmp",
    "address_space_mb": "--address-space",
    "timeout_s": "--timeout",
    "initializer": "--initializer",
    "initializer_timeout_s": "--initializer-timeout",
    "load_timeout_s": "--load-timeout",
    "user_data": "--env",
    "dependencies": "--dependency",
    "credentials": "--credentials-file",
    "main_thread": "--main-thread",
    "start_method": "--start-method",
    "preload": "--preload",
    "isolation": "--isolation",
    "network": "--network",
}

_CREDENTIAL_NAMES: Final = tuple(each.name for each in fields(Credentials))


def wrong_use(error: InvalidFunctionError, option: str | None = None) -> click.BadParameter:
    """The same complaint in the words of the command line, about *option* or the one that sets the field."""
    option = option or OPTION_OF_FIELD.get(error.field, error.field)
    return click.BadParameter(f"{error.value!r} {error.reason}", param_hint=option)


def default_handler(code: str) -> str:
    """``index.handler``, the platform's default; for one .py file its own name takes the place of index."""
    path = Path(code)
    return f"{path.stem}.handler" if path.suffix == ".py" and path.is_file() else "index.handler"


def read_event(text: str | None, file: str | None) -> bytes:
    """Return the event's JSON text as it was given.

    Args:
        text: Value of --event: JSON text, or ``-`` for standard input.
        file: Value of --event-file.
    """
    if text is not None and file is not None:
        raise click.UsageError("--event and --event-file exclude each other")
    if file is not None:
        with Path(file).open("rb") as stream:
            # One byte over the limit is enough to be refused: nobody has to wait for the end of /dev/zero.
            return stream.read(MAX_PAYLOAD_BYTES + 1)
    if text == "-":
        return b"" if sys.stdin is None else sys.stdin.buffer.read(MAX_PAYLOAD_BYTES + 1)
    return os.fsencode(PLATFORM_TEST_EVENT if text is None else text)


def read_user_data(pairs: Iterable[str], files: Iterable[str]) -> dict[str, str]:
    """Return the user data of all --env-file and --env options; a later one wins, and --env over every file.

    ``KEY`` without a value takes it from the environment, so that it need not be on a command line.
    """
    user_data: dict[str, str] = {}
    for file in files:
        for line in Path(file).read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                user_data.update([_pair(line, f"--env-file {file}")])
    user_data.update(_pair(pair, "--env") for pair in pairs)
    return user_data


def read_credentials(file: str | None) -> Credentials:
    """Return the credentials of ``FGENGINE_ACCESS_KEY`` and its like, overridden by those of a JSON *file*.

    There is no option for a secret itself: everybody on the machine can read a command line.
    """
    given = {name: os.environ.get(f"FGENGINE_{name.upper()}", "") for name in _CREDENTIAL_NAMES}
    if file is not None:
        hint = f"--credentials-file {file}"
        try:
            content = json.loads(Path(file).read_bytes())
        except ValueError:
            # Not the decoder's own message: it could quote a secret.
            raise click.BadParameter("is not JSON", param_hint=hint) from None
        if not isinstance(content, dict) or not set(content) <= set(_CREDENTIAL_NAMES):
            names = ", ".join(_CREDENTIAL_NAMES)
            raise click.BadParameter(f"must be a JSON object with some of: {names}", param_hint=hint)
        given.update(content)
    return Credentials(**given)


def read_interpreters(pairs: Iterable[str]) -> dict[str, str]:
    """Return runtime -> path of all --python options."""
    interpreters = {}
    for pair in pairs:
        runtime, equals, path = pair.partition("=")
        if not equals or not path:
            raise click.BadParameter(f"{pair!r} must have the form RUNTIME=PATH", param_hint="--python")
        try:
            interpreters[normal_runtime(runtime)] = path
        except InvalidFunctionError as error:
            raise wrong_use(error, "--python") from None
    return interpreters


def _pair(text: str, hint: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if equals:
        return key, value
    if key not in os.environ:
        raise click.BadParameter(f"{key!r} has no value, and is not in the environment either", param_hint=hint)
    return key, os.environ[key]
