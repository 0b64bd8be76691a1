"""The student's logits for photos that it never saw: val, and of train what each member left out (cross-fitting).

Calibration and threshold rest on these. A member that left photos out has a scale of its own; the averaged network,
which is what is exported, another. None of them was trained on val, so there each member's logits are brought to mean
and spread of the averaged network's, which takes no labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from clip_factory.images.photo import read_squares
from clip_factory.labels import Labels
from clip_factory.run_folder import HELD_OUT, RunFolder
from clip_factory.runtime.atomic import atomic
from clip_factory.runtime.region import Region
from clip_factory.students.network import Student
from clip_factory.students.training_data import PhotoDataModule

BATCH = 64
MIN_PHOTOS = 10
"""Val photos from which means and spreads are compared; with fewer, a member's logits stand as they are."""

SCHEMA = pa.schema([("sha256", pa.string()), ("split", pa.string()), ("logit", pa.float64())])
"""held_out.parquet: one row a photo of val, and of those of train that a member left out."""


@dataclass(frozen=True)
class MemberLogits:
    """A member's logits for photos that it was not trained on."""

    sha256: list[str]
    """M photos of train."""
    train: np.ndarray
    """float64 `(M,)`, for these."""
    val: np.ndarray
    """float64 `(N,)`, for the val photos."""


@torch.inference_mode()
def logits(network: Student, pixels: np.ndarray) -> np.ndarray:
    """uint8 `(N, S, S, 3)` -> float64 `(N,)`."""
    batches = [network(batch) for batch in torch.split(torch.from_numpy(pixels), BATCH)]
    return np.asarray(torch.cat(batches).double().numpy()) if batches else np.zeros(0)


def member_logits(
    networks: Sequence[Student],
    photos: PhotoDataModule,
    root: Path,
    run: RunFolder,
    size: int,
    region: Region | None = None,
) -> list[MemberLogits]:
    """Each member's logits for the fold of train that it left out, decoded as the exported model will decode photos."""
    train = Labels.of_run(run).of_split("train")
    members = []
    for number, network in enumerate(networks):
        rows = train.select(photos.folds == number)
        pixels = read_squares(rows.photos(root, region), size)
        ready = network.to(memory_format=torch.channels_last).eval()
        val = logits(ready, photos.val.images.numpy())
        members.append(MemberLogits(rows.sha256.tolist(), logits(ready, pixels), val))
    return members


def rescale(member: MemberLogits, averaged: np.ndarray) -> np.ndarray:
    """A member's logits `(M,)` in the scale of the averaged network, whose logits of the val photos are `averaged`."""
    spread = member.val.std()
    if len(averaged) < MIN_PHOTOS or not spread:
        return member.train
    return np.asarray((member.train - member.val.mean()) * (averaged.std() / spread) + averaged.mean())


def write_held_out(student: Student, photos: PhotoDataModule, members: Sequence[MemberLogits], run: RunFolder) -> None:
    """Write held_out.parquet, in the scale of `student`, the average of the members."""
    val = Labels.of_run(run).of_split("val").sha256.tolist()
    averaged = logits(student.to(memory_format=torch.channels_last).eval(), photos.val.images.numpy())
    names = [*val, *(name for member in members for name in member.sha256)]
    values = np.concatenate([averaged, *(rescale(member, averaged) for member in members)])
    splits = ["val"] * len(val) + ["train"] * (len(names) - len(val))
    table = pa.table({"sha256": names, "split": splits, "logit": values}, schema=SCHEMA)
    with atomic(run.file(HELD_OUT)) as temporary:
        pq.write_table(table, temporary)
