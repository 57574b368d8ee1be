"""How starts are timed: one at a time, with some time in between."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.harness import CALL, Contender, Job, Values, check_reply

BETWEEN_S: Final = 0.02
"""A cold start is rare, so nobody meets a machine that is still busy with the one before: with its end, or with what
an engine does ahead of the next one. Every contender gets the same time, and the same caches that have cooled down."""


def time_starts(contender: Contender, job: Job, event: object) -> Values:
    """Time each call for itself; decoded(), which may end what the call started, and the time between are left out."""
    check_reply(contender, event)
    values = []
    for _ in range(job.warm_up + job.calls):
        # Not a wait for something: the passing of this time is what is wanted.
        time.sleep(BETWEEN_S)
        started = time.perf_counter_ns()
        reply = contender.call()
        values.append((time.perf_counter_ns() - started) / 1000)
        contender.decoded(reply)
    return {CALL: values[job.warm_up :]}
