"""Another threshold: only that is changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest

from clip_factory import exporters
from clip_factory.errors import ExportError
from clip_factory.run_folder import MODEL, RunFolder
from clip_factory.runtime import Model
from clip_factory.scenario import Scenario, Target

Exported = tuple[Scenario, RunFolder]


def test_another_target_moves_the_threshold_and_leaves_the_weights(exported: Exported, tmp_path: Path) -> None:
    scenario, run = exported
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    before = onnx.load(copy.file(MODEL))
    fewer = scenario.model_copy(update={"target": Target(false_alarms=0.01)})
    threshold = exporters.rethreshold(fewer, copy)
    after, model = onnx.load(copy.file(MODEL)), Model.load(copy.file(MODEL))
    assert after.graph == before.graph
    assert model.threshold == threshold.threshold == json.loads(model.metadata["cut"])["threshold"]
    assert json.loads(model.metadata["scenario"])["target"]["false_alarms"] == 0.01
    again = tmp_path / "again"
    shutil.copytree(run.path, again)
    exporters.export(fewer, RunFolder(again))
    assert Model.load(again / MODEL).threshold == threshold.threshold, (
        "an export from the start puts it in the same place"
    )


def test_there_and_back_is_the_same_file(exported: Exported, tmp_path: Path) -> None:
    scenario, run = exported
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    for target in (Target(recall=0.9), "break-even"):
        exporters.rethreshold(scenario.model_copy(update={"target": target}), copy)
    assert copy.file(MODEL).read_bytes() == run.file(MODEL).read_bytes()


def test_a_damaged_model_is_named(exported: Exported, tmp_path: Path) -> None:
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(exported[1].path, copy.path)
    copy.file(MODEL).write_bytes(b"\xff\xd8\xff\xe0 a picture")
    with pytest.raises(ExportError, match="damaged, or no ONNX file"):
        exporters.threshold_for(copy, "balanced")
