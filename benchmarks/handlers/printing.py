"""A function that prints a lot, to its log or to nowhere; it runs on 2.7 and on 3.x."""

import os
import sys

LINE = "x" * 99


def print_lines(count):
    """Print *count* lines of 100 bytes."""
    line = LINE
    for _ in range(count):
        print(line)
    sys.stdout.flush()


def handler(event, context):
    """Print event["lines"] lines; with event["null"] they go to /dev/null, by the same way through sys.stdout."""
    if not event["null"]:
        print_lines(event["lines"])
        return event
    kept, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        print_lines(event["lines"])
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(null)
    return event
