"""Everything a report says, read once from the run folder: the files as arrays and plain values."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clip_factory.errors import RunError
from clip_factory.gate.verdict import Verdict
from clip_factory.gate.verdict import read as read_verdict
from clip_factory.label_sources.probabilities import log_odds, sigmoid
from clip_factory.label_sources.visual_evidence import VisualEvidence, read_evidence
from clip_factory.labels import ANSWER_COLUMNS, Labels, hard_labels
from clip_factory.readiness import Readiness, assess
from clip_factory.run_folder import GATE, HELD_OUT, IMAGES, LABELS, MODEL, PREDICTIONS, TRAINING, RunFolder, sha256_file
from clip_factory.runtime import Model
from clip_factory.scenario import Scenario
from clip_factory.statistics import Confusion

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Reference = Literal["people", "teacher", "either"]
"""Whose word is right: people's, the teacher's, or people's where there is one, else the teacher's."""


ASKED = ["sha256", "probability"]
"""Columns of predictions.parquet."""
SEEN = ["path", "sha256", "group", "reason"]
"""Columns of images.parquet that a report needs."""


@dataclass(frozen=True)
class LabeledPhotos:
    """The labeled images, one entry for each distinct content; arrays have length N."""

    sha256: list[str]
    path: list[str]
    """POSIX, relative to the root of the images."""
    split: NDArray[np.str_]
    """`train`, `val` or `test`."""
    teacher: Floats
    """The teacher's probability of yes, in [0, 1]."""
    student: Floats
    """The exported file's probability of yes, in [0, 1]; NaN where it was not asked (the training images)."""
    gold: Floats
    """A person's label: 1 yes, 0 no, NaN where there is none."""
    scores: Floats
    """`(N, P)` probability of each phrase, or of the answers yes and no; the positive ones first."""
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    probe: str
    """What refinement did to the teacher's labels, in a sentence."""
    refined: bool
    """Whether it changed the teacher's probabilities."""
    picked: Flags
    """`(N,)` whether a person was asked because the photo looked doubtful."""
    teacher_threshold: float = 0.5
    """The teacher says yes from this probability on."""
    evidence: Mapping[str, VisualEvidence] = field(default_factory=dict)
    """What the label source shows for its answers, by sha256; empty where it shows nothing of the kind."""
    evidence_positive: tuple[str, ...] = ()
    """Phrases for yes that may stand in it."""

    @property
    def by_phrases(self) -> bool:
        """Whether the label source compared photos with phrases; others answer yes and no."""
        return (self.positive, self.negative) != ANSWER_COLUMNS

    @cached_property
    def words(self) -> Floats:
        """`(N,)` the label source's probability of yes, before refinement, in [0, 1]."""
        return sigmoid(log_odds(self.scores, len(self.positive)))

    @cached_property
    def labeled(self) -> Flags:
        """`(N,)` whether a person has labeled the image."""
        return np.asarray(~np.isnan(self.gold))

    @cached_property
    def reference(self) -> Flags:
        """`(N,)` what counts as right: a person's label where there is one, else the teacher's answer."""
        return hard_labels(self.teacher, self.gold, self.teacher_threshold)

    @cached_property
    def teacher_yes(self) -> Flags:
        """`(N,)` the teacher's answers."""
        return np.asarray(self.teacher >= self.teacher_threshold)

    @cached_property
    def unbiased(self) -> Flags:
        """`(N,)` the photos that a person has labeled, and not because they looked doubtful."""
        return np.asarray(self.labeled & ~self.picked)

    @cached_property
    def asked(self) -> Flags:
        """`(N,)` whether the exported file's probability is known."""
        return ~np.isnan(self.student)

    @cached_property
    def test(self) -> Flags:
        """`(N,)` the test images whose probability is known."""
        return np.asarray((self.split == "test") & self.asked)


@dataclass(frozen=True)
class Files:
    """What the scan found."""

    total: int
    skipped: list[tuple[str, str]]
    """Path and reason of each file that could not be used."""
    copies: int
    """Usable files whose bytes another file has too."""
    groups: int
    """Groups of two or more distinct images that look alike."""
    grouped: int
    """Distinct images in those groups."""


