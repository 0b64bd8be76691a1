"""The workflow files and actions of the project, read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONS = sorted((ROOT / ".github" / "actions").glob("*/action.yml"))
BOTH = [*WORKFLOWS, *ACTIONS]


def load(path: Path) -> dict:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def steps(tree: dict) -> Iterator[dict]:
    """Every step of a workflow or of a composite action."""
    for part in [tree["runs"]] if "runs" in tree else tree["jobs"].values():
        yield from part.get("steps", [])


def lines() -> set[tuple[str, str]]:
    """File and `run:` line of every step of the project that is a command."""
    return {
        (path.relative_to(ROOT).as_posix(), step["run"]) for path in BOTH for step in steps(load(path)) if "run" in step
    }
