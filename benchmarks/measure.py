"""One measurement in a process of its own: ``python -m benchmarks.measure JOB`` prints its values as JSON."""

import sys


def main() -> None:
    """Read the job from the command line, measure, print."""
    # Imported here, because multiprocessing and loky import this module again in each worker that they spawn: it
    # must cost their workers no more than a small program of a user would.
    import json  # noqa: PLC0415  # see above

    from benchmarks import machine, questions  # noqa: PLC0415  # likewise
    from benchmarks.harness import NOT_HERE_STATUS, Job, NotHereError, measure_here  # noqa: PLC0415  # likewise

    job = Job.from_json(sys.argv[1])
    if job.cpu is not None:
        machine.pin(job.cpu)
    try:
        values = measure_here(questions.load(job.question), job)
    except NotHereError as error:
        sys.stderr.write(str(error))
        sys.exit(NOT_HERE_STATUS)
    json.dump(values, sys.stdout)


if __name__ == "__main__":
    main()
