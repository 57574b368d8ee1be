"""Finding interpreters: what counts as one, in which order, and how little of the machine's oddities gets through."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import threading
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidFunctionError, RuntimeNotFoundError
from engine.places import places
from engine.runtimes import PLATFORM_RUNTIMES, Interpreter, Runtimes

HOST = "python{}.{}".format(*sys.version_info)
"""The Python that runs the tests: the one that every machine has."""

NOWHERE = "python3.29"
"""A label that is legal and that no machine has."""


def installed(label: str) -> Interpreter:
    """The machine's own interpreter for *label*; without one the test is skipped, but fails in CI."""
    try:
        return Runtimes().find(label)
    except RuntimeNotFoundError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(f"{label} is not installed")


@pytest.fixture(scope="session")
def python() -> str:
    """A real interpreter in no virtual environment, of the version that runs the tests."""
    return installed(HOST).executable


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home folder, and a PATH of one empty folder beside it."""
    (tmp_path / "home").mkdir()
    (tmp_path / "bin").mkdir()
    return tmp_path / "home"


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": str(home.parent / "bin")}


def link(path: Path, target: str) -> str:
    """Put *target* at *path*, as a version manager would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return str(path)


def script(path: Path, text: str) -> str:
    """An executable shell script at *path*; the PATH of a test has no commands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{text}\n"))
    path.chmod(0o755)
    return str(path)


def refusal(label: str, given: Mapping[str, str], environ: Mapping[str, str], timeout_s: float = 10.0) -> str:
    """The only line that is said about what *given* names."""
    with pytest.raises(RuntimeNotFoundError) as caught:
        Runtimes(given, environ, probe_timeout_s=timeout_s).find(label)
    (line,) = caught.value.tried
    return line


@pytest.mark.parametrize("label", PLATFORM_RUNTIMES)
def test_find_returns_what_was_asked_for(label: str) -> None:
    """The executable is absolute, runs, and is of the version that its record says."""
    found = installed(label)
    program = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
    told = subprocess.check_output([found.executable, "-E", "-S", "-c", program], text=True).strip()

    assert label == found.runtime == "python{}.{}".format(*found.version)
    assert told == "{}.{}.{}".format(*found.version)
    assert os.path.isabs(found.executable)


def test_places_are_in_the_documented_order() -> None:
    """Users reason about which Python they get by this list."""
    version = HOST.removeprefix("python")
    expected = ["PATH", "pyenv", "uv", "asdf", "mise", "conda", "/usr/local/bin", "/usr/bin", "this process"]

    assert expected == [place.name for place in places(version, {})]


def test_find_prefers_the_earlier_place(python: str, home: Path, environ: dict[str, str], tmp_path: Path) -> None:
    """With one interpreter in each place, each one is found when those before it are gone."""
    version = HOST.removeprefix("python")
    data = home / ".local" / "share"
    trees = {
        "caller": tmp_path / "given" / HOST,
        f"FGENGINE_{HOST.upper().replace('.', '_')}": tmp_path / "variable" / HOST,
        "PATH": tmp_path / "bin" / HOST,
        "pyenv": home / ".pyenv" / "versions" / f"{version}.1" / "bin" / HOST,
        "uv": data / "uv" / "python" / f"cpython-{version}.1-linux-x86_64-gnu" / "bin" / HOST,
        "asdf": home / ".asdf" / "installs" / "python" / f"{version}.1" / "bin" / HOST,
        "mise": data / "mise" / "installs" / "python" / version / "bin" / HOST,
        "conda": home / "miniconda3" / "envs" / "science" / "bin" / HOST,
    }
    for path in trees.values():
        link(path, python)
    given = {HOST: trees["caller"]}
    for source, path in trees.items():
        if source.startswith("FGENGINE_"):
            environ[source] = str(path)

    for source, path in trees.items():
        found = Runtimes(given, environ).find(HOST)
        assert (source, str(path)) == (found.source, found.executable)
        given.pop(HOST, None)
        environ.pop(source, None)
        path.unlink()
    assert Runtimes(given, environ).find(HOST).source in {"/usr/local/bin", "/usr/bin", "this process"}


def test_version_managers_folders_can_be_moved(
    python: str, home: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    """Each manager's own variable says where its versions are."""
    version = HOST.removeprefix("python")
    for source, variable, below in (
        ("pyenv", "PYENV_ROOT", f"versions/{version}.1"),
        ("uv", "UV_PYTHON_INSTALL_DIR", f"cpython-{version}.1-linux"),
        ("asdf", "ASDF_DATA_DIR", f"installs/python/{version}.1"),
        ("mise", "MISE_DATA_DIR", f"installs/python/{version}.1"),
        ("conda", "CONDA_PREFIX", "."),
    ):
        path = link(tmp_path / source / below / "bin" / HOST, python)

        found = Runtimes(environ={**environ, variable: str(tmp_path / source)}).find(HOST)
        assert (source, os.path.realpath(path)) == (found.source, os.path.realpath(found.executable))


