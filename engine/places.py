"""Where on a machine an interpreter may be: the caller's PATH, version managers, conda, the system.

This module looks at names and permission bits alone and runs nothing, so that asking it costs microseconds.
Whether what lies there really is the Python that its name says is for engine.runtimes to find out.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_SHIMS: Final = "shims"
_CONDA_FOLDERS: Final = ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba")
_SELECTED_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*\Z")


@dataclass(frozen=True)
class Place:
    """One place that was looked at.

    Attributes:
        name: What people call it: ``PATH``, ``pyenv``, ``/usr/bin``.
        where: The folders that were looked into, for a message.
        executables: What is worth running there, best first.
    """

    name: str
    where: str
    executables: tuple[str, ...]


@dataclass(frozen=True)
class VirtualEnvironment:
    """A virtual environment, and where the interpreter that it was made from may be, best guess first."""

    root: str
    bases: tuple[str, ...]


def places(version: str, environ: Mapping[str, str]) -> Iterator[Place]:
    """Yield the places for ``"3.9"`` in the order of preference, each one looked at only when asked for."""
    home = environ.get("HOME") or os.path.expanduser("~")
    data = environ.get("XDG_DATA_HOME") or os.path.join(home, ".local", "share")
    pyenv = environ.get("PYENV_ROOT") or os.path.join(home, ".pyenv")
    uv = environ.get("UV_PYTHON_INSTALL_DIR") or os.path.join(data, "uv", "python")
    asdf = environ.get("ASDF_DATA_DIR") or os.path.join(home, ".asdf")
    mise = environ.get("MISE_DATA_DIR") or os.path.join(data, "mise")
    yield _on_path(version, environ, pyenv)
    yield _managed("pyenv", os.path.join(pyenv, "versions"), version)
    yield _managed("uv", uv, version, prefix="cpython-")
    yield _managed("asdf", os.path.join(asdf, "installs", "python"), version)
    yield _managed("mise", os.path.join(mise, "installs", "python"), version)
    yield _conda(version, environ, home)
    for folder in ("/usr/local/bin", "/usr/bin"):
        yield Place(folder, folder, _runnable([os.path.join(folder, f"python{version}")]))
    if version == f"{sys.version_info.major}.{sys.version_info.minor}" and sys.executable:
        # A Python that was unpacked somewhere and called by its path is in none of the places above.
        yield Place("this process", sys.executable, _runnable([sys.executable]))


def virtual_environment(executable: str, version: str) -> VirtualEnvironment | None:
    """Return the virtual environment that *executable*, a Python *version* such as ``"3.9"``, belongs to, or None.

    Read from its files: ``-S`` keeps sys.base_prefix from being set up to 3.13, and 2.7 has none.
    """
    root = os.path.dirname(os.path.dirname(executable))
    names = (f"python{version}", f"python{version[0]}", "python")
    keys = _pyvenv_keys(os.path.join(root, "pyvenv.cfg"))
    if keys is not None:
        # base-executable is virtualenv's word, executable the one of venv from 3.11 on; home is in all.
        named = [keys[key] for key in ("base-executable", "executable") if keys.get(key)]
        home = keys.get("home", "")
        return VirtualEnvironment(root, (*named, *(os.path.join(home, name) for name in names)))
    for prefix_file in _old_virtualenv_files(root):
        prefix = _first_line(prefix_file)
        if prefix is not None:
            return VirtualEnvironment(root, tuple(os.path.join(prefix, "bin", name) for name in names))
    return None


def _on_path(version: str, environ: Mapping[str, str], pyenv: str) -> Place:
    # Relative entries are left out: what is in the working directory must not become an interpreter.
    folders = [folder for folder in environ.get("PATH", "").split(os.pathsep) if os.path.isabs(folder)]
    exact: list[str] = []
    for folder in folders:
        if os.path.normpath(folder) == os.path.join(os.path.normpath(pyenv), _SHIMS):
            exact.extend(_behind_pyenv_shim(version, environ, pyenv))
        else:
            exact.append(os.path.join(folder, f"python{version}"))
    # A shim of an unversioned name costs a shell to tell that it means another version: left out.
    plain = [
        os.path.join(folder, name)
        for folder in folders
        if os.path.basename(os.path.normpath(folder)) != _SHIMS
        for name in (f"python{version[0]}", "python")
    ]
    found = (*_runnable(exact), *(path for path in _runnable(plain) if not _is_named_otherwise(path, version)))
    return Place("PATH", f"its {len(folders)} folders", found)


def _behind_pyenv_shim(version: str, environ: Mapping[str, str], pyenv: str) -> Iterator[str]:
    """Yield what pyenv's ``python3.9`` shim would start: the first selected version that has it.

    The shim itself is two bash scripts that take 60 ms to start Python and 120 ms to say that they cannot.
    """
    versions = os.path.join(pyenv, "versions")
    for selected in _pyenv_selection(environ, pyenv):
        name = selected.removeprefix("python-")
        # A version file comes with whatever folder the user is in: it may select, not lead elsewhere.
        if not _SELECTED_NAME.match(name):
            continue
        folders = [name] if os.path.isdir(os.path.join(versions, name)) else _versions_of(versions, name)[:1]
        for folder in folders:
            yield os.path.join(versions, folder, "bin", f"python{version}")


def _pyenv_selection(environ: Mapping[str, str], pyenv: str) -> list[str]:
    if environ.get("PYENV_VERSION"):
        return environ["PYENV_VERSION"].split(":")
    try:
        folder = os.getcwd()
    except OSError:  # the working directory was removed
        folder = "/"
    while True:
        text = _read(os.path.join(folder, ".python-version"))
        if text is not None or folder == os.path.dirname(folder):
            break
        folder = os.path.dirname(folder)
    text = text if text is not None else _read(os.path.join(pyenv, "version"))
    return [line.split("#")[0].strip() for line in (text or "").splitlines()]


def _managed(name: str, folder: str, version: str, prefix: str = "") -> Place:
    """A version manager's folder of installed versions, the newest release first."""
    paths = [os.path.join(folder, each, "bin", f"python{version}") for each in _versions_of(folder, version, prefix)]
    return Place(name, folder, _runnable(paths))


