"""The stage: the exported file is the network, is whole, and says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from clip_factory import exporters
from clip_factory.images.photo import Photo, read_squares
from clip_factory.run_folder import LABELS, MODEL, RunFolder, sha256_file
from clip_factory.runtime import Model
from clip_factory.runtime.model_checks import read_test_vectors
from clip_factory.scenario import Scenario

Exported = tuple[Scenario, RunFolder]


def test_one_file_within_the_budget_that_the_runtime_takes(exported: Exported) -> None:
    _, run = exported
    assert not [p for p in run.path.iterdir() if ".data" in p.suffixes or p.name.endswith(".tmp")]
    assert run.file(MODEL).stat().st_size <= 300_000 - 4_000
    model = Model.load(run.file(MODEL))
    assert model.image_size == 48
    assert 0 < model.threshold < 1


def test_metadata_is_complete_and_true(exported: Exported) -> None:
    scenario, run = exported
    metadata = Model.load(run.file(MODEL)).metadata
    assert set(metadata) == {
        "format", "name", "question", "scenario", "classes", "threshold", "image_size", "preprocessing", "teacher",
        "data_sha256", "backbone", "precision", "calibration", "score_histogram", "version", "license", "test_vectors",
        "cut", "graph_sha256",
    }  # fmt: skip
    assert metadata["data_sha256"] == sha256_file(run.file(LABELS))
    unplaced = Scenario.model_validate(scenario.model_dump(exclude={"images", "gold"}))
    assert Scenario.model_validate_json(metadata["scenario"]) == unplaced, "a model carries no paths of its maker"
    assert json.loads(metadata["teacher"]) == {"name": "shapes", "key": "shapes-key", "license": "none"}
    held_out = sum(split != "train" for split in pq.read_table(run.file(LABELS))["split"].to_pylist())
    histogram = json.loads(metadata["score_histogram"])
    assert (len(histogram), sum(histogram)) == (20, held_out)


def test_the_file_repeats_its_test_vectors(exported: Exported) -> None:
    model = Model.load(exported[1].file(MODEL))
    inputs, expected = read_test_vectors(model.metadata, model.image_size)
    assert np.abs(model.probabilities(inputs) - expected).max() < 1e-3


def test_the_file_is_the_network_on_photos_it_never_saw(exported: Exported, shapes: Path) -> None:
    _, run = exported
    labels = pq.read_table(run.file(LABELS)).to_pylist()
    pixels = read_squares([Photo.of(shapes / row["path"]) for row in labels if row["split"] == "test"], 48)
    said = Model.load(run.file(MODEL)).probabilities(pixels)
    assert np.abs(said - exporters.network_probabilities(run, pixels)).mean() <= 0.01


def test_every_precision_is_logged_and_one_is_chosen(exported: Exported) -> None:
    rows = exported[1].events("rungs")[-1]["rows"]
    assert [row["precision"] for row in rows] == ["fp32", "fp16", "int8"]
    assert sum(row["taken"] for row in rows) == 1
    assert rows[0]["bytes"] > rows[1]["bytes"] > rows[2]["bytes"]


def test_the_threshold_rests_on_val_and_on_what_members_left_out(exported: Exported) -> None:
    _, run = exported
    cut = json.loads(Model.load(run.file(MODEL)).metadata["cut"])
    splits = [row["split"] for row in pq.read_table(run.file(LABELS)).to_pylist()]
    assert cut["images"] - splits.count("val") == pytest.approx(0.4 * splits.count("train"), abs=2)
    assert cut["against"] == "teacher"
    assert cut["interval"][0] <= cut["threshold"] <= cut["interval"][1]
