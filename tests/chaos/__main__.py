"""``python -m tests.chaos [--seed N] [--invocations 5000]``: a storm, and what it left behind.

Exit status 0 when every result was truthful and nothing was left, 1 otherwise; 1 with the stacks of all threads when
nothing moved for two minutes; 2 when there is no runtime to storm.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import click
import psutil

from engine import Engine, EngineError, Function, RuntimeNotFoundError
from tests.chaos.cases import CODE, RUNTIMES, Case, plan
from tests.chaos.processes import own_groups
from tests.chaos.storm import OPTIONS, SLOTS, THREADS_PER_SLOT, Storm
from tests.conftest import Holdings

ROUNDS: Final = 10
MOST_GROWTH_MB: Final = 16
"""From the end of the first round to the end of the last: three results of 6 MiB, and there are hundreds of them."""

_MALLOPT: Final = {-3: 128 * 1024, -1: 128 * 1024, -8: 1}
"""M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX (mallopt(3)). By default glibc keeps, for each thread, what was
freed: of 151 MB that it held after 1,350 invocations, 8 MB were in use (malloc_stats(3))."""

_STANDSTILL_S: Final = 120
_GRACE_S: Final = 2.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", type=int, default=None, help="Which storm; a new one by default, and it is printed.")
@click.option("--invocations", type=click.IntRange(1), default=5000, show_default=True)
@click.option("--runtime", "runtimes", multiple=True, help="Only these; all base runtimes that are found by default.")
def main(seed: int | None, invocations: int, runtimes: tuple[str, ...]) -> None:
    """Run a storm of INVOCATIONS, good, hostile and struck from outside, and judge each of its results."""
    for parameter, value in _MALLOPT.items():
        ctypes.CDLL(None).mallopt(parameter, value)
    seed = secrets.randbelow(10**9) if seed is None else seed
    runtimes = runtimes or _installed()
    click.echo(f"chaos: --seed {seed} --invocations {invocations} on {', '.join(runtimes)}")
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        tempfile.tempdir = folder  # what appears in here is the engines' or ours
        problems = _run(seed, invocations, runtimes, Path(folder))
    for problem in problems:
        click.echo(f"NOT TRUE: {problem}")
    again = f"python -m tests.chaos --seed {seed} --invocations {invocations}"
    click.echo(
        f"{len(problems)} problems; to repeat: {again}" if problems else "every result truthful, nothing left behind"
    )
    sys.exit(1 if problems else 0)


def _installed() -> tuple[str, ...]:
    found = []
    with Engine() as engine:
        for runtime in RUNTIMES:
            try:
                engine.runtimes.find(runtime)
            except RuntimeNotFoundError:
                continue
            found.append(runtime)
    if not found:
        raise click.UsageError(f"none of {', '.join(RUNTIMES)} was found")
    return tuple(found)


def _possible_options(runtimes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the options of the engines that there can be here, and tell which there cannot."""
    possible = []
    for options in OPTIONS:
        try:
            with Engine(**options) as engine:
                engine.invoke(Function(code=CODE, handler="chaos.handler", runtime=runtimes[0]), {"do": "fail"})
        except EngineError as error:
            click.echo(f"without {options}: {error}")
        else:
            possible.append(options)
    return possible


def _run(seed: int, invocations: int, runtimes: tuple[str, ...], folder: Path) -> list[str]:
    cases = plan(seed, invocations, runtimes)
    before = Holdings.now()
    started = time.monotonic()
    storm = Storm(folder, _possible_options(runtimes))
    rss_mb = []
    try:
        for number in range(ROUNDS):
            part = cases[number * invocations // ROUNDS : (number + 1) * invocations // ROUNDS]
            _watch(storm, part)
            rss_mb.append(_rss_mb())
            click.echo(_progress(number, storm, rss_mb[-1], time.monotonic() - started))
            if storm.problems:
                break
    finally:
        faulthandler.dump_traceback_later(_STANDSTILL_S, exit=True)
        storm.close()
        faulthandler.cancel_dump_traceback_later()
    click.echo(_table(storm.outcomes))
    grown_mb = rss_mb[-1] - rss_mb[0]
    click.echo(f"{storm.strikes.count} signals from outside, {storm.reopened} engines closed and replaced in full run")
    results = sum(count for (_, status), count in storm.outcomes.items() if status != "closed")
    click.echo(f"{results} results, {storm.contained} of them from containers")
    click.echo(f"RSS {rss_mb[0]:.1f} MB after the first round, {rss_mb[-1]:.1f} MB after the last ({grown_mb:+.1f} MB)")
    if grown_mb > MOST_GROWTH_MB:
        storm.problems.append(f"grown by {grown_mb:.1f} MB; the bound is {MOST_GROWTH_MB} MB")
    left = _left_since(before)
    return storm.problems + ([f"left behind: {left}"] if left else [])


def _watch(storm: Storm, part: list[Case]) -> None:
    """Run *part*; end the program with the stacks of its threads when nothing moves."""
    progress = -1
    for _ in storm.run(part):
        if storm.progress != progress:
            progress = storm.progress
            faulthandler.dump_traceback_later(_STANDSTILL_S, exit=True)


def _left_since(before: Holdings) -> dict[str, list[str]]:
    deadline = time.monotonic() + _GRACE_S
    while (left := Holdings.now().left_since(before)) and time.monotonic() < deadline:
        # A zombie whose parent is gone vanishes when init comes round, and that is told to nobody here.
        time.sleep(0.01)
    groups = own_groups()
    return {**left, **({"groups": groups} if groups else {})}


def _rss_mb() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 1024**2


def _progress(number: int, storm: Storm, rss_mb: float, elapsed_s: float) -> str:
    holds, groups = Holdings.now(), len(own_groups())
    return (
        f"round {number + 1:2}/{ROUNDS}: {storm.progress:5} invocations in {elapsed_s:5.1f} s, RSS {rss_mb:6.1f} MB, "
        f"{len(holds.descriptors):3} descriptors, {len(holds.threads):2} threads, {len(holds.processes):3} processes, "
        f"{groups} groups"
    )


def _table(outcomes: Counter[tuple[str, str]]) -> str:
    lines = [f"{SLOTS} engines, {THREADS_PER_SLOT} threads each"]
    for kind in sorted({kind for kind, _ in outcomes}):
        ended = {status: count for (each, status), count in sorted(outcomes.items()) if each == kind}
        lines.append(f"  {kind:29}" + ", ".join(f"{count} {status}" for status, count in ended.items()))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
