"""What is wrong with a scenario, in words: file, line, key, value, remedy."""

from __future__ import annotations

import math
from typing import Any, get_args

from pydantic import ValidationError

from clip_factory.runtime.safe_text import without_secrets
from clip_factory.scenario.schema import Scenario


def explain(error: ValidationError, tree: Any, source: str) -> str:
    """One line for each thing that is wrong.

    Args:
        error: What pydantic found.
        tree: The parsed YAML, which knows its lines.
        source: Name of the file.
    """
    return "\n".join(_explain(problem, tree, source) for problem in _relevant(error.errors()))


def _relevant(problems: list[Any]) -> list[Any]:
    """Of the errors of a union's branches, those of the branch that the value was meant for."""
    kept = []
    for problem in problems:
        others = [p for p in problems if p is not problem and p["loc"][0] == problem["loc"][0]]
        superseded = {
            "literal_error": any(r["type"] not in _WRONG_BRANCH for r in others)
            and not isinstance(problem["input"], str),
            "tuple_type": any(r["type"] == "literal_error" for r in others),
            "int_type": any(r["type"] == "literal_error" for r in others),
            "int_parsing": any(r["type"] == "literal_error" for r in others),
            "too_short": any(len(r["loc"]) > len(problem["loc"]) for r in others),
            "model_type": isinstance(problem["input"], str) and any(r["type"] == "literal_error" for r in others),
        }
        if not superseded.get(problem["type"], False):
            kept.append(problem)
    return kept


_WRONG_BRANCH = ("tuple_type", "int_type", "int_parsing")
_WORDS = {
    "Tuple should have at least 1 item after validation, not 0": "needs at least one entry",
    "Tuple should have at least 2 items after validation, not 1": "needs two entries or more",
    "Tuple should have at least 2 items after validation, not 0": "needs two entries or more, or leave the key out",
    "Input should be a valid tuple": "must be a list",
    "String should have at least 1 character": "must not be empty",
    "Input should be a valid string": "must be text; put it in quotes",
}


def _explain(problem: Any, tree: Any, source: str) -> str:
    location = _without_branches(problem["loc"], tree)
    key = ".".join(map(str, location)) or "scenario"
    where = f"{source}:{_line(location, tree)}: {key}"
    kind, value = problem["type"], problem["input"]
    if kind == "missing" and isinstance(problem["loc"][-1], int):
        return f"{where}: has too few entries"
    if kind == "missing":
        return f"{where}: is required and missing"
    if kind == "extra_forbidden":
        return f"{where}: unknown key; known here: {', '.join(_known_keys(location[:-1]))}"
    message = _WORDS.get(
        problem["msg"], problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    )
    if kind == "model_type":
        message = f"must hold keys of its own: {', '.join(_known_keys(location))}"
        if location == ("target",):
            message = f"must be break-even, balanced, or hold one of {', '.join(_known_keys(location))}"
    if kind == "string_pattern_mismatch" and location == ("name",):
        message = "use small letters, digits and single dashes, such as `red-forklift`"
    if kind == "tuple_type" and location in (("positive",), ("negative",)):
        message += ", such as [forklift, forklift truck]"
    if kind == "too_short" and location == ("negative",):
        message += ", or leave the key out"
    if isinstance(value, float) and math.isnan(value):
        message = "must be a number"
    shown = "" if isinstance(value, dict) else f"{_short(value)}: "
    return f"{where}: {shown}{message}"


def _short(value: Any) -> str:
    value = without_secrets(value) if isinstance(value, str) else value
    text = repr(list(value)) if isinstance(value, (list, tuple)) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _without_branches(location: tuple[Any, ...], tree: Any) -> tuple[Any, ...]:
    """Drop pydantic's names of union branches and validators, which are no keys of the user's file."""
    kept: list[Any] = []
    for part in location:
        if isinstance(tree, dict) and (part in tree or not kept or part in _known_keys(tuple(kept))):
            kept, tree = [*kept, part], tree.get(part)
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            kept, tree = [*kept, part], tree[part]
    return tuple(kept)


def _known_keys(section: tuple[Any, ...]) -> list[str]:
    model: Any = Scenario
    for part in section:
        if isinstance(part, int):  # a list holds sections of one kind
            continue
        field = getattr(model, "model_fields", {}).get(part)
        model = next(iter(_models(field.annotation)), None) if field else None
    return list(getattr(model, "model_fields", {}))


def _models(annotation: Any) -> list[Any]:
    """The sections among the branches of a type, and among theirs."""
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [section for branch in get_args(annotation) for section in _models(branch)]


def _line(location: tuple[Any, ...], tree: Any) -> int:
    """1-based line of the innermost part of `location` that the file holds."""
    line = 0
    for part in location:
        try:
            marks: Any = tree.lc  # ruamel's lists and dicts know their lines
            line = (marks.item if isinstance(tree, list) else marks.key)(part)[0]
            tree = tree[part]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return line + 1
