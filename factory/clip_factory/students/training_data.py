"""Training data: photos decoded once, targets, weights, teacher vectors; batches fixed by (seed, epoch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from clip_factory.errors import TrainError
from clip_factory.images.photo import read_squares
from clip_factory.labels import Labels, hard_labels
from clip_factory.run_folder import RunFolder
from clip_factory.runtime.region import Region
from clip_factory.students.recipe import Recipe

MIN_CONTRAST = 0.1
"""Targets that lie no further apart than this tell the student of no difference between photos."""
MIN_GOLD = 10
"""Gold labels of either side below which the teacher's skill is not measured."""

Batch = dict[str, Tensor]


class Store(Protocol):
    """What training needs of the embedding store."""

    def get(self, teacher_key: str, sha256s: Sequence[str]) -> np.ndarray:
        """float32 `(N, D)`, L2-normalized."""


@dataclass(frozen=True)
class Examples(Dataset[Batch]):
    """The images of one split; all tensors have N rows."""

    images: Tensor
    """uint8 `(N, S, S, 3)`, RGB in [0, 255]."""
    target: Tensor
    """float32 in [0, 1]: what the student should answer."""
    weight: Tensor
    """float32 >= 0, mean 1."""
    vectors: Tensor
    """float32 `(N, D)`, centered and L2-normalized teacher vectors; D = 0 when they are not used."""

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: Tensor) -> Batch:
        return {name: getattr(self, name)[rows] for name in ("images", "target", "weight", "vectors")}


def derive_seed(*numbers: int) -> int:
    """A seed of its own for each sequence of so many numbers: the training's seed and member; or seed, epoch, batch."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class EpochBatches(Sampler[Tensor]):
    """Row numbers of each batch: a permutation fixed by (seed, epoch), cut into batches of nearly equal size.

    The epoch is asked for when an epoch begins: after a resume Lightning sets the wrong one on a sampler.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        self.rows, self.batches, self.seed, self.epoch = rows, max(1, round(len(rows) / batch_size)), seed, epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Tensor]:
        order = np.random.default_rng([self.seed, self.epoch()]).permutation(len(self.rows))
        yield from (torch.from_numpy(rows) for rows in np.array_split(self.rows[order], self.batches))


class PhotoDataModule(pl.LightningDataModule):
    """The train and val splits, in memory."""

    def __init__(self, train: Examples, val: Examples, batch_size: int, seed: int, folds: np.ndarray) -> None:
        """`folds`: int `(N,)`, the fold that each training image belongs to; see `cross_fit_folds`."""
        super().__init__()
        self.train, self.val, self.batch_size, self.seed, self.folds = train, val, batch_size, seed, folds
        self.epoch: Callable[[], int] = lambda: 0
        self.excluded_fold: int | None = None

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of all training images but the fold that is excluded."""
        rows = np.flatnonzero(self.folds != (-1 if self.excluded_fold is None else self.excluded_fold))
        sampler = EpochBatches(rows, self.batch_size, self.seed, self.epoch)
        return DataLoader(self.train, batch_size=None, sampler=sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of up to 32 in order: what fits a processor's caches."""
        rows = torch.split(torch.arange(len(self.val)), 32)
        return DataLoader(self.val, batch_size=None, sampler=rows)


