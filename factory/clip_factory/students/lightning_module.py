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
from clip_factory.students.training_data import Batch, chance

PART = 8
"""Images at once in the frozen modules: what a processor's caches hold, a third less time than 32 at 128 pixels."""

Row = dict[str, float]


class Distillation(pl.LightningModule):
    """Trains a `Student`; `result()` is the network to keep."""

    def __init__(self, student: Student, recipe: Recipe, vector_dim: int, epochs: int, batches: int, seed: int) -> None:
        super().__init__()
        self.student, self.recipe, self.seed = student, recipe, seed
        self.total_epochs, self.batches = epochs, batches
        self.vector_head = nn.Linear(student.head.in_features, vector_dim) if vector_dim else None
        self.spared = round(recipe.frozen * backbones.get(student.config["backbone"]).spared)
        student.backbone[: self.spared].requires_grad_(False)
        self._frozen: Callable[[Tensor], Tensor] | None = None
        self.history: list[Row] = []
        self.on_row: Callable[[Row], None] = lambda row: None
        self._sums: dict[str, float] = {}
        self._began = time.perf_counter()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW under one cycle; linear layers learn faster, vectors (biases, norms) do not decay."""
        recipe, fresh = self.recipe, [self.student.head, self.vector_head]
        new = [p for module in fresh if module is not None for p in module.parameters()]
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
        """Keep the frozen modules frozen; start the sums."""
        self.student.backbone[: self.spared].eval()
        self._sums, self._began = {"loss": 0.0, "batches": 0.0}, time.perf_counter()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one augmented batch. Its randomness follows from (seed, epoch, batch): a resume repeats it."""
        dice = torch.manual_seed(chance(self.seed, self.current_epoch, index))
        pixels = augment(batch["images"], self._size(), self.recipe.augmentation, dice)
        features = self._features(pixels)
        logits = self.student.head(F.dropout(features, self.recipe.dropout)).squeeze(1)
        loss = weighted_loss(logits, batch["target"], batch["weight"])
        self._sums["loss"] += loss.item()
        self._sums["batches"] += 1
        if self.vector_head is not None:
            distance = 1 - F.cosine_similarity(self.vector_head(features), batch["vectors"])
            loss = loss + self.recipe.vector_weight * distance.mean()
        return loss

    def _features(self, pixels: Tensor) -> Tensor:
        """As `Student.features`, the frozen modules fused: on a CPU they take a third of the time then."""
        if self._frozen is None:
            self._frozen = fused(self.student.backbone[: self.spared].eval(), pixels[:1])
        with torch.no_grad():
            maps = self._frozen(normalize(pixels))
        pooled: Tensor = self.student.backbone[self.spared :](maps).mean((2, 3))
        return pooled

    def _size(self) -> int:
        """Side of this epoch's batches, pixels: small first (progressive resizing, Tan and Le 2021)."""
        full = int(self.student.config["image_size"])
        small = self.current_epoch < self.recipe.small_share * self.total_epochs
        return max(32, full * 3 // 4 // 8 * 8) if small else full

    def on_validation_epoch_start(self) -> None:
        """Start the sums over the val split."""
        self._val = {"loss": 0.0, "weight": 0.0, "agree": 0.0, "images": 0.0}

    def validation_step(self, batch: Batch, index: int) -> None:
        """Loss and agreement, on whole images at the size of this epoch."""
        features = self._features(resize(batch["images"], self._size()))
        logits = self.student.head(features).squeeze(1)
        losses = F.binary_cross_entropy_with_logits(logits, batch["target"], batch["weight"], reduction="sum")
        self._val["loss"] += losses.item()
        self._val["weight"] += batch["weight"].sum().item()
        self._val["agree"] += ((logits > 0) == (batch["target"] > 0.5)).sum().item()
        self._val["images"] += len(logits)

    def on_train_epoch_end(self) -> None:
        """Note the epoch; validation has run."""
        val = self._val
        row = {
            "epoch": self.current_epoch + 1,
            "train_loss": self._sums["loss"] / max(self._sums["batches"], 1),
            "val_loss": val["loss"] / max(val["weight"], 1e-9),
            "val_agreement": val["agree"] / max(val["images"], 1),
            "lr": self.trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": time.perf_counter() - self._began,
        }
        self.history.append(row)
        self.on_row(row)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a resume needs beyond weights and optimizer."""
        checkpoint["factory"] = {"history": self.history}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self.history = checkpoint["factory"]["history"]

    def result(self) -> Student:
        """The trained network in eval mode on the CPU."""
        return self.student.cpu().eval()


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
    return lambda images: torch.cat([graph(part) for part in torch.split(images, PART)])
