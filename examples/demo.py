"""What ``make demo`` runs: every example here, on every one of the platform's base runtimes that this machine has.

It is also how the library is used: describe a function once, then invoke it with an event.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Final

from engine import Engine, Function, RuntimeNotFoundError, Status

EXAMPLES: Final = Path(__file__).resolve().parent
BASE_RUNTIMES: Final = ("python2.7", "python3.6", "python3.9")

FUNCTIONS: Final = {
    "hello": Function(code=EXAMPLES / "hello", handler="index.handler", user_data={"GREETING": "Good morning"}),
    "apig": Function(code=EXAMPLES / "apig", handler="index.handler"),
    "timer": Function(code=EXAMPLES / "timer", handler="index.handler", initializer="index.initializer"),
    "timeout": Function(code=EXAMPLES / "timeout", handler="index.handler", timeout_s=0.5),
    "out_of_memory": Function(code=EXAMPLES / "out_of_memory", handler="index.handler", memory_mb=128),
    "python27_only": Function(code=EXAMPLES / "python27_only", handler="index.handler"),
}
"""The runtime is missing on purpose: each is run on several."""

INVOCATIONS: Final = {"timer": 2}
"""The second one starts warm, and goes on counting."""


def expected(name: str, runtime: str) -> Status:
    """How the example ends on *runtime* when everything works."""
    if name == "timeout":
        return Status.TIMEOUT
    if name == "out_of_memory":
        return Status.OUT_OF_MEMORY
    if name == "python27_only" and runtime != "python2.7":
        return Status.LOAD_ERROR
    return Status.SUCCESS


def runtimes_to_show(engine: Engine) -> list[str]:
    """The base runtimes that were found, or the Python that runs this when there is none."""
    found = []
    for runtime in BASE_RUNTIMES:
        try:
            found.append(engine.runtimes.find(runtime).runtime)
        except RuntimeNotFoundError as error:
            print(f"{error.runtime} was not found: {error.advice}\n")
    return found or [at_hand()]


def at_hand() -> str:
    return "python{}.{}".format(*sys.version_info[:2])


def main() -> int:
    surprises = []
    with Engine(runtimes={at_hand(): sys.executable}) as engine:
        runtimes = runtimes_to_show(engine)
        for name, function in FUNCTIONS.items():
            event = (EXAMPLES / name / "event.json").read_bytes()
            for runtime in runtimes:
                for number in range(1, INVOCATIONS.get(name, 1) + 1):
                    result = engine.invoke(dataclasses.replace(function, runtime=runtime), event)
                    start = "cold" if result.cold_start else "warm"
                    print(f"━━━ examples/{name} on {runtime}, invocation {number}, {start} start ━━━\n{result.render()}\n")
                    if result.status is not expected(name, runtime):
                        surprises.append(f"examples/{name} on {runtime}: {result.status}, not {expected(name, runtime)}")
    print(f"{len(FUNCTIONS)} examples on {', '.join(runtimes)}: {'; '.join(surprises) or 'each ended as it should'}")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
