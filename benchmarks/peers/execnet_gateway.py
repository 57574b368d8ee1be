"""execnet: a gateway over pipes to any interpreter; 1.9 is the last version that reaches 2.7."""

from __future__ import annotations

from typing import Any

from benchmarks.harness import Job
from benchmarks.peers import ANOTHER, Peer

_REMOTE = """\
import sys
sys.path.insert(0, %r)
import %s as module
for event in channel:
    channel.send(module.%s(event, None))
"""


class Execnet(Peer):
    """One gateway and one channel; the remote loop calls the function for each item."""

    name = "execnet"
    module = "execnet"
    interpreter = ANOTHER

    def open(self, job: Job) -> None:
        import execnet  # noqa: PLC0415  # who is not measured need not be there

        super().open(job)
        self._group = execnet.Group()
        self._source = _REMOTE % (job.code, job.module, job.function)

    def start_worker(self, event: Any) -> None:
        self._event = event
        self._gateway = self._group.makegateway(f"popen//python={self.job.python}")
        self._channel = self._gateway.remote_exec(self._source)

    def call(self) -> Any:
        self._channel.send(self._event)
        return self._channel.receive()

    def stop_worker(self) -> None:
        self._channel.close()
        self._group.terminate(timeout=5.0)
