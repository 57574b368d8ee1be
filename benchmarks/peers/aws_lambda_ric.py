"""awslambdaric, AWS Lambda's runtime client, against the least runtime API that it is content with.

It asks for an event (GET .../invocation/next) and posts the reply (POST .../invocation/ID/response), over one HTTP
connection to a server on the loopback interface. That server is here, on a plain socket: the time of a full HTTP
server is none of the peer's.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from typing import Any

from benchmarks.peers import Peer

_ACCEPT_TIMEOUT_S = 30
_REMAINING_MS = 3000
_RECEIVED_BYTES = 65536
_END_OF_HEAD = b"\r\n\r\n"


class AwsLambdaRic(Peer):
    """One ``python -m awslambdaric`` that asks us for its next event."""

    name = "awslambdaric"
    module = "awslambdaric"

    def start_worker(self, event: Any) -> None:
        self._event = event
        self._count = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_ACCEPT_TIMEOUT_S)
        port = self._listener.getsockname()[1]
        self._connection: socket.socket | None = None
        self._received = b""
        self._worker = subprocess.Popen(
            [self.job.python, "-m", "awslambdaric", f"{self.job.module}.{self.job.function}"],
            cwd=self.job.code,
            env={**os.environ, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def call(self) -> Any:
        if not self._count:
            self._receive()  # the worker's first question for an event
        self._count += 1
        body = json.dumps(self._event).encode("ascii")
        head = (
            "HTTP/1.1 200 OK\r\n"
            "Content-Type: application/json\r\n"
            f"Lambda-Runtime-Aws-Request-Id: {self._count:08d}-0000-4000-8000-000000000000\r\n"
            f"Lambda-Runtime-Deadline-Ms: {int(time.time() * 1000) + _REMAINING_MS}\r\n"
            "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:local:0:function:echo\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._send(head.encode("ascii") + body)
        reply = json.loads(self._receive())
        self._send(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        self._receive()  # the next question, which says that the worker is free again
        return reply

    def stop_worker(self) -> None:
        self._worker.kill()
        self._worker.wait()
        self._listener.close()
        if self._connection is not None:
            self._connection.close()

    def _send(self, data: bytes) -> None:
        if self._connection is not None:
            self._connection.sendall(data)

    def _receive(self) -> bytes:
        """The body of the worker's next request; a new connection takes the place of one that it closed."""
        if self._connection is None:
            self._accept()
        while _END_OF_HEAD not in self._received:
            self._receive_more()
        head, _, self._received = self._received.partition(_END_OF_HEAD)
        length = _content_length(head)
        while len(self._received) < length:
            self._receive_more()
        body, self._received = self._received[:length], self._received[length:]
        return body

    def _receive_more(self) -> None:
        data = self._connection.recv(_RECEIVED_BYTES) if self._connection is not None else b""
        if not data:
            self._accept()
        self._received += data

    def _accept(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._received = b""
        self._connection, _ = self._listener.accept()
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _content_length(head: bytes) -> int:
    """What the head of a request says of its body; a GET has none."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0
