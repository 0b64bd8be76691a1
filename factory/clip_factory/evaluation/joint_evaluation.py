"""Several candidates on the same photos, by the same labels: the one place where it is decided which those are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clip_factory.errors import GoldError, RunError
from clip_factory.evaluation import gate_comparison
from clip_factory.evaluation.candidates import Candidate, common_region
from clip_factory.evaluation.comparison_text import AGAINST_TEACHER, BY_PEOPLE
from clip_factory.evaluation.difference_intervals import Interval, area
from clip_factory.evaluation.labeled_folder import read_folder
from clip_factory.evaluation.measure import left_out
from clip_factory.evaluation.model_comparison import Comparison, compare_answers
from clip_factory.evaluation.shared_test_photos import RunTables, read_run_tables, shared_photos
from clip_factory.statistics import Confusion


@dataclass(frozen=True, eq=False)
class Sample:
    """Photos that measure all candidates; arrays have length N, K is the number of candidates."""

    files: list[Path]
    names: list[str]
    """What people call the photos."""
    truth: np.ndarray
    """bool `(N,)`, whether the right answer is yes."""
    group: np.ndarray
    """int `(N,)`, equal for near-duplicates."""
    probability: np.ndarray
    """float `(K, N)`, of yes."""
    by_people: bool
    """Whether people said what is right; else the teacher did."""
    remarks: list[str]
    """What was left out, a sentence each."""
    unreadable: list[tuple[str, str]]
    """Path and reason of labeled photos that cannot be read."""


@dataclass(frozen=True, eq=False)
class JointEvaluation:
    """Candidates compared: each of them after the first against the first."""

    candidates: list[Candidate]
    sample: Sample

    @property
    def answers(self) -> np.ndarray:
        """Each candidate's answers at its own threshold, bool `(K, N)`."""
        thresholds = np.array([one.model.threshold for one in self.candidates])
        return np.asarray(self.sample.probability >= thresholds[:, None])

    @property
    def reference(self) -> str:
        """By whose word."""
        return BY_PEOPLE if self.sample.by_people else AGAINST_TEACHER

    @property
    def counts(self) -> list[Confusion]:
        """Each candidate's answers against the truth."""
        return [Confusion.of(self.sample.truth, answers) for answers in self.answers]

    @property
    def areas(self) -> list[tuple[float, Interval] | None]:
        """Each candidate's area under the ROC curve, with its interval."""
        sample = self.sample
        return [area(sample.truth, p, sample.group) for p in sample.probability]

    @property
    def comparisons(self) -> list[Comparison]:
        """Each candidate after the first against the first."""
        sample, answers = self.sample, self.answers
        return [
            compare_answers(
                sample.truth,
                answers[0],
                answers[i],
                sample.probability[0],
                sample.probability[i],
                (self.candidates[0].name, self.candidates[i].name),
                sample.group,
            )
            for i in range(1, len(self.candidates))
        ]

    def line(self, comparison: Comparison) -> str:
        """The verdict in one line, with by whose word; of more than two, with whom it is about."""
        pair = f"{comparison.names[1]} against {comparison.names[0]}: " if len(self.candidates) > 2 else ""
        return f"{pair}{comparison.line}, {self.reference}"

    def as_json(self) -> dict[str, Any]:
        """All of it as a tree that JSON can hold."""
        rows = zip(self.candidates, self.counts, self.areas, strict=True)
        comparisons = self.comparisons
        return {
            "reference": "people" if self.sample.by_people else "teacher",
            "photos": len(self.sample.files),
            "contenders": [
                {
                    "name": one.name,
                    "sha256": one.model.sha256,
                    "threshold": one.model.threshold,
                    "confusion": asdict(counts),
                    "auc": ranking and {"figure": ranking[0], "interval": ranking[1]},
                }
                for one, counts, ranking in rows
            ],
            "comparisons": [gate_comparison.as_json(one, self.line(one)) for one in comparisons],
            "remarks": self.sample.remarks,
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.sample.unreadable],
        }


