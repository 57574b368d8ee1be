"""mitogen: a context over a socket pair to any interpreter, which imports the function from the caller."""

from __future__ import annotations

from typing import Any

from benchmarks.harness import Job
from benchmarks.peers import ANOTHER, Peer


class Mitogen(Peer):
    """One local context; its broker thread and its router are the program's, and started once."""

    name = "mitogen"
    module = "mitogen"
    interpreter = ANOTHER

    def open(self, job: Job) -> None:
        import mitogen.master  # noqa: PLC0415  # who is not measured need not be there

        super().open(job)
        self._broker = mitogen.master.Broker()
        self._router = mitogen.master.Router(self._broker)
        self._function = self.handler

    def start_worker(self, event: Any) -> None:
        self._event = event
        self._context = self._router.local(python_path=self.job.python)

    def call(self) -> Any:
        return self._context.call(self._function, self._event, None)

    def stop_worker(self) -> None:
        self._context.shutdown(wait=True)

    def close(self) -> None:
        self._broker.shutdown()
        self._broker.join()
