"""Publishing what a workflow has run: everything in the artifact is checked."""

from __future__ import annotations

import hashlib
import os
import posixpath
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from automation import policy, runs
from automation.command import SHA, AllowUnproven, outputs, program, say
from automation.git import Git
from automation.provenance import statement
from clip_factory import run_folder as files
from clip_factory.errors import FactoryError, RunError
from clip_factory.registry import (
    GateRefusedError,
    NotProvenError,
    PublishOptions,
    Signer,
    current_user,
    open_registry,
    publish,
)
from clip_factory.registry import verify as replay
from clip_factory.registry.aliases import check_alias, move_alias
from clip_factory.registry.draft_from_run import RELEASED, RELEASED_TOO
from clip_factory.registry.publish import Published
from clip_factory.run_folder import RunFolder
from clip_factory.runtime.safe_text import without_secrets
from clip_factory.scenario import Scenario
from clip_factory.terminal import NOT_PROVEN, REFUSED, err, plain

SAME = ("name", "question", "positive", "negative", "templates", "labels", "student", "target", "gate")
"""Keys in which the run must say what the scenario file says; images and teacher are compared in ways of their own.

Gold and answers are files: git says whether they changed."""


def only_run(folder: Path) -> runs.Run:
    """The one run at a folder or below it, read.

    Raises:
        FactoryError: There is none, or more than one, or it is no whole run.
    """
    folders = runs.find(folder)
    if len(folders) != 1:
        raise RunError(f"{folder}: {len(folders)} runs, expected one", hint="name the folder of the run")
    return runs.read(folders[0])


def check(run: runs.Run, merged: Scenario, folder: str, *, allow_unproven: bool = False) -> None:
    """Refuse a run that is not of the merged scenario, does not add up, or has another verdict than may be published.

    Args:
        run: The run.
        merged: The scenario as it stands on the branch that is published.
        folder: Of that scenario in the repository, such as datasets/forklift.
        allow_unproven: Whether one that is not proven may be published.

    Raises:
        GateRefusedError: The gate refused it, or what it says of itself is not so.
        NotProvenError: It is not proven, and that is not allowed.
        ModelError: Its model answers otherwise than when it was exported.
    """
    other = [key for key in SAME if getattr(run.scenario, key) != getattr(merged, key)]
    if merged.teacher.model != "auto" and run.scenario.teacher != merged.teacher:
        other.append("teacher")
    if not _same_images(run.folder, merged, folder):
        other.append("images")
    if other:
        hint = f"run it again: {folder}/{policy.FILE} has changed since, or the run is of something else"
        raise GateRefusedError(f"{run.name}: the run has other values than the scenario: {', '.join(other)}", hint=hint)
    if run.doubts:
        raise GateRefusedError(f"{run.name}: {'; '.join(run.doubts)}", hint="the run folder was altered: run it again")
    if run.verdict.state == "refused":
        raise GateRefusedError(f"{run.name}: the gate refused it: {run.verdict.headline}")
    if not run.may_be_published(allow_unproven=allow_unproven):
        hint = "commit people's answers or labels for it, or allow it: --allow-unproven"
        raise NotProvenError(f"{run.name}: {run.verdict.headline}", hint=hint)
    model = replay(run.folder / files.MODEL).model
    inside, stated = (model.name, model.question, model.threshold), (run.name, run.scenario.asked, run.threshold)
    if inside != stated:
        raise GateRefusedError(f"{run.name}: the model says {inside}, the run {stated}")


def check_since(git: Git, commit: str, merged: Scenario, folder: str) -> None:
    """Refuse a run of a commit since which the scenario's folder, photos or people's labels have changed.

    The run says of photos and labels only where they lay; git says whether there is something else there now.

    Args:
        git: The repository, HEAD being what is published.
        commit: Hash of the commit that was run.
        merged: The scenario as it stands at HEAD.
        folder: Of that scenario in the repository.

    Raises:
        GateRefusedError: They have.
        FactoryError: The repository does not have the commit.
    """
    below = [folder, *policy.places(merged, folder)]
    changed = git.differs(git.commit(commit), git.commit("HEAD"), below)
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        shown = ", ".join(f"{path!a}" for path in changed[:3])
        hint = "run it again: what it was made from is not what the branch has now"
        raise GateRefusedError(f"{merged.name}: changed since commit {commit[:12]}: {shown}{more}", hint=hint)


