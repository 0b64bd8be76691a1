"""Run folders as a workflow hands them on: finished, with figures that add up, and the scenario in a repository."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from automation import policy
from clip_factory import run_folder as files
from clip_factory.run_folder import RunFolder
from clip_factory.runtime.atomic import write_json
from clip_factory.scenario import parse
from support.finished_run import finished, said
from support.make_run import NOT_PROVEN, PASSES, REFUSED, RunKind

__all__ = ["NOT_PROVEN", "PASSES", "REFUSED", "SHA", "merged", "seal", "whole"]

SHA = "0123456789abcdef0123456789abcdef01234567"


def whole(folder: Path, name: str = "red-ball", kind: RunKind = PASSES) -> Path:
    """A run of datasets/NAME below `folder`, with the true size of its file in the gate, and a manifest."""
    run = RunFolder(finished(folder / "datasets" / name, replace(kind, name=name)))
    gate, size = said(run.file(files.GATE)), run.file(files.MODEL).stat().st_size
    gate["figures"]["bytes"] = size
    for clause in gate["clauses"]:
        if clause["name"] == "bytes":
            clause["figure"] = size
    write_json(run.file(files.GATE), gate)
    seal(run.path)
    return run.path


def seal(run: Path) -> None:
    """Write the manifest as the factory does at the end of a run, whatever the files say now."""
    folder = RunFolder(run)
    scenario = parse(folder.file(files.SCENARIO).read_text(encoding="utf-8"))
    content = {
        "scenario": scenario.name,
        "passed": said(folder.file(files.GATE))["passed"],
        "images_from": {"path": scenario.images.path},
        "files": folder.hashes(files.FILES),
        "versions": {},
        "seconds": {event["stage"]: event["seconds"] for event in folder.events("done")},
    }
    write_json(folder.file(files.MANIFEST), content)


def merged(run: Path, root: Path) -> Path:
    """The scenario file that a run of `whole` is of, in a repository at `root`; gives its path."""
    scenario = parse((run / files.SCENARIO).read_text(encoding="utf-8"))
    path = root / policy.DATASETS / scenario.name / policy.FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    phrases = "".join(f"\n  - {phrase}" for phrase in scenario.negative or ())
    path.write_text(
        f"name: {scenario.name}\nquestion: {scenario.question}\npositive:"
        + "".join(f"\n  - {phrase}" for phrase in scenario.positive)
        + f"\nnegative:{phrases}\nimages: {{path: images}}\nteacher: {{model: offline}}\n",
        encoding="utf-8",
    )
    return path
