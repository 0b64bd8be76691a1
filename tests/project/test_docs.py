"""What the documents say of the repository is so: paths, names of modules, the drawing of the house, the glossary."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from support.house import FLOORS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "factory" / "clip_factory"
DOCS = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "datasets/README.md", "automation/README.md")),
        *(ROOT / "docs").glob("*.md"),
    ]
)
TOPS = ("factory", "automation", "tests", "benchmarks", "docs", "scripts", "datasets", r"\.github", r"\.ci")
PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(TOPS)})/[\w./-]*\w")
PLACEHOLDER = re.compile(r"(?:^|/)[A-Z]{{2,}}(?:/|$)".replace("{{", "{").replace("}}", "}"))
DOTTED = re.compile(r"`(clip_factory(?:_demo)?(?:\.\w+)+)")
EXAMPLES = {".github/workflows/models.yml", "datasets/forklift/scenario.yaml"}
"""Paths in a repository of the reader's own."""
GLOSSARY = ROOT / "docs" / "glossary.md"


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def house() -> str:
    """The drawing of the rooms in the README."""
    return re.findall(r"```\n(.*?)```", text(ROOT / "README.md").split("## The house")[1], re.DOTALL)[0]


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_paths_of_the_repository_exist(document: Path) -> None:
    paths = {path for path in PATH.findall(text(document)) if not PLACEHOLDER.search(path)} - EXAMPLES

    assert {path for path in paths if not (ROOT / path).exists()} == set()


def test_the_check_of_paths_finds_one_that_is_gone() -> None:
    found = PATH.findall(
        "edit `factory/scenario.py`, see tests/test_rooms.py; https://x/docs/y and datasets/NAME/a.csv"
    )

    assert found == ["factory/scenario.py", "tests/test_rooms.py", "datasets/NAME/a.csv"]
    assert [path for path in found if PLACEHOLDER.search(path)] == ["datasets/NAME/a.csv"]


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_of_the_package_can_be_imported(document: Path) -> None:
    for name in sorted(set(DOTTED.findall(text(document)))):
        groups = ("encoders", "label_sources", "refinements", "executors", "exporters", "registries")
        if name.split(".")[1] in groups and name.count(".") == 1:
            continue  # a room, or a group of entry points of that name
        parts = name.split(".")
        module = importlib.import_module(".".join(parts[:2]))
        for deep, part in enumerate(parts[2:], 3):
            if not hasattr(module, part):
                importlib.import_module(".".join(parts[:deep]))
            module = getattr(module, part)


def test_the_house_is_drawn_as_it_stands() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("__")}
    modules = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}

    assert set(re.findall(r"^  (\w+)/", house(), re.MULTILINE)) == folders
    assert set(re.findall(r"\b(\w+\.py)\b", house())) == modules


def test_imports_in_the_drawing_and_in_the_test_of_rooms_know_the_same_rooms() -> None:
    rooms = {name for floor in FLOORS for name in floor} - {"__main__"}
    drawn = {name.removesuffix(".py") for name in re.findall(r"\b(\w+(?:/|\.py))(?=\s|$)", house())}

    assert rooms <= {name.strip("/") for name in drawn}


def terms() -> str:
    """All that stands in the first column of a table of the glossary."""
    return "\n".join(re.findall(r"^\| (.*?) \|", text(GLOSSARY), re.MULTILINE))


def test_the_glossary_is_linked() -> None:
    assert "(docs/glossary.md)" in text(ROOT / "README.md")
    assert "(docs/glossary.md)" in text(ROOT / "CONTRIBUTING.md")


def test_the_glossary_has_what_a_reader_of_files_meets() -> None:
    from clip_factory.gate.verdict import State
    from clip_factory.labels import SCHEMA
    from clip_factory.pipeline import STAGE_NAMES
    from clip_factory.report.formatting import CLAUSES
    from clip_factory.scenario import Scenario

    words = [*SCHEMA.names, *STAGE_NAMES, *CLAUSES, *get_args(State), *Scenario.model_fields]

    assert [word for word in words if f"`{word}`" not in terms()] == []


def test_no_table_of_the_glossary_has_a_word_twice() -> None:
    for section in text(GLOSSARY).split("\n## ")[1:]:
        columns = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
        words = [code or bold for column in columns for code, bold in re.findall(r"`([^`]+)`|\*\*([^*]+)\*\*", column)]
        assert len(words) == len(set(words)), section.splitlines()[0]


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="no checkout")
@pytest.mark.parametrize(
    "made", ["demo/images/img_0001.jpg", "runs/ball/latest", "registry/index.json", "keys/private.pem"]
)
def test_git_ignores_what_the_readme_makes(made: str) -> None:
    assert subprocess.run(["git", "check-ignore", "-q", made], cwd=ROOT).returncode == 0
