"""The LightningModule: soft-label loss and auxiliary vector loss, one cycle, the first layers frozen."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from clip_factory.students import backbones
from clip_factory.students.augmentation import augment, resize
from clip_factory.students.network import Student, normalize
from clip_factory.students.recipe import Recipe
from clip_factory.students.training_data import Batch, derive_seed

FROZEN_BATCH = 8
"""Images at once in the frozen modules: what a processor's caches hold, a third less time than 32 at 128 pixels."""

EpochRow = dict[str, float]
"""Values of one epoch, by the columns of training.csv."""


class Distillation(pl.LightningModule):
    """Trains a `Student`; `result()` is the network to keep."""

    def __init__(self, student: Student, recipe: Recipe, vector_dim: int, epochs: int, batches: int, seed: int) -> None:
        super().__init__()
        self.student, self.recipe, self.seed = student, recipe, seed
        self.total_epochs, self.batches = epochs, batches
        self.vector_head = nn.Linear(student.head.in_features, vector_dim) if vector_dim else None
        self.frozen_modules = round(recipe.frozen * backbones.get(student.config["backbone"]).freezable)
        student.backbone[: self.frozen_modules].requires_grad_(False)
        self._frozen: Callable[[Tensor], Tensor] | None = None

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW under one cycle; linear layers learn faster, vectors (biases, norms) do not decay."""
        recipe, heads = self.recipe, [self.student.head, self.vector_head]
        new = [p for module in heads if module is not None for p in module.parameters()]
        old = [p for p in self.student.backbone.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in old if p.ndim > 1], "lr": recipe.rate, "weight_decay": recipe.weight_decay},
            {"params": [p for p in old if p.ndim <= 1], "lr": recipe.rate, "weight_decay": 0.0},
            {"params": new, "lr": recipe.head_rate, "weight_decay": recipe.weight_decay},
        ]
        optimizer = torch.optim.AdamW(groups)
        steps = self.total_epochs * self.batches
        rates = [group["lr"] for group in groups]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps + 1, pct_start=0.2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Keep the frozen modules frozen."""
        self.student.backbone[: self.frozen_modules].eval()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one augmented batch. Its randomness follows from (seed, epoch, batch): a resume repeats it."""
        generator = torch.manual_seed(derive_seed(self.seed, self.current_epoch, index))
        pixels = augment(batch["images"], self._size(), self.recipe.augmentation, generator)
        features = self._features(pixels)
        logits = self.student.head(F.dropout(features, self.recipe.dropout)).squeeze(1)
        loss = weighted_loss(logits, batch["target"], batch["weight"])
        self.log("train_loss", loss.detach(), on_step=False, on_epoch=True, batch_size=1)  # every batch counts alike
        if self.vector_head is not None:
            distance = 1 - F.cosine_similarity(self.vector_head(features), batch["vectors"])
            loss = loss + self.recipe.vector_weight * distance.mean()
        return loss

    def _features(self, pixels: Tensor) -> Tensor:
        """As `Student.features`, the frozen modules fused: on a CPU they take a third of the time then."""
        if self._frozen is None:
            self._frozen = fused(self.student.backbone[: self.frozen_modules].eval(), pixels[:1])
        with torch.no_grad():
            maps = self._frozen(normalize(pixels))
        pooled: Tensor = self.student.backbone[self.frozen_modules :](maps).mean((2, 3))
        return pooled

    def _size(self) -> int:
        """Side of this epoch's batches, pixels: small first (progressive resizing, Tan and Le 2021)."""
        full = int(self.student.config["image_size"])
        small = self.current_epoch < self.recipe.small_share * self.total_epochs
        return max(32, full * 3 // 4 // 8 * 8) if small else full

    def validation_step(self, batch: Batch, index: int) -> None:
        """Loss and agreement, on whole images at the size of this epoch; weights have mean 1 over all val images."""
        features = self._features(resize(batch["images"], self._size()))
        logits = self.student.head(features).squeeze(1)
        agreement = ((logits > 0) == (batch["target"] > 0.5)).float().mean()
        loss = weighted_loss(logits, batch["target"], batch["weight"])
        self.log_dict({"val_loss": loss, "val_agreement": agreement}, batch_size=len(logits))

    def result(self) -> Student:
        """The trained network in eval mode on the CPU."""
        return self.student.cpu().eval()


class History(pl.Callback):
    """The metrics of each epoch, kept in the checkpoint: a resumed training has all rows.

    Lightning's CSVLogger cannot do that: it logs an epoch after its checkpoint is written, so that a kill between the
    two loses the row, writes train and val metrics as two rows, and deletes its file when a training is resumed.
    """

    def __init__(self, on_epoch: Callable[[EpochRow], None] = lambda row: None) -> None:
        self.rows: list[EpochRow] = []
        self.on_epoch = on_epoch
        self._start = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch; validation has run."""
        metrics = trainer.callback_metrics
        row = {
            "epoch": trainer.current_epoch + 1,
            **{name: metrics[name].item() for name in ("train_loss", "val_loss", "val_agreement")},
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": time.perf_counter() - self._start,
        }
        self.rows.append(row)
        self.on_epoch(row)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.rows = state_dict["rows"]


def weighted_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over the batch of weight x binary cross-entropy against soft targets; all `(N,)`."""
    return F.binary_cross_entropy_with_logits(logits, target, weight)


def fused(modules: nn.Sequential, example: Tensor) -> Callable[[Tensor], Tensor]:
    """Modules in eval mode as one graph, normalization and activations folded into the convolutions.

    Later changes of the modules do not reach it. On a GPU, where they are quick enough, they are returned as they are.

    Args:
        modules: float32 `(N, 3, S, S)` -> `(N, C, s, s)`.
        example: An input on their device; others may have any N and S.
    """
    if example.device.type != "cpu" or not len(modules):
        return modules.forward
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but what is to replace it needs a C++ compiler on the machine
        graph = torch.jit.optimize_for_inference(torch.jit.trace(modules, example))  # type: ignore[no-untyped-call]
    return lambda images: torch.cat([graph(batch) for batch in torch.split(images, FROZEN_BATCH)])
