"""What the engine is compared with: the least work that could be called the same job, honestly done.

None of them has a deadline, a memory figure, a log or a summary. They are floors and habits, not rivals.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.harness import Job

_HERE = Path(__file__).parent
_REPLY_BYTES = 65536
_EXIT_TIMEOUT_S = 10

_ONE_SHOT = """\
import json, sys
sys.path.insert(0, %r)
import %s as module
print(json.dumps(module.%s(json.load(sys.stdin), None)))
"""


def start_echo(python: str, script: str = "echo.py", *arguments: str) -> subprocess.Popen[bytes]:
    """Start a script of this folder that answers on its stdout what it reads on its stdin; no buffers on our side."""
    command = [python, str(_HERE / script), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


def pipe_ends(child: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Our descriptors of *child*: the one to write requests to, and the one to read replies from."""
    if child.stdin is None or child.stdout is None:
        raise ValueError("a child without pipes")
    return child.stdin.fileno(), child.stdout.fileno()


def stop(child: subprocess.Popen[bytes]) -> None:
    """Close the child's pipes, which ends it, and wait for that."""
    with child:
        if child.stdin is not None:
            child.stdin.close()
        child.wait(_EXIT_TIMEOUT_S)


class BareEcho:
    """A warm bare child. JSON text in and out, as the floor has it, or objects, as a caller has them."""

    def __init__(self, name: str = "bare echo", *, objects: bool = False) -> None:
        self.name = name
        self._objects = objects

    def unavailable(self, job: Job) -> str | None:
        return None

    def start(self, job: Job, event: Any) -> None:
        self._child = start_echo(job.python)
        self._request, self._reply = pipe_ends(self._child)
        self._event = event
        self._text = json.dumps(event).encode("ascii")

    def call(self) -> Any:
        if self._objects:
            os.write(self._request, json.dumps(self._event).encode("ascii"))
            return json.loads(os.read(self._reply, _REPLY_BYTES))
        os.write(self._request, self._text)
        return os.read(self._reply, _REPLY_BYTES)

    def decoded(self, reply: Any) -> Any:
        return reply if self._objects else json.loads(reply)

    def close(self) -> None:
        stop(self._child)


class EchoStart:
    """A fresh bare child for each call: interpreter start, ``import json``, one echo."""

    name = "bare echo, started"

    def unavailable(self, job: Job) -> str | None:
        return None

    def start(self, job: Job, event: Any) -> None:
        self._python = job.python
        self._text = json.dumps(event).encode("ascii")
        self._children: list[subprocess.Popen[bytes]] = []

    def call(self) -> Any:
        child = start_echo(self._python)
        self._children.append(child)  # stays alive until close(), as the instances of the engine do
        request, reply = pipe_ends(child)
        os.write(request, self._text)
        return os.read(reply, _REPLY_BYTES)

    def decoded(self, reply: Any) -> Any:
        return json.loads(reply)

    def close(self) -> None:
        for child in self._children:
            stop(child)


class BareZygote:
    """A bare fork server in the target interpreter: a forked child for each call."""

    name = "bare zygote"

    def unavailable(self, job: Job) -> str | None:
        return None

    def start(self, job: Job, event: Any) -> None:
        command = [job.python, str(_HERE / "zygote.py"), job.code, job.module, job.function]
        self._zygote = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)
        self._text = json.dumps(event).encode("ascii")
        self._descriptors: list[int] = []
        self._pid = os.getpid()

    def call(self) -> Any:
        their_request, our_request = os.pipe()
        our_reply, their_reply = os.pipe()
        # Closed after the run, so that no close is in the figure.
        self._descriptors += their_request, our_request, our_reply, their_reply
        if self._zygote.stdin is None:
            raise ValueError("a zygote without a control pipe")
        self._zygote.stdin.write(b"%d %d %d\n" % (self._pid, their_request, their_reply))
        os.write(our_request, self._text)
        return os.read(our_reply, _REPLY_BYTES)

    def decoded(self, reply: Any) -> Any:
        return json.loads(reply)

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        stop(self._zygote)


class PlainSubprocess:
    """What people write without an engine: an interpreter for each call, the event on its stdin."""

    name = "subprocess.run"

    def unavailable(self, job: Job) -> str | None:
        return None

    def start(self, job: Job, event: Any) -> None:
        self._command = [job.python, "-c", _ONE_SHOT % (job.code, job.module, job.function)]
        self._event = event

    def call(self) -> Any:
        text = json.dumps(self._event).encode("ascii")
        return json.loads(subprocess.run(self._command, input=text, capture_output=True, check=True).stdout)

    def decoded(self, reply: Any) -> Any:
        return reply

    def close(self) -> None:
        """There is nothing to close: every child has ended."""
