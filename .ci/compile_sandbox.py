"""Compile every file of sandbox/ on every interpreter found: its code must parse on the oldest and on the newest.

Linters run on one version and cannot tell. Exit status 1 when a file does not compile, or when one of the
base runtimes, which must be there for this check to mean something, is not.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from engine.runtimes import Runtimes

REQUIRED: Final = {"python2.7", "python3.6", "python3.9"}
SANDBOX: Final = Path(__file__).resolve().parent.parent / "sandbox"

# Parsed and compiled in memory: nothing is written, so that no __pycache__ of one version is left for another.
PROGRAM: Final = """
import sys
for path in sys.argv[1:]:
    with open(path, "rb") as stream:
        compile(stream.read(), path, "exec", 0, True)
"""


def main() -> int:
    files = sorted(str(path) for path in SANDBOX.rglob("*.py"))
    found = {interpreter.runtime: interpreter for interpreter in Runtimes().installed()}
    failed = sorted(REQUIRED - found.keys())
    for runtime in failed:
        print(f"sandbox/ on {runtime}: no interpreter found, and this one is required")
    for runtime, interpreter in found.items():
        command = [str(interpreter.executable), "-W", "error", "-c", PROGRAM, *files]
        if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode != 0:
            failed.append(runtime)
        else:
            print(f"sandbox/ on {runtime}: {len(files)} files compile")
    if not files:
        failed.append("no file")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
