"""Random crops, flips and light on whole batches: no decoding and no Python loop over images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Augmentation:
    """How much images vary; the defaults are the measured ones (docs/student.md)."""

    min_crop: float = 0.4
    """Least share of the area that a random crop keeps, in (0, 1] (random resized crop, Szegedy et al. 2015)."""
    aspect: float = 4 / 3
    """Crops are up to this much wider or taller than the image."""
    flip: float = 0.5
    """Probability of a mirror image."""
    light: float = 0.25
    """Brightness and contrast vary by up to this factor either way."""
    color: float = 0.25
    """Saturation varies by up to this factor either way."""


def augment(images: Tensor, size: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Vary a batch and bring it to `size`.

    Args:
        images: uint8 `(N, H, H, 3)`, RGB in [0, 255].
        size: Side of the result, pixels.
        augmentation: The amounts.
        generator: All randomness comes from it.

    Returns:
        float32 `(N, 3, size, size)` in [0, 255], channels-last in memory.
    """
    x = images.permute(0, 3, 1, 2).float()
    x = F.grid_sample(
        x,
        _crops(len(x), size, augmentation, generator),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    return _relight(x, augmentation, generator).contiguous(memory_format=torch.channels_last)


def resize(images: Tensor, size: int) -> Tensor:
    """uint8 `(N, H, H, 3)` -> float32 `(N, 3, size, size)` in [0, 255], antialiased when it shrinks."""
    x = images.permute(0, 3, 1, 2).float()
    if x.shape[-1] != size:
        x = F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return x.contiguous(memory_format=torch.channels_last)


def _crops(count: int, size: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Sampling grids `(count, size, size, 2)` in [-1, 1]: one random window, perhaps mirrored, for each image."""
    area = _uniform(count, augmentation.min_crop, 1.0, generator)
    aspect = torch.exp(_uniform(count, -math.log(augmentation.aspect), math.log(augmentation.aspect), generator))
    sides = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], 1).clamp(max=1.0)
    centers = (1 - sides) * (torch.rand(count, 2, generator=generator) * 2 - 1)
    mirrored = torch.rand(count, generator=generator) < augmentation.flip
    steps = (torch.arange(size) + 0.5) / size * 2 - 1
    across = torch.where(mirrored, -1.0, 1.0)[:, None] * sides[:, :1] * steps + centers[:, :1]
    down = sides[:, 1:] * steps + centers[:, 1:]
    return torch.stack([across[:, None, :].expand(-1, size, -1), down[:, :, None].expand(-1, -1, size)], dim=-1)


def _relight(x: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and saturation, each by one random factor an image."""
    n = len(x)
    brightness, contrast, saturation = (
        _uniform(n, 1 - amount, 1 + amount, generator).view(n, 1, 1, 1)
        for amount in (augmentation.light, augmentation.light, augmentation.color)
    )
    gray = x.mean(1, keepdim=True)
    middle = gray.mean((2, 3), keepdim=True)
    return (brightness * (middle + contrast * (gray - middle + saturation * (x - gray)))).clamp_(0, 255)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low
