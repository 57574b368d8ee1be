"""Where code comes from: folders, archives and single files, with dependencies behind them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine import Engine, Function, InvalidFunctionError

if TYPE_CHECKING:
    from tests.conftest import FunctionMaker

INDEX = "import helper\n\n\ndef handler(event, context):\n    return helper.NAME\n"


@pytest.mark.parametrize("kind", ["folder", "zip", "py"])
def test_code_is_a_folder_an_archive_or_one_file(tmp_path: Path, runtime: str, kind: str) -> None:
    """All three run the same."""
    source = "def handler(event, context):\n    assert event != 1\n    return __file__.split('/')[-1]\n"
    code = {"folder": tmp_path, "zip": tmp_path / "code.zip", "py": tmp_path / "index.py"}[kind]
    if kind == "zip":
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("index.py", source)
            archive.writestr("data/table.csv", "a,b\n")
    else:
        (tmp_path / "index.py").write_text(source, encoding="utf-8")
    with Engine() as engine:
        function = Function(code=code, handler="index.handler", runtime=runtime)
        result, failed = engine.invoke(function, None), engine.invoke(function, 1)

    assert "index.py" == result.value
    assert failed.error is not None
    assert ['File "./index.py", line 2, in handler', "    assert event != 1"] == failed.error["stackTrace"]


def test_archive_is_unpacked_with_its_folders_and_data(tmp_path: Path, runtime: str) -> None:
    """Modules in folders and files beside them are where open() finds them."""
    source = """import os
from lib.deep import helper


def handler(event, context):
    with open(os.path.join(os.path.dirname(__file__), "..", "data", "table.csv")) as table:
        return [helper.NAME, table.read()]
"""
    with zipfile.ZipFile(tmp_path / "code.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("src/index.py", source)
        archive.writestr("lib/__init__.py", "")
        archive.writestr("lib/deep/__init__.py", "")
        archive.writestr("lib/deep/helper.py", "NAME = 'deep'\n")
        archive.writestr("data/table.csv", "a,b\n")
    with Engine() as engine:
        function = Function(code=tmp_path / "code.zip", handler="src/index.handler", runtime=runtime)

        assert ["deep", "a,b\n"] == engine.invoke(function, None).value


@pytest.mark.parametrize("name", ["../outside.py", "/outside.py", "a/../../outside.py"])
def test_archive_that_climbs_out_is_refused(engine: Engine, tmp_path: Path, runtime: str, name: str) -> None:
    """Nothing is written outside, and the error names the field."""
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("index.py", "def handler(event, context):\n    return 1\n")
        archive.writestr(name, "")
    function = Function(code=tmp_path / "code.zip", handler="index.handler", runtime=runtime)

    with pytest.raises(InvalidFunctionError, match="code") as caught:
        engine.invoke(function, None)

    assert "code" == caught.value.field
    assert ["code.zip"] == os.listdir(tmp_path)


def test_archive_with_a_link_that_leads_out_is_refused(engine: Engine, tmp_path: Path, runtime: str) -> None:
    """A link is not a way out either."""
    link = zipfile.ZipInfo("data")
    link.create_system = 3
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("index.py", "def handler(event, context):\n    return 1\n")
        archive.writestr(link, "/etc")

    with pytest.raises(InvalidFunctionError, match="code"):
        engine.invoke(Function(code=tmp_path / "code.zip", handler="index.handler", runtime=runtime), None)


@pytest.mark.parametrize("content", [b"", b"this is no archive", b"PK\x03\x04 cut off"])
def test_archive_that_is_none_is_refused(engine: Engine, tmp_path: Path, runtime: str, content: bytes) -> None:
    """A broken upload is a wrong description."""
    (tmp_path / "code.zip").write_bytes(content)

    with pytest.raises(InvalidFunctionError, match="code"):
        engine.invoke(Function(code=tmp_path / "code.zip", handler="index.handler", runtime=runtime), None)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_dependencies_are_importable(tmp_path: Path, runtime: str, kind: str) -> None:
    """Packages of a folder or an archive import like local ones."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "index.py").write_text(INDEX, encoding="utf-8")
    dependency = tmp_path / ("layer.zip" if kind == "zip" else "layer")
    if kind == "zip":
        with zipfile.ZipFile(dependency, "w") as archive:
            archive.writestr("helper/__init__.py", "NAME = 'layer'\n")
    else:
        (dependency / "helper").mkdir(parents=True)
        (dependency / "helper" / "__init__.py").write_text("NAME = 'layer'\n", encoding="utf-8")
    function = Function(code=tmp_path / "code", handler="index.handler", runtime=runtime, dependencies=[dependency])
    with Engine() as engine:
        result = engine.invoke(function, None)

    assert "layer" == result.value


def test_code_comes_before_dependencies_and_these_before_the_standard_library(
    engine: Engine, make_function: FunctionMaker, tmp_path: Path
) -> None:
    """In the order given: the function may bring another version of anything that is not loaded yet."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for module in ("helper", "second", "colorsys"):
            (tmp_path / name / f"{module}.py").write_text(f"NAME = '{name}'\n", encoding="utf-8")
    (tmp_path / "two" / "third.py").write_text("NAME = 'two'\n", encoding="utf-8")
    function = make_function(
        """
        import colorsys, helper, second, third

        def handler(event, context):
            return [helper.NAME, second.NAME, third.NAME, colorsys.NAME]
        """,
        files={"helper.py": "NAME = 'code'\n"},
        dependencies=[tmp_path / "one", tmp_path / "two"],
    )

    assert ["code", "one", "two", "one"] == engine.invoke(function, None).value
