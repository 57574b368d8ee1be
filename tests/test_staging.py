"""From code and dependencies to folders: what is used where it is, what is unpacked, and what is refused."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.archives import MAX_ENTRIES, ArchiveError, copy_exactly, extract
from engine.errors import InvalidFunctionError
from engine.model import Function
from engine.staging import Staging, handler_file

SOURCE = "def handler(event, context):\n    return event\n"
Member = tuple[str | zipfile.ZipInfo, str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The private folder that an engine would own."""
    (tmp_path / "root").mkdir(mode=0o700)
    return tmp_path / "root"


@pytest.fixture
def staging(root: Path) -> Staging:
    return Staging(root)


def write(path: Path, text: str = SOURCE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def zipped(path: Path, *members: Member, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write an archive of *members* as they are given, legal or not."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, text in members:
            archive.writestr(name, text)
    return path


def member(name: str, mode: int) -> zipfile.ZipInfo:
    """A member with Unix permission and type bits."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16 | 0x20  # else zipfile takes 0 for 0o600; 0x20 is the archive bit of DOS
    return info


def changed(path: Path, *replacements: tuple[bytes, bytes]) -> Path:
    """Replace bytes of the same length everywhere in the file: how an archive gets what zipfile would not write."""
    data = path.read_bytes()
    for old, new in replacements:
        assert len(old) == len(new)
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


def files_below(folder: Path | str) -> dict[str, str]:
    """Relative path -> text of every regular file; a link or anything else would show as well."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            is_regular = stat.S_ISREG(os.lstat(path).st_mode)
            found[os.path.relpath(path, folder)] = Path(path).read_text("latin-1") if is_regular else "not a file"
    return found


def test_folder_is_used_where_it_is(staging: Staging, root: Path, tmp_path: Path) -> None:
    """Nothing is copied: a stack trace and an editor speak of the same file."""
    write(tmp_path / "code" / "index.py")
    (tmp_path / "layer").mkdir()
    staged = staging.stage(Function(code=tmp_path / "code", handler="index.handler", dependencies=[tmp_path / "layer"]))

    assert str(tmp_path / "code") == staged.root
    assert (str(tmp_path / "layer"),) == staged.dependencies
    assert [] == os.listdir(root)


def test_single_file_comes_without_its_neighbours(staging: Staging, tmp_path: Path) -> None:
    """The function is the one file: what lies beside it must not be importable."""
    code = write(tmp_path / "index.py")
    write(tmp_path / "json.py", "raise SystemExit")
    staged = staging.stage(Function(code=code, handler="index.handler"))

    assert {"index.py": SOURCE} == files_below(staged.root)


@pytest.mark.parametrize("field", ["handler", "initializer"])
@pytest.mark.parametrize("entry", ["main.handler", "src/index.handler", "src.index.handler", "inde.handler"])
def test_entry_that_is_not_in_the_single_file_is_refused(
    field: str, entry: str, staging: Staging, tmp_path: Path
) -> None:
    """With the entry that was probably meant."""
    code = write(tmp_path / "index.py")
    with pytest.raises(InvalidFunctionError, match=r"did you mean 'index\.handler'") as caught:
        staging.stage(Function(**{"code": code, "handler": "index.handler", field: entry}))

    assert (field, entry) == (caught.value.field, caught.value.value)


def test_archive_is_unpacked(staging: Staging, tmp_path: Path) -> None:
    """Files in folders, with and without members for the folders themselves, and names that tools write."""
    code = zipped(
        tmp_path / "code.zip",
        ("index.py", SOURCE),
        ("src/deep/er.py", "1"),
        ("empty/", ""),
        ("./dotted//double.py", "2"),
        ("./", ""),
        ("名前.py", "3"),
        ("a file: with spaces.txt", "4"),
    )
    staged = staging.stage(Function(code=code, handler="index.handler"))

    expected = {
        "index.py": SOURCE,
        "src/deep/er.py": "1",
        "dotted/double.py": "2",
        "名前.py": "3",
        "a file: with spaces.txt": "4",
    }
    assert expected == files_below(staged.root)
    assert os.path.isdir(os.path.join(staged.root, "empty"))


def test_dependencies_keep_their_order(staging: Staging, tmp_path: Path) -> None:
    """Folders and archives may be mixed: the earlier one wins an import."""
    (tmp_path / "folder").mkdir()
    archives = [zipped(tmp_path / f"{name}.zip", (f"{name}.py", name)) for name in ("first", "last")]
    write(tmp_path / "code" / "index.py")
    staged = staging.stage(
        Function(
            code=tmp_path / "code",
            handler="index.handler",
            dependencies=[archives[0], tmp_path / "folder", archives[1]],
        )
    )

    contents = [files_below(folder) for folder in staged.dependencies]
    assert [{"first.py": "first"}, {}, {"last.py": "last"}] == contents


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0o100644, 0o644),
        (0o100755, 0o755),
        (0o100777, 0o755),
        (0o106755, 0o755),
        (0o100400, 0o600),
        (0o100001, 0o601),
        (0o000644, 0o644),
        (0, 0o644),
    ],
)
def test_archive_keeps_executable_bits_alone(given: int, expected: int, staging: Staging, tmp_path: Path) -> None:
    """No setuid, nothing that others may write, and always readable and writable for the owner."""
    code = zipped(tmp_path / "code.zip", (member("tool", given), "#!/bin/sh"))
    staged = staging.stage(Function(code=code, handler="index.handler"))

    assert oct(expected) == oct(stat.S_IMODE(os.stat(os.path.join(staged.root, "tool")).st_mode))


