"""The LightningModule: soft-label loss, auxiliary vector loss, weight averaging, choice of the best epoch."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from factory.student import backbones
from factory.student.augment import augment, resize
from factory.student.data import Batch
from factory.student.network import Student
from factory.student.recipe import Recipe

Row = dict[str, float]


class Distillation(pl.LightningModule):
    """Trains a `Student`; `result()` is the network to keep."""

    def __init__(
        self, student: Student, recipe: Recipe, vector_dim: int, epochs: int, batches: int, seed: int, choose: bool
    ) -> None:
        super().__init__()
        self.student, self.recipe, self.seed, self.choose = student, recipe, seed, choose
        self.total_epochs, self.batches = epochs, batches
        self.vector_head = nn.Linear(student.head.in_features, vector_dim) if vector_dim else None
        self.averaged = copy.deepcopy(student).requires_grad_(False).eval()
        spared = backbones.get(student.config["backbone"]).spared
        self.frozen = list(student.backbone)[: round(recipe.frozen * spared)]
        for module in self.frozen:
            module.requires_grad_(False)
        self.best: dict[str, Tensor] | None = None
        self.best_loss, self.best_epoch = math.inf, -1
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
        for module in self.frozen:
            module.eval()
        self._sums, self._began = {"loss": 0.0, "batches": 0.0}, time.perf_counter()

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Loss of one augmented batch. Its randomness follows from (seed, epoch, batch): a resume repeats it."""
        seed = np.random.SeedSequence((self.seed, self.current_epoch, index)).generate_state(1)[0]
        dice = torch.manual_seed(int(seed))
        pixels = augment(batch["images"], self._size(), self.recipe.augmentation, dice)
        features = self.student.features(pixels)
        logits = self.student.head(F.dropout(features, self.recipe.dropout)).squeeze(1)
        loss = weighted_loss(logits, batch["target"], batch["weight"])
        self._sums["loss"] += loss.item()
        self._sums["batches"] += 1
        if self.vector_head is not None:
            distance = 1 - F.cosine_similarity(self.vector_head(features), batch["vectors"])
            loss = loss + self.recipe.vector_weight * distance.mean()
        return loss

    def _size(self) -> int:
        """Side of this epoch's batches, pixels: small first (progressive resizing, Tan and Le 2021)."""
        full = int(self.student.config["image_size"])
        small = self.current_epoch < self.recipe.small_share * self.total_epochs
        return max(32, full * 3 // 4 // 8 * 8) if small else full

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the averaged weights a little towards the trained ones (Polyak and Juditsky 1992)."""
        horizon = self.recipe.average * self.total_epochs * self.batches
        keep = min(1 - 1 / max(horizon, 1.0), (1 + self.global_step) / (10 + self.global_step)) if horizon > 0 else 0.0
        with torch.no_grad():
            for mine, theirs in zip(
                self.averaged.state_dict().values(), self.student.state_dict().values(), strict=True
            ):
                if mine.is_floating_point():
                    mine.lerp_(theirs, 1 - keep)
                else:
                    mine.copy_(theirs)

    def on_validation_epoch_start(self) -> None:
        """Start the sums over the val split."""
        self._val = {"loss": 0.0, "weight": 0.0, "agree": 0.0, "images": 0.0}

    def validation_step(self, batch: Batch, index: int) -> None:
        """Loss and agreement of the averaged weights, images as they are."""
        logits = self.averaged.one_view(resize(batch["images"], int(self.student.config["image_size"])))
        losses = F.binary_cross_entropy_with_logits(logits, batch["target"], batch["weight"], reduction="sum")
        self._val["loss"] += losses.item()
        self._val["weight"] += batch["weight"].sum().item()
        self._val["agree"] += ((logits > 0) == (batch["target"] > 0.5)).sum().item()
        self._val["images"] += len(logits)

    def on_train_epoch_end(self) -> None:
        """Note the epoch (validation has run), keep its weights if they are the best, stop if long past it."""
        val = self._val
        row = {
            "epoch": self.current_epoch + 1,
            "train_loss": self._sums["loss"] / max(self._sums["batches"], 1),
            "val_loss": val["loss"] / max(val["weight"], 1e-9),
            "val_agreement": val["agree"] / max(val["images"], 1),
            "lr": self.trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": time.perf_counter() - self._began,
        }
        if (
            not math.isfinite(row["val_loss"])
            or row["val_loss"] < self.best_loss
            or not self.choose
            or self.best is None
        ):
            self.best_loss, self.best_epoch = row["val_loss"], self.current_epoch
            self.best = {k: v.detach().clone() for k, v in self.averaged.state_dict().items()}
        self.history.append(row)
        self.on_row(row)
        if self.choose and self.current_epoch - self.best_epoch > max(3, self.recipe.patience * self.total_epochs):
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a resume needs beyond weights and optimiser."""
        checkpoint["factory"] = {
            "best": self.best,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
            "history": self.history,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        for name, value in checkpoint["factory"].items():
            setattr(self, name, value)

    def result(self) -> Student:
        """The averaged weights of the best epoch, in eval mode on the CPU."""
        student = self.averaged.cpu()
        if self.best is not None:
            student.load_state_dict(self.best)
        return student.eval()


def weighted_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over the batch of weight x binary cross-entropy against soft targets; all `(N,)`."""
    return F.binary_cross_entropy_with_logits(logits, target, weight)
