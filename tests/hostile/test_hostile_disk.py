"""Functions that fill their temporary folder, or leave it so that it is hard to remove."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from engine import Engine, Status

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import FunctionMaker
    from tests.hostile.conftest import Arena

FILLINGS = {
    "one file": "write(os.open('full', os.O_CREAT | os.O_WRONLY), b'x' * (8 * 2 ** 20))\nhang()",
    "many files": (
        "for number in range(8):\n"
        "    write(os.open('full%d' % number, os.O_CREAT | os.O_WRONLY), b'x' * 2 ** 20)\nhang()"
    ),
    "a file in folders": (
        "for _ in range(20):\n    os.mkdir('f' * 200)\n    os.chdir('f' * 200)\n"
        "write(os.open('full', os.O_CREAT | os.O_WRONLY), b'x' * (8 * 2 ** 20))\nhang()"
    ),
    "a helper's file": (
        "if os.fork() == 0:\n    write(os.open('full', os.O_CREAT | os.O_WRONLY), b'x' * (8 * 2 ** 20))\nhang()"
    ),
    "a file, and a return": (
        "write(os.open('full', os.O_CREAT | os.O_WRONLY), b'x' * (8 * 2 ** 20))\ntime.sleep(1.0)\nreturn 'full'"
    ),
    "folders beyond the longest path": (
        "for _ in range(30):\n    os.mkdir('f' * 200)\n    os.chdir('f' * 200)\n"
        "write(os.open('full', os.O_CREAT | os.O_WRONLY), b'x' * (8 * 2 ** 20))\nhang()"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("filling", FILLINGS.values(), ids=FILLINGS)
def test_full_temporary_folder_is_told_as_that(arena: Arena, filling: str) -> None:
    """Wherever in it the bytes are, and whoever of the function wrote them."""
    aftermath = arena(f"os.chdir(os.environ['TMPDIR'])\n{filling}", tmp_mb=4, timeout_s=20.0)

    assert (Status.DISK_FULL, 4207) == (aftermath.result.status, aftermath.result.error_code)
    assert "disk usage exceed limit" == (aftermath.result.error or {})["errorMessage"]
    assert not aftermath.instance_survived


LITTERING = {
    "thousands of files": "for number in range(1000):\n    open('file%d' % number, 'w').close()",
    "thousands of nested folders": "for _ in range(1100):\n    os.mkdir('f')\n    os.chdir('f')",
    "folders nobody may read": "os.makedirs('a/b')\nopen('a/b/file', 'w').close()\nos.chmod('a/b', 0)",
    "names that are no text": "open(b'\\xff\\xfe\\n\\t*', 'w').close()\nos.mkdir(b'\\xff')",
    "links to elsewhere": "os.symlink('/', 'root')\nos.symlink(os.environ['PRECIOUS'], 'precious')",
    "pipes and sockets": (
        "import socket\nos.mkfifo('pipe')\nsocket.socket(socket.AF_UNIX).bind('socket')\nos.open('pipe', os.O_RDWR)"
    ),
    "a folder without permissions": "os.chmod('.', 0)",
    "no folder any more": "os.rmdir(os.environ['TMPDIR'])",
    "a file in its place": "os.rmdir(os.environ['TMPDIR'])\nopen(os.environ['TMPDIR'], 'w').close()",
    "a link in its place": "os.rmdir(os.environ['TMPDIR'])\nos.symlink(os.environ['PRECIOUS'], os.environ['TMPDIR'])",
}


@pytest.mark.slow
@pytest.mark.parametrize("litter", LITTERING.values(), ids=LITTERING)
def test_whatever_is_left_in_the_temporary_folder_is_removed(
    engine: Engine, armed: FunctionMaker, tmp_path: Path, litter: str
) -> None:
    """With the instance, to the last file, and nothing outside of it is touched."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("precious")
    body = "".join(f"            {line}\n" for line in litter.splitlines())
    source = (
        "from arms import *\n\ndef handler(event, context):\n    os.chdir(os.environ['TMPDIR'])\n"
        "    folder = os.environ['TMPDIR']\n    try:\n        pass\n    finally:\n        if event == 'attack':\n"
        f"{body}    return folder\n"
    )
    function = armed(source, user_data={"PRECIOUS": str(tmp_path / "precious")}, timeout_s=20.0)
    result = engine.invoke(function, "attack")
    engine.release_idle()

    assert Status.SUCCESS is result.status
    assert result.value.startswith(tempfile.gettempdir())
    assert not os.path.lexists(result.value)
    assert ["file"] == os.listdir(tmp_path / "precious")
    assert (Status.SUCCESS, True) == ((again := engine.invoke(function, None)).status, again.cold_start)
