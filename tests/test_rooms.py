"""The house: which room may import which, held by reading the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "factory" / "clip_factory"

FLOORS = (
    {"__main__"},
    {"cli"},
    {"demo", "doctor", "run_request"},
    {"pipeline"},
    {"registry", "review"},
    {"evaluation"},
    {"report"},
    {"gate"},
    {"export"},
    {"students"},
    {"label_sources"},
    {"encoders"},
    {"gold", "images", "readiness", "splits", "store"},
    {"scenario"},
    {"memory", "progress", "run_folder", "statistics"},
    {"errors", "terminal"},
    {"runtime"},
)
"""From the roof down; a room imports lower floors only. `run_request` may ask the pipeline nothing."""

KEPT_IN = {
    "lightning": {"students"},
    "open_clip": {"encoders", "scenario"},
    "transformers": set(),
    "onnxruntime": {"runtime", "export"},
}
"""Packages that belong to certain rooms alone."""


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py" or path.parent != ROOT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    here = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "clip_factory" and len(parts) > 1 and parts[1] in floor and parts[1] != here:
            assert floor[here] < floor[parts[1]], f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    for library, rooms in KEPT_IN.items():
        assert library not in tops or room(path) in rooms, f"{path} imports {library}"
