"""The network: normalization, pooling, one layer, the mirror image; and the mean of several."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from clip_factory.students.network import Student, normalize, soup
from support.networks import mirroring


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def student() -> Student:
    torch.manual_seed(0)
    return Student("resnet-mini", 32).eval()


def test_pixels_become_what_a_power_of_two_leaves_exact() -> None:
    assert normalize(torch.tensor([0.0, 64, 128, 192, 255])).tolist() == [-1, -0.5, 0, 0.5, 127 / 128]


@torch.inference_mode()
def test_answers_are_one_layer_on_the_mean_of_the_feature_map(student: Student, pixels: torch.Tensor) -> None:
    image = torch.from_numpy(pixels.numpy().transpose(0, 3, 1, 2).astype(np.float32)) / 128 - 1
    maps = student.backbone(image)
    wanted = nn.functional.linear(nn.functional.adaptive_avg_pool2d(maps, 1).flatten(1), *student.head.parameters())

    assert torch.allclose(student(pixels), wanted[:, 0], atol=1e-5)
    assert student(pixels).shape == (3,)
    assert student.config == {"backbone": "resnet-mini", "image_size": 32, "mirror": False}


@torch.inference_mode()
def test_a_mirroring_student_means_over_the_image_and_its_mirror_image(student: Student, pixels: torch.Tensor) -> None:
    both = mirroring(student)

    assert torch.allclose(both(pixels), (student(pixels) + student(pixels.flip(2))) / 2, atol=1e-6)
    assert not torch.allclose(both(pixels), student(pixels), atol=1e-6)
    assert both.config["mirror"] is True


def test_weights_that_are_given_are_taken(student: Student) -> None:
    assert Student("resnet-mini", 32, student.backbone).backbone is student.backbone


def test_a_soup_is_the_mean_of_its_members_in_every_number() -> None:
    members = [Student("resnet-mini", 32) for _ in range(3)]
    for number, member in enumerate(members):
        member.backbone[1].num_batches_tracked.fill_(number)
    states = [copy.deepcopy(member.state_dict()) for member in members]

    mixed = soup(members)

    assert mixed is members[0]
    for name, tensor in mixed.state_dict().items():
        mean = np.mean([state[name].double().numpy() for state in states], axis=0)
        assert tensor.dtype == states[0][name].dtype
        assert tensor.double().numpy() == pytest.approx(mean, abs=1e-7), name
    assert not torch.allclose(states[0]["head.weight"], states[1]["head.weight"])
