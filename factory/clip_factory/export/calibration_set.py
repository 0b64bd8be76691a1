"""What the student says of photos that it was not trained on, beside what is right: calibration and cut rest on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from clip_factory.export.calibration import Truth, truth
from clip_factory.run_folder import HELD_OUT, LABELS, RunFolder
from clip_factory.students.training_data import gold_of


@dataclass(frozen=True)
class Unseen:
    """The photos of held_out.parquet, M rows, and val alone."""

    sha256: list[str]
    logits: np.ndarray
    """float64 `(M,)`, in the scale of the averaged network."""
    truth: Truth
    groups: np.ndarray
    """int `(M,)`, near-duplicates share one."""
    val_truth: Truth
    """Of the val photos, in the order of labels.parquet."""


def unseen(run: RunFolder) -> Unseen:
    """Read held_out.parquet and labels.parquet; labels of the test split are left alone.

    Raises:
        RunError: The run has no labels, or no student yet.
    """
    said = run.table(HELD_OUT, "train")
    labels = run.table(LABELS, "label")
    labels = labels.filter(pc.not_equal(labels["split"], "test"))
    p_teacher, picked = labels["p_teacher"].to_numpy(), labels["picked"].to_numpy(zero_copy_only=False)
    right = truth(gold_of(labels), p_teacher, ~picked)
    where = {sha256: row for row, sha256 in enumerate(labels["sha256"].to_pylist())}
    names = said["sha256"].to_pylist()
    rows = np.array([where[sha256] for sha256 in names], int)
    val = np.array(labels["split"].to_pylist()) == "val"
    return Unseen(names, said["logit"].to_numpy(), right.of(rows), labels["group"].to_numpy()[rows], right.of(val))
