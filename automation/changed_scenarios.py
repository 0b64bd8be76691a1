"""Which scenarios a push or a pull request adds or changes, photos and labels included: the matrix of the workflow."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from automation import policy
from automation.command import outputs, program, say
from automation.git import REGULAR, Entry, Git
from clip_factory.errors import FactoryError, ScenarioError
from clip_factory.scenario import Scenario

MAX_JOBS = 256
"""Of a matrix; GitHub accepts no more."""


@dataclass(frozen=True)
class MatrixEntry:
    """One scenario to run."""

    name: str
    path: str
    """POSIX, from the root of the repository."""
    set: str
    """Short hash of its images and teacher: scenarios that share it share all vectors."""
    teacher: str
    """What it is run with, as a word that may stand in the key of a cache."""


def find(git: Git, head: str, base: str | None, names: list[str], teacher: str | None = None) -> list[MatrixEntry]:
    """The scenarios to run, by name.

    Args:
        git: The repository.
        head: A reference; the scenarios are read from its commit.
        base: What `head` is compared with; None: nothing, so that all scenarios count.
        names: Of the only scenarios that count, changed or not; empty: those that changed.
        teacher: What all of them are run with, in the place of their own.

    Raises:
        ScenarioError: One is not as it must be, or there is no scenario of a name; each fault has a line.
    """
    commit = git.commit(head)
    files = git.files(commit)
    there = {parts[1] for parts in (path.split("/") for path in files) if _is_scenario(parts)}
    if unknown := sorted(set(names) - there):
        hint = f"scenarios: {', '.join(sorted(there))}"
        raise ScenarioError(f"no {policy.DATASETS}/{unknown[0]!a}/{policy.FILE} in {head!a}", hint=hint)
    wanted = set(names) or there
    if base is not None and not names:
        touched = git.changed(base, commit)
        wanted = {name for name in there if _touched(git, files[f"{policy.DATASETS}/{name}/{policy.FILE}"], touched)}
    return _read(git, files, sorted(wanted), teacher)


def _touched(git: Git, entry: Entry, touched: list[str]) -> bool:
    """Whether one of the paths lies in a scenario's folder, or is or lies in what it names: photos, people's labels."""
    folder = posixpath.dirname(entry.path)
    if any(path.startswith(f"{folder}/") for path in touched):
        return True
    if entry.mode not in REGULAR or entry.size > policy.MAX_BYTES:
        return False
    scenario, _ = policy.read(git.read(entry), entry.path)
    places = policy.places(scenario, folder) if scenario is not None else []
    return any(f"{path}/".startswith(f"{place}/") for path in touched for place in places)


def _known(git: Git, base: str) -> str | None:
    """The commit to compare with; None where there is none, as on a branch that is new or was pushed by force."""
    if not base.strip("0"):
        return None
    try:
        return git.commit(base)
    except FactoryError as error:
        say(f"{error.what}: all scenarios count")
        return None


def _is_scenario(parts: list[str]) -> bool:
    return len(parts) == 3 and (parts[0], parts[2]) == (policy.DATASETS, policy.FILE)


def _read(git: Git, files: dict[str, Entry], names: list[str], teacher: str | None) -> list[MatrixEntry]:
    entries, faults = [], []
    links = [path for path, entry in files.items() if entry.mode not in REGULAR]
    for name in names:
        folder = f"{policy.DATASETS}/{name}"
        if f"{folder}/__init__.py" in files:
            say(f"{folder}: a package that draws its own photos is passed over")
            continue
        entry = files[f"{folder}/{policy.FILE}"]
        if entry.mode not in REGULAR or entry.size > policy.MAX_BYTES:
            faults.append(f"{entry.path!a}: no file of at most {policy.MAX_BYTES:,} bytes")
            continue
        scenario, problems = policy.read(git.read(entry), entry.path)
        problems += policy.linked(scenario, folder, links) if scenario else []
        faults += problems
        if scenario is not None and not problems:
            entries.append(_matrix_entry(scenario, entry.path, teacher))
    if len(entries) > MAX_JOBS:
        faults.append(f"{len(entries)} scenarios at once; a matrix holds {MAX_JOBS}")
    if faults:
        raise ScenarioError("\n".join(faults), hint="mend them, and push again")
    return entries


def _matrix_entry(scenario: Scenario, path: str, teacher: str | None) -> MatrixEntry:
    images, own = scenario.images, scenario.teacher
    source = images.sha256 if images.path is None else policy.inside(posixpath.dirname(path), images.path)
    named = teacher or "/".join(filter(None, (own.model, own.pretrained)))
    short = hashlib.sha256(json.dumps([source, named]).encode()).hexdigest()[:12]
    return MatrixEntry(scenario.name, path, short, re.sub(r"[^A-Za-z0-9._-]+", "-", named)[:64])


def main(
    head: Annotated[str, typer.Option(help="Commit, branch or tag that is read.")] = "HEAD",
    base: Annotated[str | None, typer.Option(help="What it is compared with; unknown, zeros or empty: all.")] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Only these, changed or not; spaces or commas between.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All scenarios.")] = False,
    teacher: Annotated[str, typer.Option(help="Run them all with this teacher.")] = "",
    root: Annotated[Path, typer.Option(help="The repository.", metavar="DIR")] = Path(),
) -> None:
    """Print which scenarios changed, as lines for $GITHUB_OUTPUT.

    scenarios: a JSON list of {name, path, set, teacher}. sets: one scenario standing for each distinct set of images
    and teacher, whose vectors the others share. count: how many scenarios. Exit code 2: a scenario is at fault.

    Example:  python -m automation.changed_scenarios --base origin/main --head HEAD
    """
    names = re.findall(r"[^\s,]+", " ".join(name or []))
    if not (every or names or base is not None):
        raise typer.BadParameter("say what to compare with: --base REF, or --name NAME, or --all")
    git = Git(root)
    scenarios = find(git, head, None if every or not base else _known(git, base), names, teacher or None)
    sets: dict[str, dict[str, str]] = {}
    for one in scenarios:
        sets.setdefault(one.set, {"set": one.set, "path": one.path, "teacher": one.teacher})
    listed = ", ".join(one.name for one in scenarios) or "none"
    say(f"{len(scenarios)} scenarios on {len(sets)} sets of images: {listed}")
    outputs(scenarios=[asdict(one) for one in scenarios], sets=list(sets.values()), count=str(len(scenarios)))


if __name__ == "__main__":
    program("changed_scenarios", main)