def test_same_archive_is_unpacked_once(staging: Staging, root: Path, tmp_path: Path) -> None:
    """Also for another function, and where it is code for one and a dependency of the other."""
    archive = zipped(tmp_path / "code.zip", ("index.py", SOURCE))
    first = staging.stage(Function(code=archive, handler="index.handler"))
    second = staging.stage(Function(code=archive, handler="index.other", dependencies=[archive], memory_mb=256))

    assert first.root == second.root == second.dependencies[0]
    assert 1 == len(os.listdir(root))


def test_threads_unpack_an_archive_once(staging: Staging, root: Path, tmp_path: Path) -> None:
    """Those that come second wait for the first, and get a complete folder."""
    members = [(f"module{number}.py", str(number)) for number in range(50)]
    function = Function(code=zipped(tmp_path / "code.zip", *members), handler="module0.handler")
    barrier = threading.Barrier(8)
    seen = []

    def stage() -> None:
        barrier.wait()
        seen.append(files_below(staging.stage(function).root))

    threads = [threading.Thread(target=stage) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [dict(members)] * 8 == seen
    assert 1 == len(os.listdir(root))


def test_folder_that_was_cleaned_away_is_made_again(staging: Staging, tmp_path: Path) -> None:
    """Systems remove what lies in /tmp untouched for days; an engine may run for longer."""
    function = Function(code=zipped(tmp_path / "code.zip", ("index.py", SOURCE)), handler="index.handler")
    first = staging.stage(function)
    os.unlink(os.path.join(first.root, "index.py"))
    os.rmdir(first.root)

    assert {"index.py": SOURCE} == files_below(staging.stage(function).root)


Change = Callable[[Path], object]


def _rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def _replace_alike(path: Path) -> None:
    """Another file of the same length and times: only its inode tells."""
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def _touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


@pytest.mark.parametrize("change", [_rewrite, _replace_alike, _touch, Path.unlink])
@pytest.mark.parametrize("kind", ["folder", "initializer", "file", "archive", "dependency"])
def test_change_on_disk_is_noticed(kind: str, change: Change, staging: Staging, tmp_path: Path) -> None:
    """Of the handler's and the initializer's file in a folder, of a single file, and of every archive."""
    handler = write(tmp_path / "code" / "src" / "index.py")
    initializer = write(tmp_path / "code" / "start.py")
    archive = zipped(tmp_path / "code.zip", ("index.py", SOURCE))
    functions = {
        "folder": (Function(code=tmp_path / "code", handler="src/index.handler"), handler),
        "initializer": (
            Function(code=tmp_path / "code", handler="src.index.handler", initializer="start.initializer"),
            initializer,
        ),
        "file": (Function(code=handler, handler="index.handler"), handler),
        "archive": (Function(code=archive, handler="index.handler"), archive),
        "dependency": (Function(code=tmp_path / "code", handler="src.index.handler", dependencies=[archive]), archive),
    }
    function, watched = functions[kind]
    staged = staging.stage(function)
    assert staged.is_current()

    change(watched)
    assert not staged.is_current()


def test_handler_file_that_appears_is_noticed(staging: Staging, tmp_path: Path) -> None:
    """A missing handler is the function's failure; mending it must help."""
    (tmp_path / "code").mkdir()
    staged = staging.stage(Function(code=tmp_path / "code", handler="index.handler"))
    assert staged.is_current()

    write(tmp_path / "code" / "index.py")
    assert not staged.is_current()


def test_changed_archive_is_unpacked_anew(staging: Staging, tmp_path: Path) -> None:
    """Into another folder: instances of the old one still run."""
    function = Function(code=zipped(tmp_path / "code.zip", ("index.py", "1")), handler="index.handler")
    before = staging.stage(function)
    zipped(tmp_path / "code.zip", ("index.py", "22"))
    after = staging.stage(function)

    assert [{"index.py": "1"}, {"index.py": "22"}] == [files_below(before.root), files_below(after.root)]
    assert after.is_current()
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize("entry", ["src/deep/index.handler", "src.deep.index.handler", "src/deep.index.handler"])
def test_handler_file_is_found_by_slashes_and_dots(entry: str) -> None:
    """Both forms are documented, and mean the same file."""
    assert "/code/src/deep/index.py" == handler_file("/code", entry)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("code", "index.txt"),
        ("code", "index.pyc"),
        ("code", "code.tar.gz"),
        ("code", "code"),
        ("code", ".py"),
        ("code", "my.index.py"),
        ("dependencies", "index.py"),
        ("dependencies", "package.whl"),
    ],
)
def test_file_of_another_kind_is_refused(field: str, name: str, staging: Staging, tmp_path: Path) -> None:
    """By its name: a wheel would have to be installed, and no handler can mean my.index.py."""
    path = write(tmp_path / "files" / name)
    given: Any = path if field == "code" else [path]
    function = Function(**{"code": tmp_path / "files", "handler": "index.handler", field: given})
    with pytest.raises(InvalidFunctionError) as caught:
        staging.stage(function)

    assert (field, str(path)) == (caught.value.field, caught.value.value)


