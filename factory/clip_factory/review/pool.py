"""The pool of a review: the labeled photos of a run, with what teacher and student answer, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clip_factory import run_folder as files
from clip_factory.errors import RunError
from clip_factory.gate.power import Requirements
from clip_factory.gold import gold_labels
from clip_factory.gold.journal import Journal
from clip_factory.label_sources.probe import Probe, features
from clip_factory.label_sources.refinement import Refinement, load_refinement
from clip_factory.label_sources.source import Phrases, Scores
from clip_factory.label_sources.visual_evidence import VisualEvidence, read_evidence
from clip_factory.labels import Labels
from clip_factory.run_folder import RunFolder
from clip_factory.runtime import Model
from clip_factory.scenario import load
from clip_factory.store import EmbeddingStore


@dataclass(frozen=True, eq=False)
class Pool:
    """The labeled photos of a run, by sha256; arrays and lists have length N."""

    sha256: list[str]
    paths: list[str]
    """POSIX, relative to the root of the images."""
    groups: np.ndarray
    """int32 `(N,)`: near-duplicates share a number."""
    splits: np.ndarray
    """str `(N,)`: train, val or test."""
    log_odds: np.ndarray
    """float64 `(N,)`: the label source's, of yes."""
    vectors: np.ndarray
    """float32 `(N, D)`, the encoder's."""
    components: np.ndarray
    """float64 `(N, K)`: principal components of the vectors."""
    student: np.ndarray
    """float64 `(N,)`: the model file's probability of yes, NaN where it is not known."""
    threshold: float
    """The student says yes from this probability on."""
    gold_file: dict[str, bool]
    """The labels of the scenario's gold file, by sha256."""
    root: Path = Path()
    """The folder that `paths` start at."""
    requirements: Requirements = field(default_factory=Requirements)
    """What the gate asks people's labels to show."""
    run: str = "RUN"
    """The run folder, as commands name it."""
    teacher_answers: np.ndarray | None = None
    """bool `(N,)`: the teacher's answers in labels.parquet; needed for `student_figures` alone."""
    refinement: Refinement = field(default_factory=Probe)
    source: str = "zero-shot"
    """Name of the label source."""
    evidence: Mapping[str, VisualEvidence] = field(default_factory=dict)
    """What it shows for its answers, by sha256; empty where it shows nothing of the kind."""
    positive: tuple[str, ...] = ()
    """Phrases for yes."""

    @property
    def duplicates(self) -> np.ndarray:
        """int32 `(N,)`: how many photos are in the group of each."""
        _, where, counts = np.unique(self.groups, return_inverse=True, return_counts=True)
        return np.asarray(counts[where], np.int32)


def read_pool(run: RunFolder, store: Path) -> tuple[Pool, Journal]:
    """Read a run; the journal is the one that its scenario names.

    Raises:
        RunError: The run has no labels, or no photos.
        StoreError: Its vectors are not in the store.
        ScenarioError: Its refinement is not known here.
    """
    labels, scenario = Labels.of_run(run), load(run.file(files.SCENARIO))
    sha256s = labels.sha256.tolist()
    if not sha256s:
        raise RunError(f"{run.path} has no photos to review", hint=f"label it again: factory label {run.path}")
    log_odds = Scores(Phrases(labels.positive, labels.negative), labels.scores).log_odds
    vectors = EmbeddingStore(store).get(labels.teacher["key"], sha256s)
    student, threshold = _student(run, sha256s)
    pool = Pool(
        sha256=sha256s,
        paths=labels.path.tolist(),
        groups=labels.group,
        splits=labels.split,
        log_odds=log_odds,
        vectors=vectors,
        components=features(vectors, log_odds)[:, :-1],
        student=student,
        threshold=threshold,
        gold_file=gold_labels.read_file(scenario, run.table(files.IMAGES, "label")) if scenario.gold else {},
        root=Path(scenario.images.path or "."),
        requirements=Requirements.of(scenario),
        run=str(run.path),
        teacher_answers=labels.teacher_answers,
        refinement=load_refinement(scenario),
        source=scenario.labels.name,
        evidence=read_evidence(run),
        positive=scenario.positive,
    )
    return pool, Journal(Path(scenario.answers or run.path / "answers.jsonl"))


def _student(run: RunFolder, sha256s: list[str]) -> tuple[np.ndarray, float]:
    """Probabilities of the model file, and its threshold; none where the run has not come so far."""
    if not (run.file(files.PREDICTIONS).is_file() and run.file(files.MODEL).is_file()):
        return np.full(len(sha256s), np.nan), 0.5
    table = run.table(files.PREDICTIONS, "evaluate", ["sha256", "probability"])
    by_sha256 = dict(zip(table["sha256"].to_pylist(), table["probability"].to_pylist(), strict=True))
    threshold = Model.load(run.file(files.MODEL), threads=1).threshold
    return np.array([by_sha256.get(sha, np.nan) for sha in sha256s]), threshold
