"""Which scenarios a push or a pull request adds or changes: the matrix of the workflow."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from automation import policy
from automation.command import outputs, program, say
from automation.git import REGULAR, Entry, Git
from factory.errors import ScenarioError
from factory.scenario import Scenario

MOST = 256
"""Jobs of a matrix; GitHub takes no more."""


@dataclass(frozen=True)
class Work:
    """One scenario to run."""

    name: str
    path: str
    """POSIX, from the root of the repository."""
    set: str
    """Short hash of its images and teacher: scenarios that share it share all vectors."""


def find(git: Git, head: str, base: str | None, names: list[str], teacher: str | None = None) -> list[Work]:
    """The scenarios to run, by name.

    Args:
        git: The repository.
        head: A reference; the scenarios are read from its commit.
        base: What `head` is compared with; None, or zeros as GitHub names a branch that is new: everything counts.
        names: Of scenarios that count whether they changed or not; where `base` is None, the only ones, if any.
        teacher: What all of them are run with, in the place of their own.

    Raises:
        ScenarioError: One is not as it must be, or there is no scenario of a name; each fault has a line.
    """
    commit = git.commit(head)
    files = git.files(commit, policy.DATASETS)
    there = {path.split("/")[1] for path in files if path.count("/") == 2 and path.endswith(f"/{policy.FILE}")}
    if unknown := sorted(set(names) - there):
        hint = f"scenarios: {', '.join(sorted(there))}"
        raise ScenarioError(f"no {policy.DATASETS}/{unknown[0]!a}/{policy.FILE} in {head!a}", hint=hint)
    if base is None or not base.strip("0"):
        wanted = set(names) or there
    else:
        touched = git.changed(git.commit(base), commit, policy.DATASETS)
        wanted = set(names) | {path.split("/")[1] for path in touched if path.count("/") >= 2} & there
    return _read(git, files, sorted(wanted), teacher)


def _read(git: Git, files: dict[str, Entry], names: list[str], teacher: str | None) -> list[Work]:
    work, faults = [], []
    for name in names:
        folder = f"{policy.DATASETS}/{name}"
        if f"{folder}/__init__.py" in files:
            say(f"{folder}: a package that draws its own photos is passed over")
            continue
        entry = files[f"{folder}/{policy.FILE}"]
        if entry.mode not in REGULAR or entry.size > policy.MAX_BYTES:
            faults.append(f"{entry.path!a}: no file of at most {policy.MAX_BYTES:,} bytes")
            continue
        scenario, found = policy.read(git.read(entry), entry.path)
        faults += found
        if scenario is not None and not found:
            work.append(Work(name, entry.path, set_of(scenario, folder, teacher)))
    if len(work) > MOST:
        faults.append(f"{len(work)} scenarios at once; a matrix holds {MOST}")
    if faults:
        raise ScenarioError("\n".join(faults), hint="mend them, and push again")
    return work


def set_of(scenario: Scenario, folder: str, teacher: str | None) -> str:
    """Short hash of a scenario's images and teacher."""
    images = scenario.images
    source = images.sha256 if images.path is None else policy.inside(folder, images.path)
    named = teacher or f"{scenario.teacher.model}/{scenario.teacher.pretrained or ''}"
    return hashlib.sha256(json.dumps([source, named]).encode()).hexdigest()[:12]


def main(
    head: Annotated[str, typer.Option(help="Commit, branch or tag that is read.")] = "HEAD",
    base: Annotated[str | None, typer.Option(help="What it is compared with; zeros: a branch that is new.")] = None,
    name: Annotated[list[str] | None, typer.Option(help="A scenario, changed or not; may be repeated.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All scenarios.")] = False,
    teacher: Annotated[str, typer.Option(help="Run them all with this teacher.")] = "",
    root: Annotated[Path, typer.Option(help="The repository.", metavar="DIR")] = Path(),
) -> None:
    """Print which scenarios changed, as lines for $GITHUB_OUTPUT.

    scenarios: a JSON list of {name, path, set}. sets: one scenario standing for each distinct set of images and
    teacher, whose vectors the others share. count: how many scenarios. Exit code 2: a scenario is not as it must be.

    Example:  python -m automation.changed_scenarios --base origin/main --head HEAD
    """
    if not (every or name or base is not None):
        raise typer.BadParameter("say what to compare with: --base REF, or --name NAME, or --all")
    found = find(Git(root), head, None if every else base, name or [], teacher or None)
    sets = {one.set: {"set": one.set, "path": one.path} for one in reversed(found)}
    say(f"{len(found)} scenarios on {len(sets)} sets of images: {', '.join(one.name for one in found) or 'none'}")
    outputs(scenarios=[asdict(one) for one in found], sets=list(sets.values())[::-1], count=str(len(found)))


if __name__ == "__main__":
    program("changed_scenarios", main)
