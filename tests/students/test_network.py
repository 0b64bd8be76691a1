"""The network: normalization, pooling, one layer, the mirror image; and the mean of several."""

from __future__ import annotations

import torch

from clip_factory.students.network import Student, soup


def test_a_soup_is_the_mean_of_its_members() -> None:
    members = [Student("resnet-mini", 32) for _ in range(2)]
    weights = [member.backbone[0].weight.detach().clone() for member in members]

    mixed = soup(members)

    assert torch.allclose(mixed.backbone[0].weight, (weights[0] + weights[1]) / 2)
    assert not torch.allclose(*weights)
