"""One measurement in a process of its own: ``python -m benchmarks.measure JOB`` prints its values as JSON."""

from __future__ import annotations

import json
import sys

from benchmarks import machine, questions
from benchmarks.harness import Job, measure_here


def main() -> None:
    """Read the job from the command line, measure, print."""
    job = Job.from_json(sys.argv[1])
    if job.cpu is not None:
        machine.pin(job.cpu)
    json.dump(measure_here(questions.load(job.question), job), sys.stdout)


if __name__ == "__main__":
    main()