def evaluate_on_labels(candidates: Sequence[Candidate], gold: Path, root: Path) -> JointEvaluation:
    """Compare on a labeled folder; photos that have shaped any of the candidates are left out for all.

    Raises:
        RunError: There is one candidate alone.
        GoldError: The labels cannot be used, or no photo is left.
        ImagesError: There are no photos.
    """
    _require_two(candidates)
    folder = read_folder(gold, root, common_region(candidates))
    seen = np.any([one.was_used(folder.sha256) for one in candidates], axis=0)
    kept = np.flatnonzero(~seen)
    if not len(kept):
        raise GoldError(
            f"{gold}: one of those compared was trained on each of the {len(seen)} labeled photos",
            hint="label photos that none of them has seen, or of their test splits: factory review --prove",
        )
    files = [root / folder.path[i] for i in kept]
    p, reasons = _predict_all(candidates, files)
    readable = ~np.isnan(p).any(axis=0)
    remarks = list(left_out(folder, int(seen.sum()), "one of them"))
    unknown = [one.name for one in candidates if one.run is None]
    if unknown:
        remarks.append(f"What {_and(unknown)} learned from is not known: photos of it among these would flatter it.")
    sample = Sample(
        files=[file for file, good in zip(files, readable, strict=True) if good],
        names=[folder.path[i] for i in kept[readable]],
        truth=folder.truth[kept[readable]],
        group=folder.group[kept[readable]],
        probability=p[:, readable],
        by_people=True,
        remarks=remarks,
        unreadable=[(folder.path[kept[i]], reason) for i, reason in reasons.items()],
    )
    return JointEvaluation(list(candidates), sample)


def _require_two(candidates: Sequence[Candidate]) -> None:
    if len(candidates) < 2:
        raise RunError("one alone cannot be compared", hint="name two or more: factory compare RUN RUN")


def _predict_all(candidates: Sequence[Candidate], files: Sequence[Path]) -> tuple[np.ndarray, dict[int, str]]:
    predicted = [one.predict(files) for one in candidates]
    return np.stack([p for p, _ in predicted]), {i: reason for _, reasons in predicted for i, reason in reasons.items()}


def evaluate_runs(candidates: Sequence[Candidate]) -> JointEvaluation:
    """Compare runs by what people said of photos of their test splits that none of them has seen otherwise.

    Without such labels they are held against their teacher, if they have the same one.

    Raises:
        RunError: One of them is no run, or is alone; they share no photo, or nothing says what is right.
    """
    _require_two(candidates)
    bare = [one.name for one in candidates if one.run is None]
    if bare:
        raise RunError(
            f"{_and(bare)}: a model alone does not say which photos it has not seen",
            hint="give labels and their photos: --gold truth.csv --images DIR",
        )
    runs = read_run_tables(candidates)
    chosen = shared_photos(runs)
    p, reasons = _stored_or_predicted(candidates, runs, chosen.sha256, chosen.files)
    readable = ~np.isnan(p).any(axis=0)
    sample = Sample(
        files=[file for file, good in zip(chosen.files, readable, strict=True) if good],
        names=[name for name, good in zip(chosen.names, readable, strict=True) if good],
        truth=chosen.truth[readable],
        group=np.unique(np.array(chosen.group)[readable], return_inverse=True)[1],
        probability=p[:, readable],
        by_people=chosen.by_people,
        remarks=chosen.remarks,
        unreadable=[(chosen.names[i], reason) for i, reason in reasons.items()],
    )
    return JointEvaluation(list(candidates), sample)


def _stored_or_predicted(
    candidates: Sequence[Candidate], runs: Sequence[RunTables], sha256: Sequence[str], files: Sequence[Path]
) -> tuple[np.ndarray, dict[int, str]]:
    """Probabilities from predictions.parquet where a run has them, else asked of its model now."""
    p = np.array([[run.probability.get(sha, np.nan) for sha in sha256] for run in runs], np.float64)
    reasons: dict[int, str] = {}
    for k, one in enumerate(candidates):
        open_ones = np.flatnonzero(np.isnan(p[k]))
        comparison, reason = one.predict(files[i] for i in open_ones.tolist())
        p[k, open_ones] = comparison
        reasons |= {int(open_ones[i]): reason for i, reason in reason.items()}
    return p, reasons


def _and(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