def load_photos(
    root: Path,
    run: RunFolder,
    store: Store,
    recipe: Recipe,
    size: int,
    seed: int,
    region: Region | None = None,
) -> PhotoDataModule:
    """Read labels.parquet and the photos it names, or the region of each.

    Raises:
        TrainError: A split is empty, or all training images lie on one side.
    """
    labels = Labels.of_run(run)
    rows = {split: labels.of_split(split) for split in ("train", "val")}
    for split, part in rows.items():
        if not len(part):
            raise TrainError(
                f"labels.parquet has no image in split {split!r}", hint="give more photos, then: factory label"
            )
    vectors = _vectors(rows["train"], store) if recipe.vector_weight else None
    larger = max(size, round(size * recipe.oversize))
    photos = read_squares(rows["train"].photos(root, region), larger, run.path / "tmp" / "train.npy")
    train = examples(rows["train"], photos, recipe, vectors)
    val_photos = read_squares(rows["val"].photos(root, region), size, run.path / "tmp" / "val.npy")
    val = examples(rows["val"], val_photos, recipe, None)
    gold = rows["train"].gold
    yes = hard_labels(targets(rows["train"].p_teacher, gold, recipe), gold)
    folds = cross_fit_folds(rows["train"].group, yes, recipe.folds, seed)
    return PhotoDataModule(train, val, min(recipe.batch_size, max(8, len(train) // 8)), seed, folds)


def cross_fit_folds(groups: np.ndarray, yes: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold in [0, folds) for each training image, so that each member can leave another fold out.

    A member's answers for photos that it was not trained on are unbiased (cross-fitting, Chernozhukov et al. 2018):
    they place the threshold by several times as many photos as val has. Near-duplicates stay together, yes photos are
    spread evenly, from the last fold on: where they are very few, the first folds, which are left out, hold none.

    Args:
        groups: `(N,)` near-duplicate groups.
        yes: bool `(N,)`, the answers; a group counts as yes when any of its images does.
        folds: How many; 0: none, and nothing is left out.
        seed: Of the shuffling.
    """
    if folds < 1:
        return np.full(len(groups), -1)
    names, group_index = np.unique(groups, return_inverse=True)
    sides = np.bincount(group_index, weights=yes, minlength=len(names)) > 0
    order = np.random.default_rng([seed, folds]).permutation(len(names))
    assigned = np.empty(len(names), int)
    for side in (True, False):
        members = order[sides[order] == side]
        assigned[members] = folds - 1 - np.arange(len(members)) % folds
    return np.asarray(assigned[group_index])


def examples(labels: Labels, images: np.ndarray, recipe: Recipe, vectors: np.ndarray | None) -> Examples:
    """Targets and weights of some photos; a gold label weighs `gold_weight`."""
    target = targets(labels.p_teacher, labels.gold, recipe)
    weight = np.where(labels.labeled, recipe.gold_weight, labels.weight**recipe.certainty)
    target, weight = balanced(target, weight, recipe.balance)
    return Examples(
        torch.from_numpy(images),
        torch.from_numpy(target.astype(np.float32)),
        torch.from_numpy((weight / max(weight.mean(), 1e-9)).astype(np.float32)),
        torch.zeros(len(target), 0) if vectors is None else torch.from_numpy(vectors),
    )


def targets(p_teacher: np.ndarray, gold: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Soft targets, float64 `(N,)` in [0, 1].

    Gold says what is right; a teacher that is mostly right also says which photos are hard. So its word has a share in
    the target of a gold label, which grows with its skill on these labels (none of which it has seen).

    Args:
        p_teacher: `(N,)` probability of yes, in [0, 1].
        gold: float64 `(N,)`: 1 yes, 0 no, NaN where there is none.
        recipe: How soft targets are, and how large the teacher's share.
    """
    p = np.clip(p_teacher.astype(np.float64), 1e-4, 1 - 1e-4)
    soft = 1 / (1 + (1 / p - 1) ** (1 / recipe.temperature))
    hard = gold * (1 - 2 * recipe.smoothing) + recipe.smoothing
    known = ~np.isnan(gold)
    share = recipe.teacher_share * brier_skill(gold[known], p[known]) ** 2
    return np.where(known, (1 - share) * hard + share * soft, soft)


def brier_skill(gold: np.ndarray, p: np.ndarray) -> float:
    """Brier skill score (Murphy 1973) of probabilities `(N,)` against answers `(N,)` of 0 and 1, not below 0.

    1: always right and sure; 0: no better than to say the share of yes each time, or fewer than `MIN_GOLD` of a side.
    """
    if len(gold) == 0 or min(gold.sum(), (1 - gold).sum()) < MIN_GOLD:
        return 0.0
    return max(0.0, 1 - float(np.mean((p - gold) ** 2) / gold.var()))


def balanced(target: np.ndarray, weight: np.ndarray, balance: float) -> tuple[np.ndarray, np.ndarray]:
    """Bring the total weights of yes and no together, each by a factor of at most 10.

    A soft target is a share of both: of the weight of a .4, four tenths are yes. Each share is weighed by its own
    side's factor, which gives another target and another weight of the same loss.

    Args:
        target: float64 `(N,)` in [0, 1].
        weight: float64 `(N,)`, >= 0.
        balance: 0 changes nothing; 1 makes the totals equal; between: a power of that.

    Returns:
        Targets and weights, float64 `(N,)` each.

    Raises:
        TrainError: All images lie on one side.
    """
    if not len(target) or np.ptp(target) < MIN_CONTRAST:
        side = "yes" if len(target) and target[0] > 0.5 else "no"
        raise TrainError(
            f"every image is labeled {side}: nothing to learn",
            hint="change the phrases or the photos so that both answers occur, then: factory label",
        )
    yes = float((weight * target).sum() / weight.sum())
    no_factor, yes_factor = np.minimum(np.array([0.5 / (1 - yes), 0.5 / yes]) ** balance, 10.0)
    factor = yes_factor * target + no_factor * (1 - target)
    return yes_factor * target / factor, weight * factor


def _vectors(labels: Labels, store: Store) -> np.ndarray:
    """Teacher vectors, centered: what all photos share says nothing about one of them."""
    vectors = store.get(labels.teacher["key"], labels.sha256.tolist()).astype(np.float32)
    centered = vectors - vectors.mean(axis=0)
    return np.asarray(centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-6))
