"""``python -m benchmarks.install``: everything in the extra ``benchmarks`` that this machine has packages for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata

EXTRA = "benchmarks"
_PIP = (sys.executable, "-m", "pip", "install", "--quiet", "--quiet")


def main() -> None:
    """Install all of them together; when that fails, one by one, and name those that are missing."""
    wanted = requirements(metadata.requires("fgengine") or [])
    print(f"installing what is measured beside the engine: {', '.join(wanted)}", flush=True)
    if subprocess.run([*_PIP, *wanted], check=False, stderr=subprocess.DEVNULL).returncode == 0:
        return
    for requirement in wanted:
        if subprocess.run([*_PIP, requirement], check=False, stderr=subprocess.DEVNULL).returncode != 0:
            print(f"cannot be installed here, and will be skipped by its name: {requirement}", flush=True)


def requirements(lines: Iterable[str]) -> list[str]:
    """The packages that the extra adds, of the *lines* of a distribution's metadata; our own package is there."""
    found = []
    for line in lines:
        requirement, _, condition = line.partition(";")
        if f'extra == "{EXTRA}"' in condition.replace("'", '"') and not requirement.startswith("fgengine"):
            found.append(requirement.strip())
    return found


if __name__ == "__main__":
    main()