def test_conda_environments_elsewhere_are_found(
    python: str, home: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    """Conda lists the environments that are not below its own folder in a file."""
    path = link(tmp_path / "elsewhere" / "bin" / HOST, python)
    (home / ".conda").mkdir()
    (home / ".conda" / "environments.txt").write_text(f"/gone\n{tmp_path / 'elsewhere'}\n", encoding="utf-8")

    assert path == Runtimes(environ=environ).find(HOST).executable


def test_newest_release_comes_first(home: Path) -> None:
    """By number and not by letter, releases before everything else, and only of the version asked for."""
    versions = home / ".pyenv" / "versions"
    for name in ("3.9.2", "3.9.18", "3.9-dev", "3.9.19rc1", "3.90.1", "3.9.3+debug", "pypy3.9-7.3", "3.10.1"):
        script(versions / name / "bin" / "python3.9", "exit 1")
    pyenv = list(places("3.9", {"HOME": str(home)}))[1]

    found = [Path(path).parent.parent.name for path in pyenv.executables]
    assert ["3.9.18", "3.9.2"] == found[:2]
    assert {"3.9-dev", "3.9.19rc1", "3.9.3+debug"} == set(found[2:])


@pytest.mark.parametrize("named_by", ["caller", "variable"])
def test_named_interpreter_that_fails_is_not_replaced(named_by: str, python: str, environ: dict[str, str]) -> None:
    """Whoever named one wants that one: another of the same version on PATH is not taken instead."""
    link(Path(environ["PATH"]) / HOST, python)
    given = {HOST: "/no/such/python"} if named_by == "caller" else {}
    variable = f"FGENGINE_{HOST.upper().replace('.', '_')}"
    if named_by == "variable":
        environ[variable] = "/no/such/python"

    source = "caller" if named_by == "caller" else variable
    assert f"{source}: /no/such/python: no such file" == refusal(HOST, given, environ)


def test_named_interpreter_of_another_version_is_refused(python: str, environ: dict[str, str]) -> None:
    """The refusal says which version it is."""
    version = "{}.{}.{}".format(*sys.version_info)

    assert f"caller: {python}: is Python {version}" == refusal(NOWHERE, {NOWHERE: python}, environ)


def test_named_file_that_cannot_run_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    """In the kernel's own words."""
    (tmp_path / "data").write_text("x", encoding="utf-8")

    assert refusal(HOST, {HOST: str(tmp_path / "data")}, environ).endswith("cannot be run: Permission denied")


@pytest.mark.parametrize("label", ["python2", "python3.5", "ruby2.5", ""])
def test_given_label_must_name_a_python(label: str, python: str) -> None:
    """A typing error in a label would otherwise just never be used."""
    with pytest.raises(InvalidFunctionError) as caught:
        Runtimes({label: python})

    assert ("runtime", label) == (caught.value.field, caught.value.value)


@pytest.mark.parametrize("path", ["", "a\0b", b"/usr/bin/python3", None, 3])
def test_given_path_must_be_a_path(path: Any) -> None:
    """The error names the field and the entry."""
    with pytest.raises(InvalidFunctionError) as caught:
        Runtimes({"python3.9": path})

    assert ("runtimes", {"python3.9": path}) == (caught.value.field, caught.value.value)


def test_given_bare_python3_means_its_full_label(python: str, environ: dict[str, str]) -> None:
    """``python3`` is 3.6 wherever a label is read."""
    assert "is Python" in refusal("python3.6", {"python3": python}, environ)


def test_given_relative_path_is_of_the_moment_it_was_given(
    python: str, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host may change its working directory before the first use."""
    link(tmp_path / "here", python)
    monkeypatch.chdir(tmp_path)
    runtimes = Runtimes({HOST: "here"}, environ)
    monkeypatch.chdir("/")

    assert str(tmp_path / "here") == runtimes.find(HOST).executable


def test_failing_shim_is_passed_over(python: str, home: Path, environ: dict[str, str]) -> None:
    """A shim exists for versions that are not selected; what it starts on success is found by its own path."""
    script(Path(environ["PATH"]) / HOST, f"echo '{HOST}: command not found' >&2; exit 127")
    path = link(home / ".pyenv" / "versions" / f"{HOST.removeprefix('python')}.1" / "bin" / HOST, python)

    found = Runtimes(environ=environ).find(HOST)
    assert ("pyenv", path) == (found.source, found.executable)


def test_failure_of_a_shim_is_told_in_one_short_line(environ: dict[str, str]) -> None:
    """Its exit status and its first words; pyenv prints seven lines, others print pages."""
    path = script(Path(environ["PATH"]) / NOWHERE, "echo; echo not selected; seq 1 5000; exit 127")
    long = script(Path(environ["PATH"]) / "long", "seq -s ' ' 1 5000; exit 3")

    assert f"caller: {path}: exit status 127: not selected" == refusal(NOWHERE, {NOWHERE: path}, environ)
    assert len(refusal(NOWHERE, {NOWHERE: long}, environ)) < 300


@pytest.mark.slow
def test_hanging_shim_is_killed_with_what_it_started(environ: dict[str, str], tmp_path: Path) -> None:
    """Discovery goes on after its time-out, and no process of the shim lives on."""
    os.mkfifo(tmp_path / "held")
    shim = script(tmp_path / "shim", f"exec 3>{tmp_path / 'held'}; echo started >&3; sleep 600 & sleep 600")
    reader = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert f"caller: {shim}: gave no answer in 0.5 s" == refusal(HOST, {HOST: shim}, environ, timeout_s=0.5)
        assert b"started\n" == os.read(reader, 100)
        poller = select.poll()
        poller.register(reader, 0)
        # The kernel hangs up when the last process that had the other end is dead.
        assert [(reader, select.POLLHUP)] == poller.poll(10_000)
    finally:
        os.close(reader)


def test_endless_printer_is_refused(environ: dict[str, str], tmp_path: Path) -> None:
    """By the amount and not by the time-out, so that it costs no memory."""
    path = script(tmp_path / "yes", "exec yes")

    assert f"caller: {path}: prints without end: y" == refusal(HOST, {HOST: path}, environ, timeout_s=3600.0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Python 3.29.1", "exit status 0: Python 3.29.1"),
        ("", "exit status 0"),
        ("<fgengine>((3, 29, 1), 'pypy', '/x')</fgengine>", "is pypy, not CPython"),
        ("<fgengine>()</fgengine>", "gave an answer that makes no sense"),
        ("<fgengine>((3, 29, 1), 'cpython', 7)</fgengine>", "gave an answer that makes no sense"),
        ("<fgengine>((2, 7, 1), 'cpython', 7)</fgengine>", "gave an answer that makes no sense"),
        ("<fgengine>__import__('os').abort()</fgengine>", "gave an answer that makes no sense"),
        ("<fgengine>%s</fgengine>" % ("(" * 5000), "gave an answer that makes no sense"),
    ],
)
def test_program_that_is_no_cpython_is_refused(
    answer: str, reason: str, environ: dict[str, str], tmp_path: Path
) -> None:
    """Whatever it prints: plain versions, other implementations, nonsense between the right marks."""
    (tmp_path / "answer").write_text(answer, encoding="utf-8")
    path = script(tmp_path / "liar", f"cat {tmp_path / 'answer'}")

    assert f"caller: {path}: {reason}" == refusal(NOWHERE, {NOWHERE: path}, environ)


def test_wrong_version_under_the_right_name_is_passed_over(
    python: str, home: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    """A name promises nothing: the version that runs counts."""
    script(Path(environ["PATH"]) / HOST, f'exec {installed("python3.9").executable} "$@"')
    path = link(home / ".pyenv" / "versions" / f"{HOST.removeprefix('python')}.1" / "bin" / HOST, python)

    assert path == Runtimes(environ=environ).find(HOST).executable


def test_shim_is_replaced_by_what_it_starts(python: str, environ: dict[str, str]) -> None:
    """The shell in front of it would be paid for at every start."""
    script(Path(environ["PATH"]) / HOST, f'exec {python} "$@"')

    found = Runtimes(environ=environ).find(HOST)
    assert ("PATH", python) == (found.source, found.executable)


def test_wrapper_that_is_needed_stays(environ: dict[str, str], tmp_path: Path) -> None:
    """A script that prepares the environment is kept where the real one does not run without it."""
    answer = f"<fgengine>((3, 29, 1), 'cpython', '{tmp_path / 'missing-libraries'}')</fgengine>"
    path = script(Path(environ["PATH"]) / NOWHERE, f'echo "{answer}"')

    assert path == Runtimes(environ=environ).find(NOWHERE).executable


@pytest.mark.parametrize("variable", ["PYTHONHOME", "PYTHONPATH", "LD_PRELOAD", "LD_LIBRARY_PATH"])
def test_variables_for_the_hosts_python_do_not_reach_a_candidate(
    variable: str, python: str, environ: dict[str, str]
) -> None:
    """They would lead another interpreter astray, and no instance will have them."""
    path = script(Path(environ["PATH"]) / HOST, f'[ -z "${variable}" ] && exec {python} "$@"')
    environ[variable] = "/nowhere"

    assert python == Runtimes({HOST: path}, environ).find(HOST).executable


@pytest.mark.parametrize("label", ["python2.7", "python3.6", HOST])
def test_interpreter_in_a_folder_with_odd_characters_is_found(
    label: str, environ: dict[str, str], tmp_path: Path
) -> None:
    """Spaces, quotes, a line break, letters of any script, and a byte that is no UTF-8; also behind a shim."""
    path = link(tmp_path / os.fsdecode(b"a 'b\"\n\xe4\xbd\xa0 \xff") / label, installed(label).executable)
    shim = script(tmp_path / "shim", f'exec {shlex.quote(path)} "$@"')

    assert path == Runtimes({label: path}, environ).find(label).executable
    assert path == Runtimes({label: shim}, environ).find(label).executable


def test_unversioned_name_on_path_counts_when_it_is_the_version(python: str, environ: dict[str, str]) -> None:
    """Some installations only have ``python3`` or ``python``."""
    script(Path(environ["PATH"]) / "python", f'exec {python} "$@"')
    found = Runtimes(environ=environ).find(HOST)

    assert ("PATH", python) == (found.source, found.executable)


def test_link_to_another_version_is_not_run(environ: dict[str, str], tmp_path: Path) -> None:
    """``python3 -> python3.5`` says enough by its name."""
    target = script(tmp_path / "python3.5", f"echo ran >> {tmp_path / 'ran'}")
    link(Path(environ["PATH"]) / "python3", target)

    with pytest.raises(RuntimeNotFoundError):
        Runtimes(environ=environ).find(NOWHERE)
    assert not (tmp_path / "ran").exists()


def test_unversioned_shim_is_not_run(environ: dict[str, str], tmp_path: Path) -> None:
    """A version manager's ``python`` means the selected version, and takes a tenth of a second to tell."""
    for name in ("python", "python3"):
        script(tmp_path / "shims" / name, f"echo ran >> {tmp_path / 'ran'}")
    environ["PATH"] = str(tmp_path / "shims")

    with pytest.raises(RuntimeNotFoundError):
        Runtimes(environ=environ).find(NOWHERE)
    assert not (tmp_path / "ran").exists()


def test_relative_folders_on_path_are_ignored(
    python: str, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the working directory must not become an interpreter."""
    script(tmp_path / "work" / "bin" / NOWHERE, f"echo ran >> {tmp_path / 'ran'}")
    monkeypatch.chdir(tmp_path / "work")
    environ["PATH"] = ".:bin:"

    with pytest.raises(RuntimeNotFoundError):
        Runtimes(environ=environ).find(NOWHERE)
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def pyenv(python: str, home: Path, environ: dict[str, str]) -> Path:
    """A pyenv with two releases, its shims first on PATH; a shim that is run leaves a file."""
    root = home / ".pyenv"
    for patch in ("1", "2"):
        link(root / "versions" / f"{HOST.removeprefix('python')}.{patch}" / "bin" / HOST, python)
    script(root / "shims" / HOST, f"echo ran >> {root / 'ran'}; exit 127")
    environ["PATH"] = f"{root / 'shims'}:{environ['PATH']}"
    return root


@pytest.mark.parametrize("selected_by", ["PYENV_VERSION", ".python-version", "version"])
def test_pyenv_shim_stands_for_the_selected_version(
    selected_by: str, pyenv: Path, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its variable, its file in the working directory or above, its global file; the shim's two shells are spared."""
    name = f"{HOST.removeprefix('python')}.1"
    (tmp_path / "work" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "below")
    if selected_by == "PYENV_VERSION":
        environ["PYENV_VERSION"] = f"no-such-version:{name}"
    else:
        folder = tmp_path / "work" if selected_by == ".python-version" else pyenv
        (folder / selected_by).write_text(f"# mine\nsystem\n{name}  # for work\n", encoding="utf-8")

    found = Runtimes(environ=environ).find(HOST)
    assert ("PATH", str(pyenv / "versions" / name / "bin" / HOST)) == (found.source, found.executable)
    assert not (pyenv / "ran").exists()


def test_pyenv_prefix_selects_the_newest_release(pyenv: Path, environ: dict[str, str]) -> None:
    """``3.9`` in a version file means the newest 3.9 that is installed, and ``3`` the newest of all."""
    version = HOST.removeprefix("python")
    environ["PYENV_VERSION"] = version
    found = Runtimes(environ=environ).find(HOST)
    assert ("PATH", str(pyenv / "versions" / f"{version}.2" / "bin" / HOST)) == (found.source, found.executable)

    (pyenv / "versions" / "3.99.1").mkdir()
    environ["PYENV_VERSION"] = "3"
    assert "pyenv" == Runtimes(environ=environ).find(HOST).source


def test_pyenv_shim_of_an_unselected_version_is_passed_over(pyenv: Path, environ: dict[str, str]) -> None:
    """Then the newest installed release is found as pyenv's."""
    (pyenv / "version").write_text("system\n", encoding="utf-8")
    found = Runtimes(environ=environ).find(HOST)

    assert "pyenv" == found.source
    assert found.executable.endswith(f".2/bin/{HOST}")
    assert not (pyenv / "ran").exists()


def test_version_file_cannot_lead_out_of_pyenv(
    pyenv: Path, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes with whatever folder the user is in (pyenv itself had this hole: CVE-2022-35861)."""
    script(tmp_path / "evil" / "bin" / HOST, f"echo ran >> {tmp_path / 'evil' / 'ran'}")
    (tmp_path / ".python-version").write_text("../../../evil\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    assert "pyenv" == Runtimes(environ=environ).find(HOST).source
    assert not (tmp_path / "evil" / "ran").exists()


@pytest.fixture(params=["links", "copies"])
def environment(request: pytest.FixtureRequest, tmp_path: Path, python: str) -> Path:
    """A virtual environment of the interpreter that runs the tests."""
    folder = tmp_path / "environment"
    venv.EnvBuilder(symlinks=request.param == "links").create(folder)
    return folder


def _prefix(executable: str) -> str:
    return subprocess.check_output([executable, "-E", "-c", "import sys; print(sys.prefix)"], text=True).strip()


def test_found_virtual_environment_stands_for_its_interpreter(environment: Path, environ: dict[str, str]) -> None:
    """An environment that happens to be active belongs to another project: its packages are not a function's."""
    environ["PATH"] = str(environment / "bin")
    found = Runtimes(environ=environ).find(HOST)

    assert "PATH" == found.source
    assert str(environment) != _prefix(found.executable)


def test_named_virtual_environment_is_used_with_its_packages(environment: Path, environ: dict[str, str]) -> None:
    """Whoever names it wants what is installed in it."""
    executable = str(environment / "bin" / "python")
    found = Runtimes({HOST: executable}, environ).find(HOST)

    assert executable == found.executable
    assert str(environment) == _prefix(found.executable)


def test_engines_own_environment_is_never_used(
    environment: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's site-packages are not visible in a child, not even when sys.executable is named."""
    monkeypatch.setattr(sys, "prefix", str(environment))
    monkeypatch.setattr(sys, "base_prefix", "/elsewhere")
    found = Runtimes({HOST: str(environment / "bin" / "python")}, environ).find(HOST)

    assert "caller" == found.source
    assert str(environment) != _prefix(found.executable)


def test_environment_that_only_knows_its_home_stands_for_its_interpreter(
    python: str, environment: Path, environ: dict[str, str]
) -> None:
    """So it was before 3.11. There, ``python`` may be another version, or be missing: the full name comes first."""
    (environment / "pyvenv.cfg").write_text(f"home = {os.path.dirname(python)}\n", encoding="utf-8")
    environ["PATH"] = str(environment / "bin")

    found = Runtimes(environ=environ).find(HOST)
    assert "PATH" == found.source
    assert os.path.realpath(python) == os.path.realpath(found.executable)
    assert str(environment) != _prefix(found.executable)


def test_virtual_environment_without_its_interpreter_is_passed_over(environment: Path, environ: dict[str, str]) -> None:
    """It may still start, but it has no standard library to rely on."""
    (environment / "pyvenv.cfg").write_text("home = /no/such/folder\n", encoding="utf-8")
    environ["PATH"] = str(environment / "bin")

    assert "PATH" != Runtimes(environ=environ).find(HOST).source


def test_old_virtualenv_stands_for_its_interpreter(tmp_path: Path, environ: dict[str, str]) -> None:
    """virtualenv before 20, the one of 2.7's days, has no pyvenv.cfg but a file with the original prefix."""
    base = installed("python2.7").executable
    link(Path(environ["PATH"]) / "python2.7", base)
    library = tmp_path / "lib" / "python2.7"
    library.mkdir(parents=True)
    (library / "orig-prefix.txt").write_text(os.path.dirname(os.path.dirname(base)), encoding="utf-8")

    found = Runtimes(environ=environ).find("python2.7")
    assert ("PATH", base) == (found.source, found.executable)


@pytest.fixture
def counted(python: str, environ: dict[str, str], tmp_path: Path) -> Path:
    """On PATH, an interpreter that adds a line to a file each time it is started by that name."""
    script(Path(environ["PATH"]) / HOST, f'echo ran >> {tmp_path / "runs"}; exec {python} "$@"')
    return tmp_path / "runs"


def test_interpreter_is_looked_for_once(counted: Path, environ: dict[str, str]) -> None:
    """Eight threads that ask at the same time share one search."""
    runtimes = Runtimes(environ=environ)
    barrier = threading.Barrier(8)
    found = []

    def ask() -> None:
        barrier.wait()
        found.append(runtimes.find(HOST))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 8 == len(found)
    assert 1 == len(set(found))
    assert ["ran"] == counted.read_text(encoding="utf-8").splitlines()


def test_only_the_version_asked_for_is_looked_for(counted: Path, environ: dict[str, str]) -> None:
    """Nothing runs at construction, and nothing of another version's name."""
    with pytest.raises(RuntimeNotFoundError):
        Runtimes(environ=environ).find(NOWHERE)

    assert not counted.exists()


def test_interpreter_that_was_installed_meanwhile_is_found(environ: dict[str, str]) -> None:
    """A failure is not remembered."""
    runtimes = Runtimes(environ=environ)
    with pytest.raises(RuntimeNotFoundError):
        runtimes.find(NOWHERE)
    script(Path(environ["PATH"]) / NOWHERE, "echo \"<fgengine>((3, 29, 1), 'cpython', '')</fgengine>\"")

    assert "PATH" == runtimes.find(NOWHERE).source


def test_host_that_ignores_the_end_of_its_children_finds_interpreters(python: str, environ: dict[str, str]) -> None:
    """With SIGCHLD ignored the kernel throws exit statuses away: the answer must do."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert python == Runtimes({HOST: python}, environ).find(HOST).executable
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_installed_lists_each_version_once_oldest_first(environ: dict[str, str]) -> None:
    """Every version that is found by itself, those that were given included; what is missing is not an error."""
    labels = [HOST, "python2.7", "python3.9"]
    for label in labels:
        link(Path(environ["PATH"]) / label, installed(label).executable)
    newer, newest = (
        script(Path(environ["PATH"]) / f"new{minor}", f"echo \"<fgengine>((3, {minor}, 1), 'cpython', '')</fgengine>\"")
        for minor in (31, 32)
    )
    given = {NOWHERE: "/no/such/python", "python3.32": newest, "python3.31": newer}
    listed = Runtimes(given, environ).installed()

    assert ["python2.7", "python3.9", HOST] == [each.runtime for each in listed if each.source == "PATH"]
    assert ["python3.31", "python3.32"] == [each.runtime for each in listed if each.source == "caller"]
    assert sorted({each.version for each in listed}) == [each.version for each in listed]


def test_missing_runtime_tells_every_place_and_what_to_do(environ: dict[str, str]) -> None:
    """One line for each place that was looked at, then the ways to get one."""
    with pytest.raises(RuntimeNotFoundError) as caught:
        Runtimes(environ=environ).find(NOWHERE)

    names = [line.partition(": ")[0] for line in caught.value.tried]
    assert ["PATH", "pyenv", "uv", "asdf", "mise", "conda", "/usr/local/bin", "/usr/bin"] == names
    for way in (
        "pyenv install 3.29",
        "uv python install 3.29",
        "FGENGINE_PYTHON3_29=",
        'Engine(runtimes={"python3.29":',
    ):
        assert way in caught.value.advice


@pytest.mark.parametrize("label", ["python2.7", "python3.6"])
def test_uv_is_not_advised_for_what_it_does_not_have(label: str, environ: dict[str, str]) -> None:
    """It offers 3.8 and newer; pyenv builds the last release of each."""
    with pytest.raises(RuntimeNotFoundError) as caught:
        Runtimes({label: "/no/such/python"}, environ).find(label)

    assert "uv" not in caught.value.advice
    assert re.search(rf"pyenv install {label.removeprefix('python')}\.\d+", caught.value.advice)
