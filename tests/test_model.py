"""Descriptions check themselves: what is accepted, in which form it is kept, and what each refusal says."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import errors
from engine.errors import EngineError, InvalidFunctionError, IsolationUnavailableError, RuntimeNotFoundError
from engine.model import MAX_MEMORY_MB, MAX_SECONDS, MIN_OPEN_FILES, Credentials, Function, Status, normal_runtime

ROOT = Path(__file__).resolve().parent.parent

Maker = Callable[..., Function]


@pytest.fixture
def described(tmp_path: Path) -> Maker:
    """Make a Function of which only the named fields differ from one that is right."""

    def make(**given: Any) -> Function:
        return Function(**{"code": tmp_path, "handler": "index.handler", **given})

    return make


def test_function_has_the_defaults_of_the_platform(described: Maker, tmp_path: Path) -> None:
    """Memory, deadlines and limits are its documented ones; python3.6 is what its guide recommends."""
    expected = {
        "code": str(tmp_path),
        "handler": "index.handler",
        "runtime": "python3.6",
        "name": "function",
        "package": "default",
        "version": "latest",
        "alias": "",
        "project_id": "",
        "memory_mb": 128,
        "timeout_s": 3.0,
        "initializer": None,
        "initializer_timeout_s": 3.0,
        "load_timeout_s": 90.0,
        "user_data": {},
        "dependencies": (),
        "credentials": Credentials(),
        "main_thread": False,
        "max_processes": 1024,
        "max_open_files": 2048,
        "tmp_mb": 512,
        "address_space_mb": None,
        "start_method": None,
        "preload": (),
        "isolation": None,
        "network": False,
    }
    function = described()
    assert expected == {each.name: getattr(function, each.name) for each in dataclasses.fields(function)}


def test_function_keeps_absolute_paths(described: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host may change its working directory after it described a function."""
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path)
    function = described(code="code", dependencies=[Path("code")])

    assert str(tmp_path / "code") == function.code
    assert (str(tmp_path / "code"),) == function.dependencies


def test_function_keeps_a_copy_of_user_data(described: Maker) -> None:
    """Changing the mapping afterwards does not change the description."""
    user_data = {"KEY": "1"}
    function = described(user_data=user_data)
    user_data["KEY"] = "2"

    assert {"KEY": "1"} == function.user_data


@pytest.mark.parametrize(
    ("given", "expected"),
    [("python3", "python3.6"), *((label, label) for label in ("python2.7", "python3.6", "python3.10", "python3.99"))],
)
def test_runtime_label_becomes_full(given: str, expected: str) -> None:
    """Bare python3 means 3.6; every other label names its version already."""
    assert expected == normal_runtime(given)


@pytest.mark.parametrize(
    "label",
    [
        "python",
        "python2",
        "python2.6",
        "python3.5",
        "python3.06",
        "python4.0",
        "Python3.9",
        "python3.9\n",
        "",
        None,
        3.9,
    ],
)
def test_runtime_that_names_no_python_is_refused(label: Any) -> None:
    """The refusal has the field and the value."""
    with pytest.raises(InvalidFunctionError) as caught:
        normal_runtime(label)

    assert ("runtime", label) == (caught.value.field, caught.value.value)


@pytest.mark.parametrize(
    "entry", ["index.handler", "src/index.handler", "src.index.handler", "a/b.c.d", "x" * 126 + ".h"]
)
def test_handler_with_a_file_and_a_function_is_accepted(described: Maker, entry: str) -> None:
    """Folders are told by slashes or dots, up to 128 characters in all."""
    assert entry == described(handler=entry, initializer=entry).handler


