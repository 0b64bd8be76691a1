"""Networks and their inputs, as the tests of exporters need them."""

from __future__ import annotations

import torch

from clip_factory.students.network import Student, normalize


def image_of(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 `(N, S, S, 3)` as the first layer sees it: float32 `(N, 3, S, S)` in [-1, 1)."""
    return normalize(pixels.permute(0, 3, 1, 2).float())


def mirroring(student: Student) -> Student:
    """The same network, its answers averaged over the image and its mirror image."""
    both = Student(student.config["backbone"], student.config["image_size"], student.backbone, mirror=True).eval()
    both.head = student.head
    return both
