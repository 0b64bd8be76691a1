"""Who is measured: a model file, a release or a run; what it answers at, and what it has seen before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from clip_factory.errors import RunError
from clip_factory.labels import Labels
from clip_factory.run_folder import MODEL, SCENARIO, RunFolder, find_run, means_run
from clip_factory.runtime import Model
from clip_factory.runtime.region import Region
from clip_factory.scenario import load

Loader = Callable[[Path], Model]
"""Makes a model of a file's path, or of a reference to a registry."""
USED = ("train", "val")
"""Splits that have shaped a model: trained on the one, its threshold and calibration fitted on both."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One of those that are measured."""

    name: str
    model: Model
    run: RunFolder | None = None
    """None: nobody knows what it was trained on."""
    splits: dict[str, str] = field(default_factory=dict)
    """sha256 -> split of the run's photos; empty without a run."""

    @property
    def images(self) -> Path | None:
        """The folder of the run's photos; None without a run."""
        return None if self.run is None else Path(load(self.run.file(SCENARIO)).images.path or ".")

    def was_used(self, sha256: Iterable[str]) -> np.ndarray:
        """Whether each photo has shaped the model, bool `(N,)`; all false where that is not known."""
        return np.array([self.splits.get(sha) in USED for sha in sha256], bool)

    def predict(self, files: Iterable[Path]) -> tuple[np.ndarray, dict[int, str]]:
        """The probability of yes of each photo, `(N,)`, NaN where it cannot be read; and why not, by index."""
        predictions = list(self.model.iter_predict(files))
        p = np.array([np.nan if one.probability is None else one.probability for one in predictions], np.float64)
        return p, {i: one.error for i, one in enumerate(predictions) if one.error is not None}


def common_region(candidates: Sequence[Candidate]) -> Region | None:
    """The part of photos that all candidates see; the whole, as None, where they see different ones."""
    regions = {one.model.region for one in candidates}
    return regions.pop() if len(regions) == 1 else None


def find_candidate(target: Path, loader: Loader) -> Candidate:
    """The candidate that an argument means.

    Args:
        target: A run folder, a folder of runs, `latest`, a model file, or a reference to a registry.
        loader: What loads the last two.

    Raises:
        RunError: It is a folder without a run, or a run without a model.
        ModelError: It is not a model of this factory.
    """
    if not means_run(target):
        return Candidate(str(target), loader(target))
    run = find_run(target)
    model = Model.load(run.need(MODEL, "export"))
    labels = Labels.of_run(run)
    splits = dict(zip(labels.sha256.tolist(), labels.split.tolist(), strict=True))
    return Candidate(run.path.name, model, run, splits)


def find_candidates(targets: Sequence[Path], loader: Loader) -> list[Candidate]:
    """The candidates that arguments mean, under names that tell them apart.

    Raises:
        RunError: Two are the same.
        FactoryError: As `find_candidate`.
    """
    candidates = [find_candidate(target, loader) for target in targets]
    names = [one.name for one in candidates]
    long = [str(target if one.run is None else one.run.path) for one, target in zip(candidates, targets, strict=True)]
    renamed = [
        replace(one, name=long[i] if names.count(one.name) > 1 else one.name) for i, one in enumerate(candidates)
    ]
    for i, one in enumerate(renamed):
        if one.name in [other.name for other in renamed[:i]]:
            raise RunError(f"{one.name} is named twice", hint="name two different runs, releases or files")
    return renamed