@dataclass(frozen=True)
class EvaluatedPhotos:
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
class RunData:
    """What is known about a run, ready to be written down."""

    scenario: Scenario
    folder: Path
    labels: LabeledPhotos
    files: Files
    gate: dict[str, Any]
    model: dict[str, str]
    """The metadata inside model.onnx."""
    training: dict[str, Floats]
    """Columns of training.csv, one value an epoch; NaN where a cell is empty."""
    seconds: dict[str, float]
    """How long each stage took, in the order in which they ran."""
    precisions: list[dict[str, Any]]
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
    def current_rule(self) -> bool:
        """Whether the gate that judged it was of this version: one before had another rule and no three states."""
        return "outcome" in self.gate["figures"]

    @cached_property
    def evaluated(self) -> EvaluatedPhotos:
        """The test photos that the verdict counts."""
        labels = self.labels
        against: Reference = self.gate["figures"]["outcome"]["against"] if self.current_rule else "either"
        rows = np.flatnonzero(labels.test & labels.unbiased if against == "people" else labels.test)
        truth = labels.teacher_yes if against == "teacher" else labels.reference
        return EvaluatedPhotos(against, rows, labels.student[rows], truth[rows])

    @cached_property
    def threshold_record(self) -> dict[str, Any] | None:
        """How the model's threshold was chosen, as stored in its metadata; None where it does not say.

        Whoever made the file wrote it: its values may be of any type.
        """
        stored = json.loads(self.model.get("cut") or "null")
        return stored if isinstance(stored, dict) else None

    @property
    def teacher(self) -> dict[str, str]:
        """`name`, `key` and `license` of the teacher that labeled; empty where the model does not say."""
        stored = json.loads(self.model.get("teacher") or "{}")
        unknown = {"name": self.scenario.teacher.model, "key": "", "license": ""}
        return unknown | {k: str(v or "") for k, v in stored.items()}

    def clause(self, name: str, default: Any = None) -> Any:
        """One of the gate's clauses by name, or `default`."""
        return next((clause for clause in self.gate["clauses"] if clause["name"] == name), default)


def read_run_data(scenario: Scenario, run: RunFolder) -> RunData:
    """Read the run's files.

    Raises:
        RunError: An earlier stage has not made its file, or gate.json holds no verdict; the message names the command
            that makes it.
        ModelError: model.onnx is not a model of this factory.
    """
    gate = run.json(GATE, "evaluate")
    try:
        read_verdict(gate)
    except ValueError as error:
        raise RunError(f"{run.file(GATE)}: {error}", hint=f"evaluate it again: factory evaluate {run.path}") from None
    labels = run.need(LABELS, "label")
    model = run.need(MODEL, "export")
    precisions, threshold = run.events("rungs"), gate["figures"].get("teacher_threshold", 0.5)
    return RunData(
        scenario=scenario,
        folder=run.path,
        labels=replace(
            read_labels(Labels.of_run(run), run.table(PREDICTIONS, "evaluate", ASKED), threshold),
            evidence=read_evidence(run),
            evidence_positive=scenario.positive,
        ),
        files=_count_files(run.table(IMAGES, "scan", SEEN)),
        gate=gate,
        model=dict(Model.load(model, threads=1).metadata),
        training=read_training(run.file(TRAINING)),
        seconds={e["stage"]: float(e["seconds"]) for e in run.done_events() if "seconds" in e},
        precisions=list(precisions[-1].get("rows", [])) if precisions else [],
        hashes={LABELS: sha256_file(labels), MODEL: sha256_file(model), IMAGES: sha256_file(run.file(IMAGES))},
        held_out=_count_held_out(run),
        readiness=assess(Labels.of_run(run)),
    )


def read_labels(table: Labels, predictions: pa.Table | None = None, teacher_threshold: float = 0.5) -> LabeledPhotos:
    """Join labels and, where there are any, predictions on the images' sha256.

    Args:
        table: The labels of a run.
        predictions: Its predictions.parquet.
        teacher_threshold: The teacher says yes from this probability on; gate.json has it.
    """
    phrases, refinement = table.metadata["phrases"], table.metadata["probe"]
    asked = {} if predictions is None else predictions.select(ASKED).to_pydict()
    stored = dict(zip(asked.get("sha256", ()), asked.get("probability", ()), strict=True))
    return LabeledPhotos(
        sha256=table.sha256.tolist(),
        path=table.path.tolist(),
        split=table.split,
        teacher=table.p_teacher.astype(np.float64),
        student=np.array([stored.get(sha, np.nan) for sha in table.sha256], np.float64),
        gold=table.gold,
        scores=table.scores.astype(np.float64),
        positive=tuple(phrases["positive"]),
        negative=tuple(phrases["negative"]),
        probe=refinement["says"],
        refined=bool(refinement.get("used")),
        picked=table.picked,
        teacher_threshold=teacher_threshold,
    )


def _count_held_out(run: RunFolder) -> dict[str, int]:
    if not run.file(HELD_OUT).is_file():
        return {}
    return dict(Counter(run.table(HELD_OUT, "train", ["split"])["split"].to_pylist()))


def _count_files(table: pa.Table) -> Files:
    rows = list(zip(*(table[name].to_pylist() for name in SEEN), strict=True))
    usable = [(sha, group) for _, sha, group, reason in rows if reason is None]
    contents = set(usable)
    sizes = np.unique([group for _, group in contents], return_counts=True)[1]
    return Files(
        total=len(rows),
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
