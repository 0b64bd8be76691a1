"""Logits for photos that the student was not trained on, beside the right answers: what calibration is fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clip_factory.exporters.calibration import SoftTruth, soft_truth
from clip_factory.labels import Labels
from clip_factory.run_folder import HELD_OUT, RunFolder


@dataclass(frozen=True)
class HeldOut:
    """The photos of held_out.parquet, M rows, and val alone."""

    sha256: list[str]
    logits: np.ndarray
    """float64 `(M,)`, in the scale of the averaged network."""
    truth: SoftTruth
    groups: np.ndarray
    """int `(M,)`, near-duplicates share one."""
    val_truth: SoftTruth
    """Of the val photos, in the order of labels.parquet."""


def held_out(run: RunFolder) -> HeldOut:
    """Read held_out.parquet and labels.parquet; labels of the test split are left alone.

    Raises:
        RunError: The run has no labels, or no student yet.
    """
    stored = run.table(HELD_OUT, "train")
    labels = Labels.of_run(run).of_split("train", "val")
    truth = soft_truth(labels.gold, labels.p_teacher, ~labels.picked)
    row_of = {sha256: row for row, sha256 in enumerate(labels.sha256)}
    names = stored["sha256"].to_pylist()
    rows = np.array([row_of[sha256] for sha256 in names], int)
    val_truth = truth.select(labels.split == "val")
    return HeldOut(names, stored["logit"].to_numpy(), truth.select(rows), labels.group[rows], val_truth)