def test_pipe_in_the_place_of_an_archive_is_refused(staging: Staging, tmp_path: Path) -> None:
    """Opening it would wait for ever for someone to write."""
    os.mkfifo(tmp_path / "code.zip")
    with pytest.raises(InvalidFunctionError, match="regular file"):
        staging.stage(Function(code=tmp_path / "code.zip", handler="index.handler"))


@pytest.mark.parametrize("field", ["code", "dependencies"])
def test_path_that_vanished_is_refused(field: str, staging: Staging, tmp_path: Path) -> None:
    """It was there when the function was described."""
    path = zipped(tmp_path / "gone.zip", ("index.py", SOURCE))
    given: Any = path if field == "code" else [path]
    function = Function(**{"code": tmp_path, "handler": "index.handler", field: given})
    path.unlink()
    with pytest.raises(InvalidFunctionError, match="No such file") as caught:
        staging.stage(function)

    assert (field, str(path)) == (caught.value.field, caught.value.value)


def _truncated(path: Path) -> None:
    path.write_bytes(zipped(path, ("index.py", SOURCE * 100)).read_bytes()[:-30])


def _damaged_content(path: Path) -> None:
    changed(zipped(path, ("index.py", "AAAAAAAA"), method=zipfile.ZIP_STORED), (b"AAAAAAAA", b"AAAAAAAB"))


