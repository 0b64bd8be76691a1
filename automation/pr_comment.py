"""The results of a pull request's runs, as one comment that is updated in place."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from automation import champion, pictures, policy, runs
from automation.command import SHA, AllowUnproven, outputs, program, say
from automation.comment import CURVES, WORST, Result, Setting, render
from automation.github import GitHub
from automation.worst_images import SUFFIX
from clip_factory.errors import FactoryError
from clip_factory.registry import Registry
from clip_factory.runtime.releases.release_reference import SLUG

BRANCH = "factory-evidence"
"""Where the pictures of comments are kept: PULL/SHA256.png; it has no history in common with any other branch."""
MARK = "pr_comment"
MAX_PICTURED = 20
"""Scenarios that have pictures in one comment."""


def results(folder: Path, expected: list[dict[str, str]] | None) -> list[Result]:
    """The runs below a folder, by name; those expected that have none; and folders that are no runs.

    Args:
        folder: Where artifacts were unpacked.
        expected: Name and path of each scenario that was to run; None: whatever is there.
    """
    by_name = runs.newest(runs.find(folder))
    good = {name: run for name, run in by_name.items() if isinstance(run, runs.Run)}
    broken = {name: error.what for name, error in by_name.items() if isinstance(error, FactoryError)}
    if expected is None:
        listed = [Result(name, good[name]) for name in sorted(good)]
        return listed + [Result(name, None, why) for name, why in broken.items()]
    names = [one["name"] for one in expected]
    for name in sorted(set(good) - set(names)):
        say(f"a run of {name} was not asked for, and is passed over")
    why = "; ".join(broken.values()) or "the run ended before the gate was evaluated"
    return [Result(name, good[name]) if name in good else Result(name, None, why) for name in names]


def compared(listed: list[Result], registry: Registry | None, alias: str) -> list[Result]:
    """The results, each compared with the release of the alias now; None: there is no registry yet."""

    def compare(one: Result) -> champion.Comparison | None:
        try:
            return champion.compare(one.run, registry, alias) if one.run is not None else None
        except FactoryError as error:
            say(f"{one.name}: {error}")
            return None

    return [replace(one, comparison=compare(one)) for one in listed]


def draw(listed: list[Result], folder: Path) -> dict[str, dict[str, bytes]]:
    """Name of a scenario -> what a picture shows -> its bytes: PNG or JPEG, made here."""
    sheets = {path.name: path for path in sorted(folder.rglob(f"*{SUFFIX}"))}
    drawn: dict[str, dict[str, bytes]] = {}
    for run in [one.run for one in listed if one.run is not None][:MAX_PICTURED]:
        sheet = sheets.get(f"{run.name}{SUFFIX}")
        made = {CURVES: pictures.curves(run), WORST: pictures.captioned(run, sheet) if sheet else None}
        drawn[run.name] = {title: data for title, data in made.items() if data is not None}
    return drawn


def keep(out: Path, listed: list[Result], drawn: dict[str, dict[str, bytes]]) -> list[Result]:
    """Write the pictures beside the comment; the results with the pictures' names."""
    done = []
    for one in listed:
        names = {title: f"{one.name}-{_kept(data)}" for title, data in drawn.get(one.name, {}).items()}
        for title, name in names.items():
            (out / name).write_bytes(drawn[one.name][title])
        done.append(replace(one, pictures=names))
    return done


def post(github: GitHub, pull: int, listed: list[Result], drawn: dict[str, dict[str, bytes]], setting: Setting) -> None:
    """Put the pictures on their branch, and the comment on the pull request."""
    files = {f"{pull}/{_kept(data)}": data for own in drawn.values() for data in own.values()}
    if files:
        github.add(BRANCH, files, f"Pictures for pull request {pull}")
    shown = [
        replace(
            one, pictures={t: github.picture(BRANCH, f"{pull}/{_kept(d)}") for t, d in drawn.get(one.name, {}).items()}
        )
        for one in listed
    ]
    github.comment(pull, MARK, render(shown, setting))