@pytest.mark.parametrize("field", ["handler", "initializer"])
@pytest.mark.parametrize(
    "entry",
    [
        "",
        "handler",
        ".handler",
        "index.",
        "/index.handler",
        "src/.handler",
        "src//index.handler",
        "src..index.handler",
        "../index.handler",
        "..index.handler",
        " .handler",
        "x" * 127 + ".h",
        "index\0.handler",
        "index.\ud800",
        b"index.handler",
        7,
    ],
)
def test_handler_that_can_mean_no_file_is_refused(described: Maker, field: str, entry: Any) -> None:
    """Before a process exists, with the field and the value."""
    with pytest.raises(InvalidFunctionError) as caught:
        described(**{field: entry})

    assert (field, entry) == (caught.value.field, caught.value.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", "no/such/folder"),
        ("code", ""),
        ("code", "a\0b"),
        ("code", b"/tmp"),
        ("code", None),
        ("dependencies", None),
        ("dependencies", "/tmp"),
        ("dependencies", {"/tmp"}),
        ("memory_mb", 0),
        ("memory_mb", -1),
        ("memory_mb", 128.0),
        ("memory_mb", True),
        ("memory_mb", "128"),
        ("memory_mb", MAX_MEMORY_MB + 1),
        *(
            (field, value)
            for field in ("max_processes", "max_open_files", "tmp_mb")
            for value in (0, None, True, 2**40)
        ),
        ("max_open_files", MIN_OPEN_FILES - 1),
        ("address_space_mb", 0),
        ("address_space_mb", "64"),
        *(
            (field, value)
            for field in ("timeout_s", "initializer_timeout_s", "load_timeout_s")
            for value in (0, -1, True, "3", None, float("inf"), MAX_SECONDS + 1)
        ),
        *(
            (field, value)
            for field in ("name", "package", "version", "alias", "project_id")
            for value in (None, 1, b"x", "a\0b", "\ud800")
        ),
        ("user_data", None),
        ("user_data", ["KEY"]),
        ("main_thread", "no"),
    ],
)
def test_field_that_cannot_work_is_refused(described: Maker, field: str, value: Any) -> None:
    """The refusal carries the field and the value as given, and both are in its text."""
    with pytest.raises(InvalidFunctionError) as caught:
        described(**{field: value})

    assert (field, value) == (caught.value.field, caught.value.value)
    assert str(caught.value).startswith(f"{field}={value!r}: ")


@pytest.mark.parametrize(
    "item",
    [
        {"KEY": 1},
        {1: "secret"},
        {"": "secret"},
        {"A=B": "secret"},
        {"A\0": "secret"},
        {"KEY": "secret\0"},
        {"KEY": "secret\ud800"},
        {"RUNTIME_HANDLER": "secret"},
    ],
)
def test_user_data_that_cannot_work_is_refused_without_its_value(described: Maker, item: dict[Any, Any]) -> None:
    """People keep passwords in variables: the text has the name alone, the error has both."""
    with pytest.raises(InvalidFunctionError) as caught:
        described(user_data=item)

    assert ("user_data", item) == (caught.value.field, caught.value.value)
    assert repr(next(iter(item))) in str(caught.value)
    assert "secret" not in str(caught.value)


def test_not_a_number_is_no_deadline(described: Maker) -> None:
    """NaN compares false with everything, also with the limits."""
    with pytest.raises(InvalidFunctionError, match="timeout_s=nan"):
        described(timeout_s=float("nan"))


def test_missing_dependency_is_refused_by_its_path(described: Maker, tmp_path: Path) -> None:
    """Among many, the one that is missing is named."""
    with pytest.raises(InvalidFunctionError) as caught:
        described(dependencies=[tmp_path, tmp_path / "missing.zip"])

    assert ("dependencies", str(tmp_path / "missing.zip")) == (caught.value.field, caught.value.value)


@pytest.mark.parametrize("field", ["code", "dependencies"])
def test_path_that_is_no_text_is_refused(field: str, described: Maker, tmp_path: Path) -> None:
    """It exists, but the start frame of an instance is JSON and cannot carry it."""
    path = os.path.join(tmp_path, os.fsdecode(b"\xff"))
    os.mkdir(path)
    with pytest.raises(InvalidFunctionError) as caught:
        described(**{field: path if field == "code" else [path]})

    assert (field, path) == (caught.value.field, caught.value.value)


def test_credentials_are_never_printed(described: Maker) -> None:
    """Neither alone nor as a field of a function."""
    names = [each.name for each in dataclasses.fields(Credentials)]
    credentials = Credentials(**{name: f"secret-{name}" for name in names})

    assert "secret" not in repr(credentials) + str(credentials) + repr(described(credentials=credentials))


