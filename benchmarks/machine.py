"""Where a figure was measured: facts about the machine, and staying on one CPU of it."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.errors import RuntimeNotFoundError
from engine.runtimes import Runtimes

_PROBE_TIMEOUT_S = 30


def facts(interpreters: Mapping[str, str]) -> dict[str, Any]:
    """What somebody needs to know to believe, or to doubt, a figure: JSON-ready.

    Args:
        interpreters: Executables of the children, by runtime label.
    """
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        # Without what a distribution or a provider adds to the number.
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "architecture": platform.machine(),
        "cpu": cpu_model(),
        "cpus_online": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)),
        "governor": _read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")) or "unknown",
        "load_average": load_average(),
        "host_python": platform.python_version(),
        "runtimes": {runtime: full_version(path) for runtime, path in interpreters.items()},
        "orjson": _distribution_version("orjson"),
    }


def cpu_model() -> str:
    """The CPU's name as the kernel tells it; with family and model where the name is a family's."""
    fields: dict[str, str] = {}
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            break  # an empty line ends the first CPU
        fields[key.strip()] = value.strip()
    name = fields.get("model name") or platform.processor() or "unknown"
    numbers = [f"{key.removeprefix('cpu ')} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def full_version(python: str) -> str:
    """The version that the executable *python* tells of itself, such as ``3.9.18``."""
    code = "import sys; sys.stdout.write('.'.join(map(str, sys.version_info[:3])))"
    ran = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, timeout=_PROBE_TIMEOUT_S)
    return ran.stdout


def pin(cpu: int) -> None:
    """Keep this process, and every child that it starts from now on, on one CPU."""
    os.sched_setaffinity(0, {cpu})


def default_cpu() -> int:
    """The last CPU that we may use: the first takes most of a machine's interrupts."""
    return max(os.sched_getaffinity(0))


def _distribution_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def load_average() -> list[float]:
    """Processes that wanted a CPU, over the last 1, 5 and 15 minutes."""
    return list(os.getloadavg())


def find_interpreters(runtimes: Iterable[str], given: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Look for interpreters as the engine does.

    Returns:
        Executables by runtime label, and the labels for which there is none.
    """
    known = Runtimes(given)
    found, missing = {}, []
    for runtime in runtimes:
        try:
            found[runtime] = known.find(runtime).executable
        except RuntimeNotFoundError:
            missing.append(runtime)
    return found, missing
