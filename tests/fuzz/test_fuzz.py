"""The fuzz target runs and finds nothing in a short while; ``python -m tests.fuzz`` goes on for longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_decoder_stands_a_short_fuzz_run(tmp_path: Path) -> None:
    """Twenty thousand inputs from one seed: no exception but ProtocolError, and every promise kept."""
    pytest.importorskip(
        "atheris", reason="atheris has wheels for some versions of Python only: see docs/reliability.md"
    )
    options = ["-runs=20000", "-seed=1", f"-artifact_prefix={tmp_path}/"]
    finished = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 == finished.returncode, finished.stderr
    assert "Done 20000 runs" in finished.stderr
