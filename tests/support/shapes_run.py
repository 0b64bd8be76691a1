"""A labeled run folder of rendered shapes, with teacher vectors that know the answer: training without a teacher."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from clip_factory.labels import SCHEMA
from clip_factory.run_folder import LABELS, RunFolder, sha256_file
from clip_factory.scenario import Scenario
from clip_factory.students import backbones
from clip_factory.students.cross_fitting import member_logits, write_held_out
from clip_factory.students.network import Student
from clip_factory.students.recipe import Recipe
from clip_factory.students.training import save
from clip_factory.students.training_data import load_photos

DIM = 8


class ShapeStore:
    """Stands in for the embedding store: vectors that hold the answer and noise."""

    def __init__(self, answers: dict[str, bool]) -> None:
        self.answers = answers

    def get(self, teacher_key: str, sha256s: Sequence[str]) -> np.ndarray:
        """float32 `(N, DIM)`, L2-normalized."""
        assert teacher_key == "shapes-key"
        vectors = np.random.default_rng(0).normal(0, 0.3, (len(sha256s), DIM)).astype(np.float32)
        vectors[:, 0] += [1.0 if self.answers[sha] else -1.0 for sha in sha256s]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_shapes_run(
    folder: Path, photos: Path, *, gold: bool = False, **student: object
) -> tuple[Scenario, RunFolder, ShapeStore]:
    """Label the photos of conftest's `shapes` (even numbers are discs) in a new run folder."""
    files = sorted((photos / "photos").glob("*.png"))
    answers = {sha256_file(file): index % 2 == 0 for index, file in enumerate(files)}
    random = np.random.default_rng(1)
    rows = []
    for index, file in enumerate(files):
        yes = index % 2 == 0
        p = float(np.clip(yes + random.normal(0, 0.1), 0.02, 0.98))
        split = ("val", "test")[index % 4 // 2] if index % 10 < 3 else "train"
        label = yes if gold else None
        rows.append([sha256_file(file), f"photos/{file.name}", index, p, [p, 1 - p], label, False, split, 1.0])
    rows.sort()
    columns = dict(zip(SCHEMA.names, map(list, zip(*rows, strict=True)), strict=True))
    about = {"teacher": {"name": "shapes", "key": "shapes-key", "license": "none", "dim": DIM}}
    metadata = {name: json.dumps(value) for name, value in about.items()}
    run = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=SCHEMA).replace_schema_metadata(metadata), run.file(LABELS))
    settings = {"backbone": "resnet-mini", "image_size": 48, "epochs": 8} | student
    scenario = Scenario.model_validate(
        {
            "name": "disc",
            "positive": ["disc"],
            "negative": ["bar"],
            "images": {"path": str(photos)},
            "student": settings,
        }
    )
    return scenario, run, ShapeStore(answers)


def make_student_run(folder: Path, photos: Path) -> tuple[Scenario, RunFolder]:
    """The same with a student that was never trained: pretrained features, and a head that has some opinion."""
    scenario, run, store = make_shapes_run(folder, photos)
    size = int(scenario.student.image_size)
    torch.manual_seed(0)
    network = Student("resnet-mini", size, backbones.pretrained(backbones.get("resnet-mini"))).eval()
    torch.nn.init.normal_(network.head.weight, std=0.3)
    loaded = load_photos(photos, run, store, Recipe(), size, scenario.student.seed)
    members = member_logits([network, network], loaded, photos, run, size)
    write_held_out(network, loaded, members, run)
    save(network, run)
    return scenario, run