def _versions_of(folder: str, version: str, prefix: str = "") -> list[str]:
    belongs = re.compile(re.escape(prefix + version) + r"(?![0-9])")
    names = [name for name in _names_in(folder) if belongs.match(name)]

    def rank(name: str) -> tuple[bool, list[int]]:
        label = name.removeprefix(prefix).split("-")[0]
        # 3.13.0 before 3.13.1rc1, 3.13-dev and 3.13.0+freethreaded: a plain release is what people mean.
        return re.fullmatch(r"[0-9.]+", label) is not None, [int(digits) for digits in re.findall("[0-9]+", label)]

    return sorted(names, key=rank, reverse=True)


def _conda(version: str, environ: Mapping[str, str], home: str) -> Place:
    roots = [environ["CONDA_PREFIX"]] if environ.get("CONDA_PREFIX") else []
    roots += [os.path.join(home, name) for name in _CONDA_FOLDERS] + ["/opt/conda"]
    prefixes = []
    for root in roots:
        envs = os.path.join(root, "envs")
        prefixes += [root, *(os.path.join(envs, name) for name in sorted(_names_in(envs)))]
    prefixes += (_read(os.path.join(home, ".conda", "environments.txt")) or "").splitlines()
    paths = [os.path.join(prefix, "bin", f"python{version}") for prefix in prefixes if os.path.isabs(prefix)]
    return Place("conda", f"the environments below {home}", _runnable(paths))


def _pyvenv_keys(path: str) -> dict[str, str] | None:
    text = _read(path)
    if text is None:
        return None
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _old_virtualenv_files(root: str) -> list[str]:
    """Files in which virtualenv before 20, the one of 2.7's days, kept the prefix that it was made from."""
    lib = os.path.join(root, "lib")
    return [os.path.join(lib, name, "orig-prefix.txt") for name in _names_in(lib) if name.startswith("python")]


def _is_named_otherwise(path: str, version: str) -> bool:
    """Whether *path* is a link to an executable whose name tells another version: not worth a process."""
    named = re.match(r"python([0-9]+\.[0-9]+)", os.path.basename(os.path.realpath(path)))
    return named is not None and named[1] != version


def _runnable(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(path for path in dict.fromkeys(paths) if os.path.isfile(path) and os.access(path, os.X_OK))


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _first_line(path: str) -> str | None:
    lines = (_read(path) or "").splitlines()
    return lines[0].strip() if lines else None


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(65_536)
    except OSError:
        return None
