"""The order of the modules: imports point down only, and the two sides of the wire know nothing of each other."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LAYERS = (
    "errors model",
    "protocol lifecycle clock billing logring names payload platform result timeline verdict",
    "archives cgroups channel control faults folders memory places probe proc readiness scratch workspace",
    "isolation launch runtimes staging",
    "supervisor guard enforcement outcome zygotes janitor",
    "ahead blank instance",
    "pool invocation events starter upkeep",
    "fleet",
    "stream",
    "engine",
    "cli",
    "__init__ __main__",
)
"""Lowest first: the modules of engine/, and cli for all that is in it."""

LAYER = {name: number for number, names in enumerate(LAYERS) for name in names.split()}


def modules(package: str) -> dict[str, Path]:
    """Dotted name -> file of every module below *package*."""
    names = {}
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(path: Path) -> Iterator[str]:
    """Every name that *path* imports anywhere, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(module: str) -> set[str]:
    """The modules of engine/ that *module* imports: ``engine.model.Function`` is in ``engine.model``."""
    own = modules("engine")
    names = list(imports(own[module]))
    return {name if name in own else name.rpartition(".")[0] for name in names} & own.keys()


def layer_of(module: str) -> int:
    """The layer of a module of engine/; a KeyError means that a new one must be given its layer above."""
    return LAYER[[*module.split("."), "__init__"][1]]


@pytest.mark.parametrize("module", sorted(modules("engine")))
def test_engine_imports_point_down(module: str) -> None:
    """A module imports from its own layer or from lower ones, and every module has a layer."""
    own = layer_of(module)

    assert [] == [name for name in imported_modules(module) if layer_of(name) > own]


def test_engine_has_no_import_cycle() -> None:
    """Also within a layer somebody comes first."""
    graph = {module: imported_modules(module) for module in modules("engine")}

    assert len(graph) == len(list(TopologicalSorter(graph).static_order()))


@pytest.mark.parametrize("module", sorted(modules("engine")))
def test_engine_never_imports_sandbox(module: str) -> None:
    """The wire is the contract: what runs in the child is not shared with the host by import."""
    assert "sandbox" not in {name.split(".")[0] for name in imports(modules("engine")[module])}


@pytest.mark.parametrize("module", sorted(modules("sandbox")))
def test_sandbox_imports_itself_and_the_standard_library_alone(module: str) -> None:
    """A child has nothing but its interpreter; what only an older one has is standard library too."""
    of_the_past = {"__builtin__", "thread", "cPickle", "StringIO", "imp"}
    allowed = sys.stdlib_module_names | of_the_past | {"sandbox"}

    assert [] == [name for name in imports(modules("sandbox")[module]) if name.split(".")[0] not in allowed]
