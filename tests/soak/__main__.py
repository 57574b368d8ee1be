"""``python -m tests.soak [--invocations 1000000]``: very many warm invocations of one function, one after the other.

Every result is held against its request. Exit status 0 when all were right, warm, and the engine holds at the end
what it held after the first thousand; 1 otherwise.
"""

from __future__ import annotations

import gc
import math
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import psutil

from engine import Engine, Function

_SOURCE: Final = """
count = 0


def handler(event, context):
    global count
    count += 1
    if event["number"] % 1000 == 0:
        print("number %d" % event["number"])
    return {"number": event["number"], "count": count, "request_id": context.getRequestID(), "text": event["text"]}
"""

WARM_UP: Final = 1000
"""Invocations before the first look: what is filled once (caches, threads, the allocator) is not growth."""

MOST_GROWTH_MB: Final = 2.0
"""A million leaked bytes are a byte for each invocation; the allocator's own noise is below this."""

_LOOKS: Final = 10
_MOST_PROBLEMS: Final = 20


@dataclass(frozen=True)
class Look:
    """What the engine's process holds, and what its instance holds, at one moment."""

    rss_mb: float
    instance_rss_mb: float
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> Look:
        gc.collect()
        process = psutil.Process()
        instances = [each for each in process.children(recursive=True) if each.parent() != process]
        return cls(
            rss_mb=process.memory_info().rss / 1024**2,
            instance_rss_mb=sum(each.memory_info().rss for each in instances) / 1024**2,
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=process.num_threads(),
        )

    def __str__(self) -> str:
        return (
            f"RSS {self.rss_mb:6.2f} MB, {self.descriptors} descriptors, {self.threads} threads; "
            f"RSS of the instance {self.instance_rss_mb:6.2f} MB"
        )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--invocations", type=click.IntRange(_LOOKS), default=1_000_000, show_default=True)
@click.option("--runtime", default="python3.9", show_default=True)
@click.option("--seconds", type=float, default=math.inf, help="Stop after so many seconds, however many that were.")
def main(invocations: int, runtime: str, seconds: float) -> None:
    """Invoke one function INVOCATIONS times on one warm instance."""
    click.echo(f"soak: {invocations} warm invocations on {runtime}, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, Engine(spare_instances=0) as engine:
        code = Path(folder) / "index.py"
        code.write_text(_SOURCE, encoding="utf-8")
        function = Function(code=code, handler="index.handler", runtime=runtime)
        problems = _soak(engine, function, invocations, time.monotonic() + seconds)
    for problem in problems:
        click.echo(f"NOT RIGHT: {problem}")
    click.echo("all right" if not problems else f"{len(problems)} problems")
    sys.exit(1 if problems else 0)


def _soak(engine: Engine, function: Function, invocations: int, end_s: float) -> list[str]:
    problems: list[str] = []
    engine.invoke(function, {"number": 1, "text": ""})  # the one cold start
    _invoke(engine, function, range(WARM_UP), problems, count=1)
    first = last = Look.now()
    click.echo(f"{'first':>9}: {first}")
    total, busy_s = 0, 0.0
    for number in range(_LOOKS):
        part = range(number * invocations // _LOOKS, (number + 1) * invocations // _LOOKS)
        started = time.monotonic()
        done = _invoke(engine, function, part, problems, count=1 + WARM_UP + total, end_s=end_s)
        took_s = time.monotonic() - started
        total, busy_s, last = total + done, busy_s + took_s, Look.now()
        click.echo(f"{total:9}: {last}; {done / took_s:6.0f} invocations/s")
        if done < len(part):
            break
    click.echo(f"{total} invocations in {busy_s:.1f} s: {total / busy_s:.0f} invocations/s")
    click.echo(f"first: {first}")
    click.echo(f" last: {last}")
    if last.rss_mb - first.rss_mb > MOST_GROWTH_MB:
        problems.append(f"grown by {last.rss_mb - first.rss_mb:.2f} MB; the bound is {MOST_GROWTH_MB} MB")
    if (first.descriptors, first.threads) != (last.descriptors, last.threads):
        problems.append("other descriptors or threads at the end")
    return problems


def _invoke(
    engine: Engine, function: Function, numbers: range, problems: list[str], *, count: int, end_s: float = math.inf
) -> int:
    """Invoke for each of *numbers*, up to *end_s* on the monotonic clock; return how many there were.

    The instance has served *count* invocations already, and counts them: it is the same one all the time.
    """
    for done, number in enumerate(numbers):
        if time.monotonic() >= end_s or len(problems) >= _MOST_PROBLEMS:
            return done
        result = engine.invoke(function, {"number": number, "text": "soak"})
        request_id = result.summary.request_id
        expected = {"number": number, "count": count + done + 1, "request_id": request_id, "text": "soak"}
        log = f"number {number}\n" if number % 1000 == 0 else ""
        if result.cold_start or (expected, log) != (result.value, result.log):
            problems.append(f"invocation {number}: {result.to_dict()}, expected {expected}")
    return len(numbers)


if __name__ == "__main__":
    main()
