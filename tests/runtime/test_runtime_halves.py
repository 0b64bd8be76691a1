"""The two halves of the runtime: one predicts, one finds and verifies releases, and neither needs all of the other."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clip_factory import runtime

ROOT = Path(runtime.__file__).parent
PACKAGE = "clip_factory.runtime"
COMMON = {"atomic", "runtime_errors", "safe_text", "suggestions"}
"""What both halves stand on; these modules import nothing of either."""
FILES = sorted(ROOT.rglob("*.py"))
AT_ONCE = {
    "common": {"common"},
    "releases": {"common", "releases"},
    "model": {"common", "model"},
    "top": {"common"},
}
"""What a file of each half may import when it is imported itself."""
LATER: dict[str, set[str]] = {"common": set(), "releases": set(), "model": {"releases"}, "top": {"model"}}
"""What its functions may import beside that."""


def imports(path: Path, *, lazy: bool) -> Iterator[str]:
    """The modules that a file imports when it is imported itself, or (`lazy`) in its functions as well."""

    def walk(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, (ast.FunctionDef, ast.Lambda)) and not lazy:
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                module = str(child.module)
                packages = (PACKAGE, f"{PACKAGE}.releases")
                yield from (f"{module}.{alias.name}" if module in packages else module for alias in child.names)
            yield from walk(child)

    return walk(ast.parse(path.read_text(encoding="utf-8")))


def half(path: Path) -> str:
    if path.parent.name == "releases":
        return "releases"
    return "common" if path.stem in COMMON else "top" if path.stem == "__init__" else "model"


def half_of(module: str) -> str:
    rest = module.removeprefix(f"{PACKAGE}.").split(".")
    return "releases" if rest[0] == "releases" else "common" if rest[0] in COMMON else "model"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_which_half_imports_which(path: Path) -> None:
    own = {name for name in imports(path, lazy=True) if name.startswith("clip_factory")}
    assert all(name.startswith(f"{PACKAGE}.") for name in own), "nothing else of the package"
    at_once = {half_of(name) for name in imports(path, lazy=False) if name in own}
    ever = {half_of(name) for name in own}
    assert at_once <= AT_ONCE[half(path)]
    assert ever <= AT_ONCE[half(path)] | LATER[half(path)]


def test_no_cycles() -> None:
    """Not even through imports in functions."""
    graph = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): {
            name.removeprefix(f"{PACKAGE}.") for name in imports(path, lazy=True) if name.startswith(f"{PACKAGE}.")
        }
        for path in FILES
        if path.stem != "__init__"
    }
    assert len(graph) > 20
    assert set().union(*graph.values()) <= graph.keys()
    while graph:
        leaves = {name for name, needs in graph.items() if not needs & graph.keys()}
        assert leaves, f"a cycle among {sorted(graph)}"
        for name in leaves:
            del graph[name]


@pytest.mark.parametrize("path", sorted((ROOT / "releases").glob("*.py")), ids=lambda path: path.stem)
def test_releases_needs_the_standard_library_alone(path: Path) -> None:
    """What else it can use (fsspec, cryptography, platformdirs) is imported by those who need it."""
    tops = {name.split(".")[0] for name in imports(path, lazy=False)}
    assert tops <= {"clip_factory", *sys.stdlib_module_names}
