"""Photos whose redness is known, what people say of them, and run folders about them: small, and no training."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from clip_factory.run_folder import sha256_file
from clip_factory.scenario import Scenario, dump
from support import red_model

TEACHER = {"name": "offline", "key": "offline-1"}


@dataclass(frozen=True)
class Photos:
    """Photos below `root`, with a CSV of labels beside it."""

    root: Path
    gold: Path
    path: list[str]
    truth: np.ndarray

    @property
    def sha256(self) -> list[str]:
        return [sha256_file(self.root / path) for path in self.path]


def draw(file: Path, red: float, seed: int) -> None:
    """Blocks of random brightness, so that no two look alike, with a given mean of the red channel in [0, 1]."""
    blocks = np.random.default_rng(seed).integers(0, 255, (8, 8)).astype(np.uint8)
    gray = np.asarray(Image.fromarray(blocks).resize((64, 64), Image.Resampling.NEAREST), float) / 255
    channel = np.clip(red + 0.2 * (gray - gray.mean()), 0, 1)
    pixels = np.stack([channel, 0.4 * gray, 0.4 * gray], axis=-1)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 255).astype(np.uint8)).save(file)


def make_photos(folder: Path, yes: int = 20, no: int = 40, seed: int = 0) -> Photos:
    """`yes` photos that are rather red, `no` that are rather not, and some of each that deceive."""
    random = np.random.default_rng(seed)
    truth = np.arange(yes + no) < yes
    red = np.clip(np.where(truth, random.normal(0.42, 0.12, yes + no), random.normal(0.2, 0.12, yes + no)), 0, 1)
    paths = [f"{'ab'[i % 2]}/{i:03}.png" for i in range(len(truth))]
    for i, path in enumerate(paths):
        draw(folder / "photos" / path, float(red[i]), seed * 1000 + i)
    gold = write_labels(folder / "truth.csv", paths, truth)
    return Photos(folder / "photos", gold, paths, truth)


def write_labels(file: Path, paths: Sequence[str], truth: Sequence[bool] | np.ndarray) -> Path:
    with open(file, "w", newline="", encoding="utf-8") as target:
        writer = csv.writer(target)
        writer.writerow(("path", "label"))
        writer.writerows((path, "yes" if yes else "no") for path, yes in zip(paths, truth, strict=True))
    return file


def make_model(
    file: Path, bias: float = red_model.BIAS, weights: Sequence[float] = red_model.WEIGHTS, **said: str
) -> Path:
    """The model of redness, with other weights or other metadata."""
    proto = red_model.graph()
    kept = [tensor for tensor in proto.graph.initializer if tensor.name != "weights"]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend([*kept, onnx.helper.make_tensor("weights", onnx.TensorProto.FLOAT, [3], weights)])
    file.parent.mkdir(parents=True, exist_ok=True)
    return red_model.save(file, proto, **said)


@dataclass(frozen=True)
class RunTables:
    """What a run's tables say; arrays have the photos' length."""

    split: Sequence[str]
    gold: Sequence[bool | None]
    probability: Sequence[float] | None = None
    """What predictions.parquet says of val and test; None: the file's own answers are not known there."""
    teacher: Sequence[float] | None = None
    picked: Sequence[bool] | None = None
    about: dict[str, object] = field(default_factory=lambda: {"teacher": TEACHER})


def make_red_run(folder: Path, photos: Photos, said: RunTables, threshold: str = "0.5") -> Path:
    """A run folder with the files that a comparison reads."""
    folder.mkdir(parents=True)
    scenario = Scenario.model_validate({"name": "red", "positive": ["red"], "images": {"path": str(photos.root)}})
    (folder / "scenario.yaml").write_text(dump(scenario), encoding="utf-8")
    make_model(folder / "model.onnx", threshold=threshold)
    count, names = len(photos.path), photos.sha256
    table = pa.table(
        {
            "sha256": names,
            "path": photos.path,
            "group": pa.array(range(count), pa.int32()),
            "p_teacher": pa.array(said.teacher or np.where(photos.truth, 0.88, 0.05), pa.float32()),
            "gold": pa.array(list(said.gold), pa.bool_()),
            "picked": pa.array(said.picked or [False] * count, pa.bool_()),
            "split": list(said.split),
        }
    )
    about = {key: json.dumps(value) for key, value in said.about.items()}
    pq.write_table(table.replace_schema_metadata(about), folder / "labels.parquet")
    asked = [i for i, split in enumerate(said.split) if split != "train" and said.probability is not None]
    predictions = {
        "sha256": [names[i] for i in asked],
        "split": [said.split[i] for i in asked],
        "probability": pa.array([(said.probability or [])[i] for i in asked], pa.float32()),
    }
    pq.write_table(pa.table(predictions), folder / "predictions.parquet")
    return folder
