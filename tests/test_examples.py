"""What the documentation shows is what comes out: the examples, and the README's transcripts and program."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from engine.errors import RuntimeNotFoundError
from engine.runtimes import PLATFORM_RUNTIMES, Runtimes

ROOT: Final = Path(__file__).resolve().parent.parent
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
SESSION: Final = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM: Final = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

TRANSCRIPTS: Final = [
    (command, shown.strip())
    for session in SESSION.findall(README)
    for command, _, shown in (part.partition("\n") for part in session.split("$ ")[1:])
]


def shape(text: str) -> str:
    """*text* without what differs from run to run, and from machine to machine: ids, numbers, padding, curves."""
    drawn = ("|", "---")  # the rows and the frame of a plot
    text = "\n".join(line for line in text.splitlines() if not any(mark in line for mark in drawn))
    text = re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "ID", text.strip())
    text = re.sub(r"[0-9][0-9.]*", "N", text)
    return re.sub(r" +", " ", text)


def output_of(*command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False, timeout=60)
    assert b"" == done.stderr
    return done.stdout.decode()


@pytest.fixture(scope="module")
def _base_runtimes() -> None:
    """The README shows all three: skipped where one is not installed, but a failure in CI."""
    known = Runtimes()
    for runtime in PLATFORM_RUNTIMES:
        try:
            known.find(runtime)
        except RuntimeNotFoundError as error:
            if os.environ.get("CI"):
                pytest.fail(f"CI must have {runtime}: {error}")
            pytest.skip(f"{runtime} is not installed")


@pytest.mark.slow
@pytest.mark.usefixtures("_base_runtimes")
@pytest.mark.parametrize(("command", "shown"), TRANSCRIPTS, ids=[command for command, _ in TRANSCRIPTS])
def test_transcript_of_the_readme_is_what_comes_out(command: str, shown: str) -> None:
    """Line by line, apart from ids and numbers."""
    fgengine = f'fgengine() {{ {shlex.quote(sys.executable)} -m engine "$@"; }}'

    assert shape(shown) == shape(output_of("sh", "-c", f"{fgengine}\n{command}"))


@pytest.mark.slow
@pytest.mark.usefixtures("_base_runtimes")
def test_program_of_the_readme_runs() -> None:
    """It can be pasted as it is."""
    (program,) = PROGRAM.findall(README)

    assert "hi, world!" in output_of(sys.executable, "-c", program)


@pytest.mark.slow
def test_every_example_ends_as_it_should() -> None:
    """What ``make demo`` shows, on every base runtime that is there, or on the Python at hand."""
    shown = output_of(sys.executable, "examples/demo.py")

    assert shown.splitlines()[-1].endswith("each ended as it should")
    assert str(ROOT / "sandbox") not in shown  # nor does the engine itself have a word in any log
