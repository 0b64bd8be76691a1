"""The network that is trained and exported: normalization, backbone, pooling, one linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clip_factory.students import backbones

CENTER = 128.0
"""Pixel value that becomes 0. A power of two, as the scale is: the uint8 image is then already the int8 graph's
quantized input (scale 1/128, zero point 128), which costs no operation at all."""


def normalize(pixels: Tensor) -> Tensor:
    """float32 in [0, 255] -> float32 in [-1, 1)."""
    return pixels / CENTER - 1.0


class Student(nn.Module):
    """A yes/no classifier of square images."""

    def __init__(
        self, backbone: str, image_size: int, weights: nn.Sequential | None = None, *, mirror: bool = False
    ) -> None:
        """`mirror`: whether answers are averaged over the image and its mirror image."""
        super().__init__()
        entry = backbones.get(backbone)
        self.config: dict[str, Any] = {"backbone": backbone, "image_size": image_size, "mirror": mirror}
        self.backbone = entry.build() if weights is None else weights
        self.head = nn.Linear(entry.width, 1)

    def features(self, pixels: Tensor) -> Tensor:
        """float32 `(N, 3, S, S)` in [0, 255] -> pooled features `(N, C)`."""
        maps: Tensor = self.backbone(normalize(pixels))
        return maps.mean((2, 3))

    def one_view(self, pixels: Tensor) -> Tensor:
        """float32 `(N, 3, S, S)` in [0, 255] -> logits of yes `(N,)`, as they are without the mirror image."""
        logits: Tensor = self.head(self.features(pixels))
        return logits.squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 `(N, S, S, 3)`, RGB in [0, 255] -> logits of yes `(N,)`, not calibrated."""
        pixels = images.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
        if not self.config["mirror"]:
            return self.one_view(pixels)
        return (self.one_view(pixels) + self.one_view(pixels.flip(3))) / 2


def soup(students: Sequence[Student]) -> Student:
    """A student with the mean of the weights of several that were trained from the same backbone.

    Weights that started alike and moved little lie in one valley of the loss, where their mean errs less than each of
    them, about as little as the ensemble of all (Wortsman et al. 2022).
    """
    states = [student.state_dict() for student in students]
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(tensor.dtype)
        for name, tensor in states[0].items()
    }
    students[0].load_state_dict(mean)
    return students[0]
