"""What the student says of photos that it never saw: val, and of train what each member left out (cross-fitting).

Calibration and threshold rest on these. A member that left photos out speaks in its own scale; the averaged network,
which is what leaves the factory, in another. On val all of them are strangers, so there each member's logits are
brought to mean and spread of the averaged network's, which takes no labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from clip_factory.run_folder import HELD_OUT, LABELS, RunFolder, atomic
from clip_factory.students.network import Student
from clip_factory.students.training_data import Photos, decode

BATCH = 64
FEWEST = 10
"""Val photos from which means and spreads are compared; with fewer, a member's logits stand as they are."""

SCHEMA = pa.schema([("sha256", pa.string()), ("split", pa.string()), ("logit", pa.float64())])
"""held_out.parquet: one row a photo of val, and of those of train that a member left out."""


@dataclass(frozen=True)
class LeftOut:
    """A member's logits."""

    sha256: list[str]
    """M photos of train that it was not trained on."""
    logits: np.ndarray
    """float64 `(M,)`, for these."""
    val: np.ndarray
    """float64 `(N,)`, for the val photos."""


@torch.inference_mode()
def logits(network: Student, pixels: np.ndarray) -> np.ndarray:
    """uint8 `(N, S, S, 3)` -> float64 `(N,)`."""
    parts = [network(part) for part in torch.split(torch.from_numpy(pixels), BATCH)]
    return np.asarray(torch.cat(parts).double().numpy()) if parts else np.zeros(0)


def left_out(networks: Sequence[Student], photos: Photos, root: Path, run: RunFolder, size: int) -> list[LeftOut]:
    """What each member says of the part of train that it left out, decoded as the shipped model will decode photos."""
    labels = run.table(LABELS, "label")
    train = labels.filter(pc.equal(labels["split"], "train")).select(["sha256", "path"])
    found = []
    for number, network in enumerate(networks):
        rows = train.filter(pa.array(photos.parts == number))
        pixels = decode([root / path for path in rows["path"].to_pylist()], size)
        ready = network.to(memory_format=torch.channels_last).eval()
        val = logits(ready, photos.val.images.numpy())
        found.append(LeftOut(rows["sha256"].to_pylist(), logits(ready, pixels), val))
    return found


def in_scale_of(mixed: np.ndarray, member: LeftOut) -> np.ndarray:
    """A member's logits `(M,)` in the scale of the averaged network, whose logits of the val photos are `mixed`."""
    spread = member.val.std()
    if len(mixed) < FEWEST or not spread:
        return member.logits
    return np.asarray((member.logits - member.val.mean()) * (mixed.std() / spread) + mixed.mean())


def write(student: Student, photos: Photos, members: Sequence[LeftOut], run: RunFolder) -> None:
    """Write held_out.parquet, in the scale of `student`, the average of the members."""
    labels = run.table(LABELS, "label")
    val = labels.filter(pc.equal(labels["split"], "val"))["sha256"].to_pylist()
    mixed = logits(student.to(memory_format=torch.channels_last).eval(), photos.val.images.numpy())
    names = [*val, *(name for member in members for name in member.sha256)]
    values = np.concatenate([mixed, *(in_scale_of(mixed, member) for member in members)])
    splits = ["val"] * len(val) + ["train"] * (len(names) - len(val))
    table = pa.table({"sha256": names, "split": splits, "logit": values}, schema=SCHEMA)
    with atomic(run.file(HELD_OUT)) as temporary:
        pq.write_table(table, temporary)
