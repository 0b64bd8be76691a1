"""The house: which room may import which, held by reading the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from support.house import FLOORS, imported, imports

ROOT = Path(__file__).parents[2] / "factory" / "clip_factory"

COMMANDS_USE = {"api", "cli", "errors", "progress", "runtime", "terminal"}
"""What commands import: they parse, call the API and print."""
AND_SO_DO = {
    "completion": {"run_folder"},  # Tab must not wait for anything else
    "diff_command": {"evaluation", "registry"},
    "evaluate_commands": {"evaluation"},
    "evaluation_output": {"evaluation"},
    "prompts_commands": {"zeroshot"},  # a room of its own, for folders without a run
    "search_command": {"zeroshot"},
    "zeroshot_command": {"zeroshot"},
    "model_commands": {"registry"},  # a room with functions for its verbs: `factory models ...`
    "registry_output": {"gate", "registry"},
}

KEPT_IN = {
    "lightning": {"students"},
    "open_clip": {"encoders"},
    "transformers": {"label_sources", "encoders"},
    "onnxruntime": {"runtime", "exporters"},
}
"""Packages that belong to certain rooms alone."""


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def without_types(path: Path) -> set[str]:
    """The imports that a program does, not those that only name types."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return imported(tree)


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


def test_every_room_has_a_floor() -> None:
    known = [name for names in FLOORS for name in names]
    assert sorted(known) == sorted({room(path) for path in FILES})


@pytest.mark.parametrize("path", sorted((ROOT / "cli").glob("*.py")), ids=lambda path: path.stem)
def test_commands_call_the_api_and_nothing_else(path: Path) -> None:
    allowed = COMMANDS_USE | AND_SO_DO.get(path.stem, set())
    used = {name.split(".")[1] for name in without_types(path) if name.startswith("clip_factory.")}
    assert used - {"__version__"} <= allowed


def test_nothing_of_our_own_is_imported_by_a_string() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__"))
    ]
    assert found == []
