"""The soak, a few thousand invocations of it; ``python -m tests.soak`` goes on to a million."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_thousands_of_warm_invocations_are_right_and_leave_nothing(runtime: str) -> None:
    """Each result is its request's, the instance is the same one throughout, and the engine does not grow."""
    options = ["--invocations", "3000", "--runtime", runtime]
    finished = subprocess.run(
        [sys.executable, "-m", "tests.soak", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert 0 == finished.returncode, finished.stdout + finished.stderr
