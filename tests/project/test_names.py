"""The words of the code: those of the field, one for a thing. As a program, prints what is left, by room."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "factory" / "clip_factory"
PLACES = (PACKAGE, ROOT / "factory" / "clip_factory_demo", ROOT / "automation", ROOT / "benchmarks", ROOT / "scripts")

IDIOMS = {
    "act": "event, answer",
    "books": "index, records",
    "bout": "joint evaluation",
    "contender": "candidate",
    "cut": "threshold",
    "desk": "requests",
    "fair": "random, unbiased",
    "found": "what it is: index, matches, table, path",
    "give": "return, answer",
    "gives": "return, answer",
    "golden": "gold",
    "judge": "evaluate",
    "judged": "evaluated",
    "look": "details, read",
    "proof": "certificate, evidence, requirement",
    "recut": "rethreshold",
    "rung": "precision",
    "rungs": "precisions",
    "said": "what it is: answers, probabilities, text",
    "ship": "export",
    "shipped": "exported",
    "spared": "frozen, kept",
    "take": "download, read",
    "takes": "downloads, reads",
    "tell": "report, print",
    "tells": "reports",
    "told": "what it is: message, rows",
    "took": "seconds",
    "trade": "exchange",
    "weigh": "evaluate, apply",
}
"""A part of a name that no name may have -> what to say in its place."""
TERMS = ("not_found", "trade_off", "look_alike", "look_up")
"""Terms of the field that hold one of these words."""
BRITISH = re.compile(
    r"licence|labell|colour|grey|centre|behaviour|neighbour|favour|honour|artefact|catalogue|modell|cancell|"
    r"(?:quant|normal|optim|initial|serial|organ|summar|recogn|real|util|minim|maxim|standard|random)is[ei](?!t)|analys[ei](?!s)"
)
BOUNDS = re.compile(r"^_?(?:LEAST|MOST|LONGEST|LARGEST|SMALLEST|FEWEST|SHORTEST)(?:_|$)")
"""Constants that are named MIN_ or MAX_ here."""
EXCEPTIONS: dict[str, set[str]] = {}


def files(*places: Path) -> list[Path]:
    return sorted(path for place in places for path in place.rglob("*.py"))


def names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of all that a file defines: classes, functions, arguments, variables, fields, import aliases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield 0, node.asname


def parts(name: str) -> set[str]:
    """`_RunFolder.readAll_now` in words of small letters."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    for term in TERMS:
        snake = snake.replace(term, "")
    return set(snake.split("_"))


def complaints(path: Path) -> list[str]:
    """What is wrong with the names in a file, a line each."""
    where = path.relative_to(ROOT).as_posix()
    named = [(0, path.stem), *names(ast.parse(path.read_text(encoding="utf-8")))]
    allowed = EXCEPTIONS.get(where, set())
    lines = []
    for line, name in named:
        lines += [f"{where}:{line}: {name}: say {IDIOMS[p]}" for p in sorted(parts(name) & IDIOMS.keys() - allowed)]
        if BRITISH.search(name.lower()):
            lines.append(f"{where}:{line}: {name}: American spelling")
        if BOUNDS.search(name):
            lines.append(f"{where}:{line}: {name}: MIN_ or MAX_")
    return lines


@pytest.mark.parametrize("path", files(*PLACES), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_are_the_words_of_the_field(path: Path) -> None:
    assert complaints(path) == []


def test_a_module_has_a_name_of_its_own() -> None:
    stems = Counter(path.stem for path in files(PACKAGE) if not path.stem.startswith("__"))

    assert {stem for stem, count in stems.items() if count > 1} == set()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("found = 1", "say what it is"),
        ("def look_at(): ...", "say details"),
        ("class Bout: ...", "say joint evaluation"),
        ("def f(golden): ...", "say gold"),
        ("from a import b as said", "say what it is"),
        ("self.rungs = 1", "say precisions"),
        ("licence = 1", "American"),
        ("def normalise(): ...", "American"),
        ("MOST_ROWS = 1", "MAX_"),
    ],
)
def test_the_check_itself(text: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_names.ROOT", tmp_path)
    file = tmp_path / "module.py"
    file.write_text(f"class NotFoundError: ...\ntrade_off = look_alikes = uptake = 0\n{text}\n")

    assert [complaint in line for line in complaints(file)] == [True]


def main() -> None:
    """Print every complaint, then how many there are in each room."""
    lines = [line for path in files(*PLACES, ROOT / "tests") for line in complaints(path)]
    rooms = Counter("/".join(line.split(":")[0].split("/")[:3]) for line in lines)
    print("\n".join([*lines, "", *(f"{count:5} {room}" for room, count in sorted(rooms.items()))]))  # noqa: T201


if __name__ == "__main__":
    main()
