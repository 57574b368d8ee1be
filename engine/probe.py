"""One question to one executable: which Python are you, and where?

The candidate may be anything: a shim that fails, a wrapper that hangs or never stops printing, a program that is no
Python at all. So the answer is bounded in time and size, found by its marks among whatever else is printed, and
whatever was started is dead and reaped when this returns.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Final, cast

_MAX_ANSWER_BYTES: Final = 65_536
_MAX_REASON_CHARS: Final = 120
# The marks are joined when it runs: a shell that echoes the program in an error must not seem to answer.
_PROBE: Final = (
    "import sys; print('<fg' 'engine>' + getattr(__builtins__, 'ascii', repr)((tuple(sys.version_info[:3]), "
    "(sys.implementation.name if hasattr(sys, 'implementation') else sys.subversion[0]).lower(), "
    "sys.executable)) + '</fg' 'engine>')"
)
_ANSWER: Final = re.compile(rb"<fgengine>(.*?)</fgengine>", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """What a CPython told about itself: its version, and the absolute path that it has for itself."""

    version: tuple[int, int, int]
    executable: str

    @property
    def short_version(self) -> str:
        """Major and minor alone: ``3.9``."""
        return "{}.{}".format(*self.version)


class RefusedError(Exception):
    """A candidate is not the interpreter that was looked for; the text says why, to go behind its path."""


def ask(executable: str, environ: Mapping[str, str], timeout_s: float) -> Answer:
    """Run *executable*, give it *timeout_s* seconds, and return what it tells about itself.

    Raises:
        RefusedError: It does not start, says nothing, or is no CPython.
    """
    # What a host sets for its own Python would lead this one astray, and no instance gets to see it either.
    clean = {key: value for key, value in environ.items() if not key.startswith(("PYTHON", "LD_", "__PYVENV"))}
    if not os.path.exists(executable):
        raise RefusedError("no such file")
    try:
        process = subprocess.Popen(
            [executable, "-E", "-S", "-s", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean,
            start_new_session=True,  # so that a shim is killed with what it started
        )
    except OSError as error:
        raise RefusedError(f"cannot be run: {error.strerror}") from None
    stdout = cast(IO[bytes], process.stdout)
    deadline = time.monotonic() + timeout_s
    output, status = b"", None
    try:
        output = _read_answer(stdout.fileno(), deadline)
        # What prints without end also ends with us: there is nothing to wait for.
        if len(output) < _MAX_ANSWER_BYTES:
            status = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:
        _end(process)
        stdout.close()
    return _parsed(output, status, executable, timeout_s)


def _read_answer(descriptor: int, deadline: float) -> bytes:
    """Read up to the answer, end of file, the deadline, or more than an answer can be."""
    poller = select.poll()  # not select(): the host may have more descriptors than its bitmap
    poller.register(descriptor, select.POLLIN)
    output = b""
    while len(output) < _MAX_ANSWER_BYTES and not _ANSWER.search(output):
        left_ms = (deadline - time.monotonic()) * 1000
        if left_ms <= 0 or not poller.poll(left_ms):
            break
        chunk = os.read(descriptor, _MAX_ANSWER_BYTES)
        if not chunk:
            break
        output += chunk
    return output


def _end(process: subprocess.Popen[bytes]) -> None:
    """Reap *process*, with force where it did not end by itself."""
    # poll() first: where the host reaped it already, its number may be somebody else's by now.
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _parsed(output: bytes, status: int | None, executable: str, timeout_s: float) -> Answer:
    answer = _ANSWER.search(output)
    if answer is None:
        if len(output) >= _MAX_ANSWER_BYTES:
            ending = "prints without end"
        else:
            ending = f"gave no answer in {timeout_s:g} s" if status is None else f"exit status {status}"
        words = next((line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()), "")
        raise RefusedError(f"{ending}: {words[:_MAX_REASON_CHARS]}" if words else ending)
    try:
        (major, minor, patch), implementation, told = ast.literal_eval(answer[1].decode("ascii"))
        version = int(major), int(minor), int(patch)
        # 2.7 prints bytes, which read as Latin-1 here; 3.x prints text with its undecodable bytes escaped.
        path = os.fsdecode(told.encode("latin-1") if version < (3,) else os.fsencode(told)) if told else executable
    except (ValueError, TypeError, SyntaxError, AttributeError, RecursionError, MemoryError):
        raise RefusedError("gave an answer that makes no sense") from None
    if implementation != "cpython":
        raise RefusedError(f"is {implementation}, not CPython")
    return Answer(version, path if os.path.isabs(path) else executable)
