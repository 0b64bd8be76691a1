"""Finished runs that can be published, without a training: a made-up run with its card, report and manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx

from clip_factory import run_folder as files
from clip_factory.report import write_card
from clip_factory.run_folder import RunFolder, read_json
from clip_factory.runtime.atomic import write_json
from support.make_run import NOT_PROVEN, PASSES, REFUSED, RunKind, make_run

__all__ = ["NOT_PROVEN", "PASSES", "REFUSED", "another", "finished", "said", "write_manifest"]


def finished(folder: Path, kind: RunKind = PASSES) -> Path:
    """Write a run as the factory leaves it; the report is a stand-in, since drawing one takes seconds."""
    scenario, run = make_run(folder, kind)
    run.file(files.STUDENT).write_bytes(b"weights")
    run.file(files.REPORT).write_text("<!doctype html><title>report</title>", encoding="utf-8")
    write_card(scenario, run)
    write_manifest(run)
    return run.path


def write_manifest(run: RunFolder) -> None:
    content = {"scenario": "red-ball", "passed": read_json(run.file(files.GATE))["passed"]}
    write_json(run.file(files.MANIFEST), content | {"files": run.hashes(files.FILES)})


def another(run: Path, folder: Path, **metadata: str) -> Path:
    """A copy of a run whose model says something else, such as another threshold, finished anew."""
    copy = RunFolder(Path(shutil.copytree(run, folder)))
    model = onnx.load(copy.file(files.MODEL))
    said = {entry.key: entry.value for entry in model.metadata_props} | metadata
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, said)
    onnx.save(model, copy.file(files.MODEL))
    gate = read_json(copy.file(files.GATE))
    gate["figures"]["threshold"] = float(said["threshold"])
    write_json(copy.file(files.GATE), gate)
    write_manifest(copy)
    return copy.path


def said(path: Path) -> dict:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