def release(
    run: runs.Run,
    scenario: bytes,
    commit: str,
    registry: str,
    alias: str,
    key: Path | None,
    *,
    allow_unproven: bool = False,
) -> Published:
    """Publish a run that was checked, with its provenance; `scenario` is the content of the merged file.

    An alias that stands for a later version already is left where it is: going back is `factory models rollback`.

    Raises:
        FactoryError: The manifest's hashes are not those of the files, or the registry cannot be written.
    """
    hashes = RunFolder(run.folder).hashes((*files.FILES, files.MANIFEST))
    released = {name: hashes[name] for name in (*RELEASED, *RELEASED_TOO) if name in hashes}
    path = f"{policy.DATASETS}/{run.name}/{policy.FILE}"
    inputs = {name: hashes[name] for name in (files.IMAGES, files.LABELS)}
    inputs[path] = hashlib.sha256(scenario).hexdigest()
    actor, repository = (os.environ.get(name) for name in ("GITHUB_ACTOR", "GITHUB_REPOSITORY"))
    options = PublishOptions(
        by=f"{actor or current_user()} ({repository})" if repository else current_user(),
        signer=Signer.read(key) if key else None,
        provenance=statement(released, inputs, commit, path),
        allow_unproven=allow_unproven,
    )
    if alias:
        check_alias(alias)
    opened = open_registry(registry)
    done = publish(run.folder, opened, None, options)
    stands = opened.index().models[run.name].aliases.get(alias, 0)
    if not done.new and stands > done.release.version:
        say(f"{alias} stands for version {stands}, which is later, and stays; to go back: factory models rollback")
        return done
    return replace(done, move=move_alias(opened, done.release, alias, "publish", options)) if alias else done


def _same_images(folder: Path, merged: Scenario, datasets: str) -> bool:
    """Whether the run's manifest says that its photos came from where the scenario says."""
    source = RunFolder(folder).json(files.MANIFEST, "run").get("images_from") or {}
    if merged.images.path is None:
        return bool(
            source.get("url") == without_secrets(merged.images.url or "")
            and source.get("sha256") == merged.images.sha256
        )
    inside = policy.inside(datasets, merged.images.path)
    # the place of the checkout differs from machine to machine; the way inside it does not
    path = posixpath.normpath(str(source.get("path", "")).replace("\\", "/"))
    return inside is not None and path.endswith(f"/{inside}")


def main(
    folder: Annotated[Path, typer.Option("--run", help="Folder with one run, at it or below.", metavar="DIR")],
    commit: Annotated[str, typer.Option(help="Hash of the commit that was run.", metavar="SHA")],
    registry: Annotated[str, typer.Option(help="Folder or URL.", metavar="REGISTRY")],
    alias: Annotated[str, typer.Option(help="Let this alias stand for it; empty: none.")] = "champion",
    scenario: Annotated[
        str, typer.Option(help="The scenario as merged; else datasets/NAME/scenario.yaml.", metavar="FILE")
    ] = "",
    key: Annotated[
        Path | None, typer.Option(help="Private key to sign with.", envvar="FACTORY_SIGNING_KEY", metavar="FILE")
    ] = None,
    allow_unproven: AllowUnproven = False,
) -> None:
    """Publish a run after it was checked against the scenario that was merged, with provenance.json in the release.

    Checked: the folder holds the files of a run and no others, with the hashes of its manifest; the scenario is the
    merged one; the gate passed it, or found it not proven and that is allowed, and counted again from the predictions
    it is so; the model replays its test vectors; and git, in the current folder, has the same scenario folder, photos
    and people's labels at --commit and at HEAD. An alias that stands for a later version stays there.

    Prints release, name, version, sha256 and new for $GITHUB_OUTPUT. Exit codes: 1 refused; 4 not proven, and that is
    not allowed.

    Example:  python -m automation.publish_release --run runs --commit "$GITHUB_SHA" --registry registry/
    """
    if not SHA.fullmatch(commit):
        raise FactoryError(f"--commit {commit[:80]!a}: expected 40 hex digits")
    try:
        run = only_run(folder)
        path = f"{policy.DATASETS}/{run.name}/{policy.FILE}"
        text = Path(scenario or path).read_bytes()
        merged, faults = policy.read(text, path)
        if merged is None or faults:
            raise FactoryError("\n".join(faults))
        check(run, merged, f"{policy.DATASETS}/{run.name}", allow_unproven=allow_unproven)
        check_since(Git(Path()), commit, merged, f"{policy.DATASETS}/{run.name}")
        done = release(run, text, commit, registry, alias, key, allow_unproven=allow_unproven)
    except (GateRefusedError, NotProvenError) as error:
        state, left = ("refused", REFUSED) if isinstance(error, GateRefusedError) else ("not proven", NOT_PROVEN)
        err.print(f"{state}: {plain(error.what)}\n  {plain(error.hint)}".rstrip(), style="red")
        raise typer.Exit(left) from None
    say(f"{done.release} {'is published' if done.new else 'was there already'}")
    outputs(
        release=str(done.release),
        name=done.release.name,
        version=str(done.release.version),
        sha256=done.release.sha256,
        new=done.new,
    )


if __name__ == "__main__":
    program("publish_release", main)
