"""Everything a report says, read once from the run folder: the files as arrays and plain values."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clip_factory.errors import RunError
from clip_factory.gate.verdict import Verdict
from clip_factory.gate.verdict import read as read_verdict
from clip_factory.readiness import Readiness, assess
from clip_factory.run_folder import GATE, HELD_OUT, IMAGES, LABELS, MODEL, PREDICTIONS, TRAINING, RunFolder, sha256_file
from clip_factory.runtime import Model
from clip_factory.scenario import Scenario
from clip_factory.statistics import Confusion

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Reference = Literal["people", "teacher", "either"]
"""Whose word is right: people's, the teacher's, or people's where there is one, else the teacher's."""


@dataclass(frozen=True)
class Labels:
    """The labeled images, one entry for each distinct content; arrays have length N."""

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
    bettered: bool
    """Whether the teacher's probabilities are those of a probe that has learned from people."""
    picked: Flags
    """`(N,)` whether a person was asked because the photo looked doubtful."""
    teacher_threshold: float = 0.5
    """The teacher says yes from this probability on."""

    @cached_property
    def has_gold(self) -> Flags:
        """`(N,)` whether a person has labeled the image."""
        return ~np.isnan(self.gold)

    @cached_property
    def reference(self) -> Flags:
        """`(N,)` what counts as right: a person's label where there is one, else the teacher's answer."""
        return np.where(self.has_gold, self.gold == 1, self.teacher_yes)

    @cached_property
    def teacher_yes(self) -> Flags:
        """`(N,)` the teacher's answers."""
        return np.asarray(self.teacher >= self.teacher_threshold)

    @cached_property
    def fair(self) -> Flags:
        """`(N,)` the photos that a person has labeled, and not because they looked doubtful."""
        return np.asarray(self.has_gold & ~self.picked)

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
class Judged:
    """The test photos that the verdict counts, and what is right; arrays have length M."""

    against: Reference
    rows: NDArray[np.intp]
    """Indices into the labels."""
    student: Floats
    truth: Flags

    def at(self, threshold: float) -> Confusion:
        """The answers at a threshold, compared in float32 as the gate does."""
        return Confusion.of(self.truth, self.student.astype(np.float32) >= np.float32(threshold))


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
    held_out: dict[str, int]
    """Photos of each split behind calibration and threshold; empty for a version that kept no record of them."""
    readiness: Readiness
    """What the labels were worth before training."""

    @property
    def threshold(self) -> float:
        """The probability in [0, 1] from which the answer is yes."""
        return float(self.gate["figures"]["threshold"])

    @property
    def verdict(self) -> Verdict:
        """The gate's last word."""
        return read_verdict(self.gate)

    @property
    def today(self) -> bool:
        """Whether the gate that judged it was of this version: one before had another rule and no three states."""
        return "outcome" in self.gate["figures"]

    @cached_property
    def judged(self) -> Judged:
        """The test photos that the verdict counts."""
        labels = self.labels
        against: Reference = self.gate["figures"]["outcome"]["against"] if self.today else "either"
        rows = np.flatnonzero(labels.test & labels.fair if against == "people" else labels.test)
        truth = labels.teacher_yes if against == "teacher" else labels.reference
        return Judged(against, rows, labels.student[rows], truth[rows])

    @cached_property
    def cut(self) -> dict[str, Any] | None:
        """What the model says of its threshold, by the names of `export.threshold.Cut`; None where it says nothing.

        Whoever made the file wrote it: its values may be of any type.
        """
        said = json.loads(self.model.get("cut") or "null")
        return said if isinstance(said, dict) else None

    @property
    def teacher(self) -> dict[str, str]:
        """`name`, `key` and `license` of the teacher that labeled; empty where the model does not say."""
        said = json.loads(self.model.get("teacher") or "{}")
        return {"name": self.scenario.teacher.model, "key": "", "license": ""} | {
            k: str(v or "") for k, v in said.items()
        }

    def pick(self, name: str, default: Any = None) -> Any:
        """One of the gate's clauses by name, or `default`."""
        return next((clause for clause in self.gate["clauses"] if clause["name"] == name), default)


def gather(scenario: Scenario, run: RunFolder) -> Evidence:
    """Read the run's files.

    Raises:
        RunError: An earlier stage has not made its file, or gate.json holds no verdict; the message names the command
            that makes it.
        ModelError: model.onnx is not a model of this factory.
    """
    gate = run.json(GATE, "gate")
    try:
        read_verdict(gate)
    except ValueError as error:
        raise RunError(f"{run.file(GATE)}: {error}", hint=f"judge it again: factory gate {run.path}") from None
    labels = run.need(LABELS, "label")
    model = run.need(MODEL, "export")
    rungs, cut = run.events("rungs"), gate["figures"].get("teacher_threshold", 0.5)
    return Evidence(
        scenario=scenario,
        folder=run.path,
        labels=read_labels(labels, run.need(PREDICTIONS, "gate"), cut),
        files=_read_files(run.need(IMAGES, "label")),
        gate=gate,
        model=dict(Model.load(model, threads=1).metadata),
        training=read_training(run.file(TRAINING)),
        seconds={e["stage"]: float(e["seconds"]) for e in run.events("done") if "stage" in e and "seconds" in e},
        rungs=list(rungs[-1].get("rows", [])) if rungs else [],
        hashes={LABELS: sha256_file(labels), MODEL: sha256_file(model), IMAGES: sha256_file(run.file(IMAGES))},
        held_out=_count_held_out(run.file(HELD_OUT)),
        readiness=assess(run.table(LABELS, "label")),
    )


def read_labels(labels: Path, predictions: Path | None = None, teacher_threshold: float = 0.5) -> Labels:
    """Join labels.parquet and, where there are any, predictions.parquet on the images' sha256.

    Args:
        labels: labels.parquet.
        predictions: predictions.parquet.
        teacher_threshold: The teacher says yes from this probability on; gate.json has it.
    """
    table = pq.read_table(labels)
    phrases, probe = (json.loads(table.schema.metadata[name]) for name in (b"phrases", b"probe"))
    asked = pq.read_table(predictions, columns=["sha256", "probability"]).to_pydict() if predictions else {}
    said = dict(zip(asked.get("sha256", ()), asked.get("probability", ()), strict=True))
    return Labels(
        path=table["path"].to_pylist(),
        split=np.array(table["split"].to_pylist(), dtype=np.str_),
        teacher=_floats(table["p_teacher"]),
        student=np.array([said.get(sha, np.nan) for sha in table["sha256"].to_pylist()], np.float64),
        gold=_floats(table["gold"]),
        scores=np.array(table["scores"].to_pylist(), np.float64).reshape(len(table), -1),
        positive=tuple(phrases["positive"]),
        negative=tuple(phrases["negative"]),
        probe=probe["says"],
        bettered=bool(probe.get("used")),
        picked=table["picked"].to_numpy().astype(bool),
        teacher_threshold=teacher_threshold,
    )


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.array(
        column.cast(pa.float64() if not pa.types.is_boolean(column.type) else pa.int8()).to_pylist(), np.float64
    )


def _count_held_out(path: Path) -> dict[str, int]:
    if not path.is_file():
        return {}
    return dict(Counter(pq.read_table(path, columns=["split"])["split"].to_pylist()))


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