@pytest.mark.parametrize("value", [b"secret", "secret\ud800"])
def test_refused_credential_is_not_printed(value: Any) -> None:
    """The value is a secret even where it cannot work."""
    with pytest.raises(InvalidFunctionError) as caught:
        Credentials(token=value)

    assert "credentials.token" == caught.value.field
    assert "secret" not in str(caught.value)


def test_credentials_of_another_kind_are_refused_without_printing_them(described: Maker) -> None:
    """A dictionary of keys is a likely mistake, and full of secrets."""
    with pytest.raises(InvalidFunctionError) as caught:
        described(credentials={"token": "secret"})

    assert "secret" not in str(caught.value)


def test_equal_functions_have_equal_hashes(described: Maker) -> None:
    """They share their instances, so they must meet in a dictionary; user_data tells them apart as well."""
    first, second = described(user_data={"A": "1"}, timeout_s=3), described(user_data={"A": "1"}, timeout_s=3.0)

    assert first == second
    assert hash(first) == hash(second)
    assert first != described(user_data={"A": "2"})
    assert first != described(user_data={"A": "1"}, main_thread=True)


def test_function_is_equal_after_a_copy_and_a_pickle(described: Maker) -> None:
    """It travels to other processes, where string hashes are salted differently."""
    function = described(user_data={"A": "1"})
    script = (
        "import pickle, sys; from engine.model import Function; here = pickle.load(sys.stdin.buffer); "
        "made = Function(code=here.code, handler=here.handler, user_data={'A': '1'}); "
        "print(here == made, hash(here) == hash(made))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps(function),
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    ).stdout

    assert b"True True\n" == told
    assert function == copy.deepcopy(function)
    assert described(user_data={"A": "1"}, timeout_s=9) == dataclasses.replace(function, timeout_s=9)


def test_function_cannot_be_changed(described: Maker) -> None:
    """A description that changed would no longer be that of its instances."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        described().timeout_s = 9  # type: ignore[misc]  # what is tested


@pytest.mark.parametrize("status", list(Status))
def test_status_is_its_value_in_every_form(status: Status) -> None:
    """str(), format() and == give the same text on every Python version."""
    assert [status.value] * 2 == [str(status), f"{status}"]
    assert status.name.lower() == status.value
    assert status.value == status


def _tree(kind: type[EngineError]) -> list[type[EngineError]]:
    return [kind, *(leaf for each in kind.__subclasses__() for leaf in _tree(each))]


@pytest.mark.parametrize("kind", [kind for kind in _tree(EngineError) if kind.__module__ == errors.__name__])
def test_error_survives_a_pickle(kind: type[EngineError]) -> None:
    """Errors cross processes in pools and test runners; type, text and attributes stay."""
    given: dict[type[EngineError], tuple[Any, ...]] = {
        InvalidFunctionError: ("handler", "x", "is wrong"),
        RuntimeNotFoundError: ("python2.7", ["PATH: nothing"], "install it"),
        IsolationUnavailableError: ("user namespaces", "sysctl"),
    }
    error = kind(*given.get(kind, ("text",)))
    again = pickle.loads(pickle.dumps(error))

    assert kind is type(again)
    assert str(error) == str(again)
    assert vars(error) == vars(again)


@pytest.mark.parametrize("kind", [kind for kind in _tree(EngineError) if kind.__module__ == errors.__name__])
def test_every_error_is_in_the_map(kind: type[EngineError]) -> None:
    """The docstring of engine.errors shows the tree, one line each, indented by its depth."""
    depth = kind.__mro__.index(EngineError)
    (line,) = [line for line in (errors.__doc__ or "").splitlines() if kind.__name__ in line.split()]

    assert 4 * depth == line.index(kind.__name__)


def test_missing_runtime_says_where_it_was_looked_for() -> None:
    """One line for each place, and the advice at the end."""
    error = RuntimeNotFoundError("python2.7", ["PATH: nothing", "pyenv: nothing"], "install it")

    expected = "no interpreter found for python2.7; looked at:\n  - PATH: nothing\n  - pyenv: nothing\ninstall it"
    assert expected == str(error)
