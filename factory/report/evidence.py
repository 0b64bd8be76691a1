"""Everything a report says, read once from the run folder: the files as arrays and plain values."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from factory.artifacts import GATE, IMAGES, LABELS, MODEL, PREDICTIONS, TRAINING, RunFolder, sha256_file
from factory.runtime import Model
from factory.scenario import Scenario

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Labels:
    """The labelled images, one entry for each distinct content; arrays have length N."""

    path: list[str]
    """POSIX, relative to the root of the images."""
    split: NDArray[np.str_]
    """`train`, `val` or `test`."""
    teacher: Floats
    """The teacher's probability of yes, in [0, 1]."""
    student: Floats
    """The shipped file's probability of yes, in [0, 1]; NaN where it was not asked (the training images)."""
    gold: Floats
    """A person's label: 1 yes, 0 no, NaN where there is none."""
    scores: Floats
    """`(N, P)` softmax probability of each phrase, the positive phrases first."""
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    probe: str
    """What people's labels did to the teacher's, in a sentence."""

    @cached_property
    def has_gold(self) -> Flags:
        """`(N,)` whether a person has labelled the image."""
        return ~np.isnan(self.gold)

    @cached_property
    def reference(self) -> Flags:
        """`(N,)` what counts as right: a person's label where there is one, else the teacher's side of 0.5."""
        return np.where(self.has_gold, self.gold == 1, self.teacher >= 0.5)

    @cached_property
    def asked(self) -> Flags:
        """`(N,)` whether the shipped file's probability is known."""
        return ~np.isnan(self.student)

    @cached_property
    def test(self) -> Flags:
        """`(N,)` the test images whose probability is known."""
        return np.asarray((self.split == "test") & self.asked)


@dataclass(frozen=True)
class Files:
    """What the scan found."""

    found: int
    skipped: list[tuple[str, str]]
    """Path and reason of each file that could not be used."""
    copies: int
    """Usable files whose bytes another file has too."""
    groups: int
    """Groups of two or more distinct images that look alike."""
    grouped: int
    """Distinct images in those groups."""


@dataclass(frozen=True)
class Evidence:
    """What is known about a run, ready to be written down."""

    scenario: Scenario
    folder: Path
    labels: Labels
    files: Files
    gate: dict[str, Any]
    model: dict[str, str]
    """The metadata inside model.onnx."""
    training: dict[str, Floats]
    """Columns of training.csv, one value an epoch; NaN where a cell is empty."""
    seconds: dict[str, float]
    """How long each stage took, in the order in which they ran."""
    rungs: list[dict[str, Any]]
    """The number formats that the export tried, one row each."""
    hashes: dict[str, str]
    """Hex sha256 of the files that the report rests on."""

    @property
    def threshold(self) -> float:
        """The probability in [0, 1] from which the answer is yes."""
        return float(self.gate["figures"]["threshold"])

    @property
    def teacher(self) -> dict[str, str]:
        """`name`, `key` and `licence` of the teacher that labelled; empty where the model does not say."""
        said = json.loads(self.model.get("teacher") or "{}")
        return {"name": self.scenario.teacher.model, "key": "", "licence": ""} | {
            k: str(v or "") for k, v in said.items()
        }

    def pick(self, name: str, default: Any = None) -> Any:
        """One of the gate's clauses by name, or `default`."""
        return next((clause for clause in self.gate["clauses"] if clause["name"] == name), default)


def gather(scenario: Scenario, run: RunFolder) -> Evidence:
    """Read the run's files.

    Raises:
        RunError: An earlier stage has not made its file; the message names the command that does.
        ModelError: model.onnx is not a model of this factory.
    """
    gate = run.json(GATE, "gate")
    labels = run.need(LABELS, "label")
    model = run.need(MODEL, "export")
    rungs = run.events("rungs")
    return Evidence(
        scenario=scenario,
        folder=run.path,
        labels=read_labels(labels, run.need(PREDICTIONS, "gate")),
        files=_read_files(run.need(IMAGES, "label")),
        gate=gate,
        model=dict(Model.load(model, threads=1).metadata),
        training=read_training(run.file(TRAINING)),
        seconds={e["stage"]: float(e["seconds"]) for e in run.events("done") if "stage" in e and "seconds" in e},
        rungs=list(rungs[-1].get("rows", [])) if rungs else [],
        hashes={LABELS: sha256_file(labels), MODEL: sha256_file(model), IMAGES: sha256_file(run.file(IMAGES))},
    )


def read_labels(labels: Path, predictions: Path) -> Labels:
    """Join labels.parquet and predictions.parquet on the images' sha256."""
    table = pq.read_table(labels)
    phrases = json.loads(table.schema.metadata[b"phrases"])
    asked = pq.read_table(predictions, columns=["sha256", "probability"])
    said = dict(zip(asked["sha256"].to_pylist(), asked["probability"].to_pylist(), strict=True))
    return Labels(
        path=table["path"].to_pylist(),
        split=np.array(table["split"].to_pylist(), dtype=np.str_),
        teacher=_floats(table["p_teacher"]),
        student=np.array([said.get(sha, np.nan) for sha in table["sha256"].to_pylist()], np.float64),
        gold=_floats(table["gold"]),
        scores=np.array(table["scores"].to_pylist(), np.float64).reshape(len(table), -1),
        positive=tuple(phrases["positive"]),
        negative=tuple(phrases["negative"]),
        probe=json.loads(table.schema.metadata[b"probe"])["says"],
    )


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.array(
        column.cast(pa.float64() if not pa.types.is_boolean(column.type) else pa.int8()).to_pylist(), np.float64
    )


def _read_files(path: Path) -> Files:
    table = pq.read_table(path, columns=["path", "sha256", "group", "reason"])
    rows = list(zip(*(table[name].to_pylist() for name in ("path", "sha256", "group", "reason")), strict=True))
    usable = [(sha, group) for _, sha, group, reason in rows if reason is None]
    contents = set(usable)
    sizes = np.unique([group for _, group in contents], return_counts=True)[1]
    return Files(
        found=len(rows),
        skipped=[(path, reason) for path, _, _, reason in rows if reason is not None],
        copies=len(usable) - len(contents),
        groups=int((sizes > 1).sum()),
        grouped=int(sizes[sizes > 1].sum()),
    )


def read_training(path: Path) -> dict[str, Floats]:
    """The columns of training.csv, one value an epoch; NaN where a cell is no number; none where there is no file."""
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([_number(row[name]) for row in rows]) for name in (rows[0] if rows else {})}


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return float("nan")
