"""functions-framework: Google's function server, Flask on gunicorn with one process."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import BenchmarkError
from benchmarks.peers import Peer

_START_TIMEOUT_S = 30.0
_HEADERS = {"Content-Type": "application/json"}
_LOOK_EVERY_S = 0.001


class FunctionsFramework(Peer):
    """One server on the loopback interface, called over one connection that is kept."""

    name = "functions-framework"
    module = "functions_framework"

    def start_worker(self, event: Any) -> None:
        self._event = event
        port = _free_port()
        self._server = subprocess.Popen(
            [_command(), "--source", f"{self.job.code}/web.py", "--target", "echo_request", "--port", str(port)],
            cwd=self.job.code,
            env={**os.environ, "WORKERS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._connect()

    def call(self) -> Any:
        self._connection.request("POST", "/", json.dumps(self._event), _HEADERS)
        return json.loads(self._connection.getresponse().read())

    def stop_worker(self) -> None:
        self._connection.close()
        self._server.terminate()
        self._server.wait()

    def _connect(self) -> None:
        """Try until it listens: it has no other way to say that it is ready."""
        latest = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                self._connection.connect()
            except ConnectionRefusedError:
                if self._server.poll() is not None or time.monotonic() > latest:
                    raise BenchmarkError("functions-framework did not start to listen") from None
                time.sleep(_LOOK_EVERY_S)
            else:
                return


def _command() -> str:
    """The script that its package installs, beside our own interpreter."""
    beside = Path(sys.executable).with_name("functions-framework")
    return str(beside) if beside.exists() else shutil.which("functions-framework") or str(beside)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