def _encrypted(path: Path) -> None:
    zipped(path, ("index.py", SOURCE))
    # Bit 0 of the flags, in the member's header and in the directory.
    changed(path, (b"PK\3\4\x14\0\0\0", b"PK\3\4\x14\0\1\0"), (b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"))


def _nul_in_a_name(path: Path) -> None:
    changed(zipped(path, ("index.pyXtxt", "")), (b"index.pyXtxt", b"index.py\0txt"))


def _claims(path: Path, size_bytes: int, method: int = zipfile.ZIP_DEFLATED) -> None:
    """An archive of one member of 1,000,000 zeros, which says everywhere that it is *size_bytes* long."""
    zipped(path, ("index.py", "\0" * 1_000_000), method=method)
    changed(path, (struct.pack("<I", 1_000_000), struct.pack("<I", size_bytes)))


EVIL: dict[str, tuple[Callable[[Path], object], str]] = {
    "no archive": (lambda path: path.write_bytes(b"PK"), "not a usable zip"),
    "empty file": (lambda path: path.write_bytes(b""), "not a usable zip"),
    "truncated": (_truncated, "not a usable zip"),
    "damaged content": (_damaged_content, "not a usable zip.*CRC"),
    "encrypted": (_encrypted, "encrypted"),
    "bzip2": (lambda path: zipped(path, ("a.py", "x"), method=zipfile.ZIP_BZIP2), "another method"),
    "lzma": (lambda path: zipped(path, ("a.py", "x"), method=zipfile.ZIP_LZMA), "another method"),
    "climbs": (lambda path: zipped(path, ("../evil.py", "x")), "climbs"),
    "climbs inside": (lambda path: zipped(path, ("a/../../evil.py", "x")), "climbs"),
    "climbs and returns": (lambda path: zipped(path, ("a/../b.py", "x")), "climbs"),
    "climbs as a folder": (lambda path: zipped(path, ("../evil/", "")), "climbs"),
    "absolute": (lambda path: zipped(path, ("/tmp/evil.py", "x")), "absolute"),
    "drive": (lambda path: zipped(path, ("C:/evil.py", "x")), "absolute"),
    "drive alone": (lambda path: zipped(path, ("c:evil.py", "x")), "absolute"),
    "backslashes": (lambda path: zipped(path, ("..\\evil.py", "x")), "misleading"),
    "NUL": (_nul_in_a_name, "misleading"),
    "long name": (lambda path: zipped(path, ("x" * 256, "")), "name too long"),
    "no name": (lambda path: zipped(path, (".", "x")), "without a name"),
    "link": (lambda path: zipped(path, (member("link", 0o120777), "/etc/passwd")), "link or a device"),
    "device": (lambda path: zipped(path, (member("null", 0o020666), "")), "link or a device"),
    "pipe": (lambda path: zipped(path, (member("pipe", 0o010666), "")), "link or a device"),
    "file, then folder": (lambda path: zipped(path, ("a", "x"), ("a/b.py", "x")), "a file and a folder"),
    "folder, then file": (lambda path: zipped(path, ("a/b.py", "x"), ("./a", "x")), "two members are './a'"),
    "file and empty folder": (lambda path: zipped(path, ("a", "x"), ("a/", "")), "a file and a folder"),
    "same name twice": (lambda path: zipped(path, ("a.py", "x"), ("./a.py", "y")), "two members"),
    "deep": (lambda path: zipped(path, ("d/" * 101, "")), "nested more than 100 deep"),
    "too large": (lambda path: _claims(path, 1_572_864_001), "more than 1500 MB"),
    "says less than it has": (lambda path: _claims(path, 10), "not a usable zip"),
    "ends early": (lambda path: _claims(path, 2_000_000, zipfile.ZIP_STORED), "not a usable zip"),
    "says more than it has": (lambda path: _claims(path, 1_572_864_000), "not as long"),
}


@pytest.mark.parametrize("field", ["code", "dependencies"])
@pytest.mark.parametrize(("make", "reason"), EVIL.values(), ids=EVIL)
def test_evil_archive_is_refused(
    make: Callable[[Path], object], reason: str, field: str, root: Path, tmp_path: Path
) -> None:
    """With the field, the path and the reason, and nothing of it stays on the disk."""
    archive = tmp_path / "evil.zip"
    make(archive)
    given: Any = archive if field == "code" else [archive]
    function = Function(**{"code": tmp_path, "handler": "index.handler", field: given})
    with pytest.raises(InvalidFunctionError, match=f"(?i){reason}") as caught:
        Staging(root).stage(function)

    assert (field, str(archive)) == (caught.value.field, caught.value.value)
    assert [] == os.listdir(root)
    assert ["evil.zip", "root"] == sorted(os.listdir(tmp_path))


@pytest.mark.slow
def test_archive_with_too_many_files_is_refused(staging: Staging, root: Path, tmp_path: Path) -> None:
    """The platform takes 30,000, and so does the engine: the first over it is one too many."""
    archive = zipped(tmp_path / "many.zip", *((f"{number}.py", "") for number in range(MAX_ENTRIES + 1)))
    with pytest.raises(InvalidFunctionError, match="more than 30000"):
        staging.stage(Function(code=archive, handler="index.handler"))

    assert [] == os.listdir(root)


@pytest.mark.parametrize(
    ("names", "fits"),
    [
        (["1", "2", "3"], True),
        (["1", "2", "3", "4"], False),
        (["a/b/3"], True),
        (["a/b/c/4"], False),
        (["a/b/c/d/"], False),
    ],
)
def test_folders_that_are_only_implied_count(names: list[str], tmp_path: Path, *, fits: bool) -> None:
    """One deep name could otherwise make as many folders as it has slashes."""
    archive = zipped(tmp_path / "code.zip", *((name, "") for name in names))
    (tmp_path / "target").mkdir()
    expectation = contextlib.nullcontext() if fits else pytest.raises(ArchiveError, match="more than 3 files")

    with archive.open("rb") as file, expectation:
        extract(file, str(tmp_path / "target"), max_entries=3)


def test_members_sizes_are_added_up(tmp_path: Path) -> None:
    """Each below the limit, together above it; exactly at the limit is allowed."""
    archive = zipped(tmp_path / "code.zip", ("a", "x" * 60), ("b", "x" * 40))
    (tmp_path / "target").mkdir()
    with archive.open("rb") as file:
        with pytest.raises(ArchiveError, match="MB unpacked"):
            extract(file, str(tmp_path / "target"), max_bytes=99)
        extract(file, str(tmp_path / "target"), max_bytes=100)


def test_copy_stops_where_a_member_is_longer_than_it_said() -> None:
    """Whatever zipfile promises: bytes over the announced size never reach the disk."""
    target = io.BytesIO()
    with pytest.raises(ArchiveError, match="not as long"):
        copy_exactly(io.BytesIO(b"x" * 3_000_000), target, 2_000_000)

    assert len(target.getvalue()) <= 2_000_000


def test_trouble_that_is_not_the_archives_is_no_refusal(root: Path, tmp_path: Path) -> None:
    """Where the engine's own folder is gone, the function is not to blame."""
    archive = zipped(tmp_path / "code.zip", ("index.py", SOURCE))
    staging = Staging(root)
    root.rmdir()
    with pytest.raises(FileNotFoundError):
        staging.stage(Function(code=archive, handler="index.handler"))


PART = st.sampled_from(["..", ".", "", "a", "b", "a.py", "~", "C:", "\\", "..\\", "link", "\0", "%2e%2e", "é", "…/"])
NAME = st.one_of(
    st.lists(PART, max_size=6).map("/".join),
    st.lists(PART, max_size=3).map("\\".join),
    st.text(max_size=20),
    st.just("{outside}/evil.py"),
)
MODE = st.sampled_from([0, 0o100644, 0o040755, 0o120777, 0o020666, 0o010666, 0o140777, 0o106755])


@pytest.mark.slow
@settings(deadline=None)
@given(members=st.lists(st.tuples(NAME, MODE), max_size=5))
@example(members=[("link", 0o120777), ("link/evil.py", 0o100644)])
@example(members=[("../evil.py", 0o100644)])
@example(members=[("{outside}/evil.py", 0o100644)])
def test_no_member_is_ever_written_outside(members: list[tuple[str, int]]) -> None:
    """Whatever the names and types are: files land below the target, as files, or the archive is refused."""
    with tempfile.TemporaryDirectory() as outside, contextlib.ExitStack() as stack:
        stack.callback(os.chdir, os.getcwd())
        os.chdir(outside)  # so that a relative name would show as well
        target = os.path.join(outside, "some", "where", "target")
        os.makedirs(target)
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Duplicate name")
            for name, mode in members:
                info = member("x", mode)
                # Past the checks of zipfile's own constructor, as another tool would write it.
                info.filename = info.orig_filename = name.replace("{outside}", outside)
                with contextlib.suppress(UnicodeEncodeError):  # a lone surrogate cannot be written at all
                    archive.writestr(info, "/etc/passwd")
        with contextlib.suppress(ArchiveError):
            extract(data, target)

        found = files_below(outside)
        assert {} == {name: text for name, text in found.items() if not name.startswith("some/where/target/")}
        assert "not a file" not in found.values()


VALID = io.BytesIO()
with zipfile.ZipFile(VALID, "w", zipfile.ZIP_DEFLATED) as _archive:
    _archive.writestr("index.py", SOURCE * 3)
    _archive.writestr("src/", "")
    _archive.writestr("src/名前.py", SOURCE)


@pytest.mark.slow
@settings(deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(VALID.getvalue()) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    length=st.integers(0, len(VALID.getvalue())) | st.just(len(VALID.getvalue())),
)
def test_damaged_archive_is_refused_or_unpacked(changes: Iterable[tuple[int, int]], length: int) -> None:
    """No change of its bytes brings out another exception than the refusal, or a file outside."""
    data = bytearray(VALID.getvalue())
    for position, value in changes:
        data[position] = value
    with tempfile.TemporaryDirectory() as outside:
        target = os.path.join(outside, "target")
        os.mkdir(target)
        with contextlib.suppress(ArchiveError):
            extract(io.BytesIO(data[:length]), target)

        assert ["target"] == os.listdir(outside)
