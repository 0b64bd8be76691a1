"""What review reads of a run, once: the photos, what the teacher's words say of them, what the student says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from clip_factory import run_folder as files
from clip_factory.gate.power import Bars
from clip_factory.gold import gold_csv as gold
from clip_factory.gold.journal import Journal
from clip_factory.label_sources import probe
from clip_factory.run_folder import RunFolder
from clip_factory.runtime import Model
from clip_factory.scenario import Scenario, load
from clip_factory.store import EmbeddingStore


@dataclass(frozen=True)
class Photos:
    """The labeled photos of a run, by sha256; arrays and lists have length N."""

    sha256: list[str]
    paths: list[str]
    """POSIX, relative to the root of the images."""
    groups: np.ndarray
    splits: np.ndarray
    logits: np.ndarray
    """The zero-shot log-odds of yes."""
    vectors: np.ndarray
    """float32 `(N, D)`, the teacher's."""
    components: np.ndarray
    """`(N, K)` principal components of the vectors."""
    student: np.ndarray
    """The shipped file's probability of yes, NaN where it was not asked."""
    threshold: float
    """The student says yes from this probability on."""
    gold: dict[str, bool]
    """The labels of the scenario's gold file, by sha256."""
    root: Path = Path()
    """The folder that `paths` start at."""
    bars: Bars = field(default_factory=Bars)
    """What the gate asks people's labels to show."""
    run: str = "RUN"
    """The run folder, as commands name it."""

    @classmethod
    def of(cls, run: RunFolder, store: Path) -> tuple[Photos, Journal]:
        """Read a run; the journal is the one that its scenario names.

        Raises:
            RunError: The run has no labels.
            StoreError: Its vectors are not in the store.
        """
        table = run.table(files.LABELS, "label")
        about = {key: json.loads((table.schema.metadata or {})[key]) for key in (b"phrases", b"teacher")}
        sha256s = table["sha256"].to_pylist()
        scores = np.array(table["scores"].to_pylist(), np.float32)
        logits = probe.log_odds(scores, len(about[b"phrases"]["positive"]))
        vectors = EmbeddingStore(store).get(about[b"teacher"]["key"], sha256s)
        scenario = load(run.file(files.SCENARIO))
        student, threshold = _student(run, sha256s)
        photos = cls(
            sha256=sha256s,
            paths=table["path"].to_pylist(),
            groups=table["group"].to_numpy(),
            splits=np.array(table["split"].to_pylist(), dtype=np.str_),
            logits=logits,
            vectors=vectors,
            components=probe.features(vectors, logits)[:, :-1],
            student=student,
            threshold=threshold,
            gold=_gold(scenario, run),
            root=Path(scenario.images.path or "."),
            bars=Bars.of(scenario),
            run=str(run.path),
        )
        return photos, Journal(Path(scenario.answers or run.path / "answers.jsonl"))

    @property
    def duplicates(self) -> np.ndarray:
        """How many photos are in the group of each."""
        _, where, counts = np.unique(self.groups, return_inverse=True, return_counts=True)
        return np.asarray(counts[where], np.int32)


def _gold(scenario: Scenario, run: RunFolder) -> dict[str, bool]:
    return gold.read_gold(Path(scenario.gold), run.table(files.IMAGES, "label")) if scenario.gold else {}


def _student(run: RunFolder, sha256s: list[str]) -> tuple[np.ndarray, float]:
    """Probabilities of the shipped file, and its threshold; none where the run has not come so far."""
    if not (run.file(files.PREDICTIONS).is_file() and run.file(files.MODEL).is_file()):
        return np.full(len(sha256s), np.nan), 0.5
    asked = pq.read_table(run.file(files.PREDICTIONS), columns=["sha256", "probability"])
    said = dict(zip(asked["sha256"].to_pylist(), asked["probability"].to_pylist(), strict=True))
    return np.array([said.get(sha, np.nan) for sha in sha256s]), Model.load(run.file(files.MODEL), threads=1).threshold