def _kept(data: bytes) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpg"
    return f"{hashlib.sha256(data).hexdigest()}.{kind}"


def _expected(text: str) -> list[dict[str, str]] | None:
    """The list that `changed_scenarios` printed.

    Raises:
        FactoryError: It is not one.
    """
    if not text:
        return None
    try:
        tree: Any = json.loads(text)
        fine = isinstance(tree, list) and all(
            re.fullmatch(SLUG, one["name"]) and isinstance(one["path"], str) for one in tree
        )
    except (ValueError, TypeError, KeyError):
        fine = False
    if not fine:
        raise FactoryError(f"--expect {text[:80]!a}: expected the `scenarios` that changed_scenarios prints")
    return list(tree)


def _registry(address: str) -> tuple[bool, Registry | None]:
    """Whether the registry can be read, and the registry; None where there is none yet."""
    try:
        registry = champion.open_if_exists(address) if address else None
        if registry is not None:
            registry.index()
    except FactoryError as error:
        say(f"the registry cannot be read: {error}")
        return False, None
    return bool(address), registry


def main(
    folder: Annotated[Path, typer.Option("--runs", help="Folder with runs and their sheets below.", metavar="DIR")],
    out: Annotated[Path, typer.Option(help="Folder for comment.md, summary.md and pictures.", metavar="DIR")],
    registry: Annotated[str, typer.Option(help="What to compare with.", metavar="REGISTRY")] = "",
    alias: Annotated[str, typer.Option(help="The alias that is compared with.")] = "champion",
    commit: Annotated[str, typer.Option(help="The commit that was run, for the command to reproduce it.")] = "",
    expect: Annotated[str, typer.Option(help="The `scenarios` that changed_scenarios printed.", metavar="JSON")] = "",
    pull: Annotated[str, typer.Option(help="Number of the pull request.")] = "",
    send: Annotated[bool, typer.Option("--post", help="Post the comment on the pull request.")] = False,
    allow_unproven: AllowUnproven = False,
) -> None:
    """Write the results of the runs as a comment, and post it with --post, in the place of an earlier one.

    summary.md is the comment without pictures, for $GITHUB_STEP_SUMMARY. Prints passed (whether all have), runs and
    publish (a JSON list of {name, path} of the runs that may be published) for $GITHUB_OUTPUT. Exit code 0 also where
    the gate refused, or where something is not proven: the comment says so.

    Example:  python -m automation.pr_comment --runs artifacts --out comment --registry registry/
    """
    if (commit and not SHA.fullmatch(commit)) or (pull and not pull.isdecimal()):
        raise FactoryError(f"--commit {commit!a}, --pull {pull!a}: expected 40 hex digits, and a number")
    out.mkdir(parents=True, exist_ok=True)
    wanted = _expected(expect)
    readable, opened = _registry(registry)
    listed = results(folder, wanted)
    listed = compared(listed, opened, alias) if readable else listed
    setting = Setting(commit, opened.url if opened else registry, alias, allow_unproven)
    drawn = draw(listed, folder)
    (out / "comment.md").write_text(render(keep(out, listed, drawn), setting), encoding="utf-8")
    (out / "summary.md").write_text(render(listed, setting), encoding="utf-8")
    if send and pull:
        post(GitHub.open(), int(pull), listed, drawn, setting)
    elif send:
        say("nothing is posted: --post needs the number of a pull request, --pull")
    paths = {one["name"]: one["path"] for one in wanted or []}
    good = [one.name for one in listed if one.run and one.run.may_be_published(allow_unproven=allow_unproven)]
    publish = [{"name": name, "path": paths.get(name, f"{policy.DATASETS}/{name}/{policy.FILE}")} for name in good]
    outputs(passed=all(one.outcome == "passed" for one in listed), runs=str(len(listed)), publish=publish)


if __name__ == "__main__":
    program("pr_comment", main)
