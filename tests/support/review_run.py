"""A run to review: that of `make_run` with vectors that know the answer, or one that `factory label` has made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from clip_factory import api
from clip_factory import run_folder as files
from clip_factory.run_folder import RunFolder
from clip_factory.scenario import Scenario
from clip_factory.store import EmbeddingStore
from support.make_run import TEACHER, RunKind, make_run

DIM = 16
UNLABELED = RunKind(images=120, gold=0)


def make_review(folder: Path, kind: RunKind = UNLABELED) -> tuple[RunFolder, Path, dict[str, bool]]:
    """The run, its store, and the truth by sha256."""
    _, run = make_run(folder, kind)
    table = pq.read_table(run.file(files.LABELS), columns=["sha256", "path"])
    names = table["sha256"].to_pylist()
    truth = {sha: "/b/" in path for sha, path in zip(names, table["path"].to_pylist(), strict=True)}
    vectors = np.random.default_rng(3).normal(0, 0.4, (len(names), DIM)).astype(np.float32)
    vectors[:, 0] += [1.0 if truth[sha] else -1.0 for sha in names]
    store = folder / "store"
    with EmbeddingStore(store).writer(TEACHER, {"name": "offline"}) as writer:
        writer.add(names, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return run, store, truth


def label_shapes(folder: Path, shapes: Path, tiny_clip: Path) -> tuple[RunFolder, Path]:
    """A run of conftest's `shapes` labeled by the tiny CLIP, and its store; what it takes for a disc means nothing."""
    run = api.label(
        Scenario(name="disc", positive=("disc",), negative=("bar", "stripe")),
        images=shapes / "photos",
        teacher=f"local-dir:{tiny_clip}",
        runs=folder / "runs",
        store=folder / "store",
        go_on=True,
    )
    return RunFolder(run.path), folder / "store"
