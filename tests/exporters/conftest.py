"""One exported student, the pretrained networks and some pixels, which several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from clip_factory import exporters
from clip_factory.run_folder import RunFolder
from clip_factory.scenario import Scenario
from clip_factory.students import backbones
from clip_factory.students.network import Student
from support.pictures import discs_and_bars
from support.shapes_run import make_student_run


@pytest.fixture(scope="session")
def exported(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Scenario, RunFolder]:
    scenario, run = make_student_run(tmp_path_factory.mktemp("export"), shapes)
    exporters.export(scenario, run)
    return scenario, run


@pytest.fixture(scope="session", params=list(backbones.BACKBONES))
def network(request: pytest.FixtureRequest) -> Student:
    """Each backbone with its pretrained weights and a head that has an opinion."""
    torch.manual_seed(0)
    net = Student(request.param, 48, backbones.pretrained(backbones.get(request.param))).eval()
    torch.nn.init.normal_(net.head.weight, std=0.3)
    return net


@pytest.fixture(scope="session")
def pixels() -> torch.Tensor:
    """uint8 `(32, 48, 48, 3)`."""
    return torch.from_numpy(discs_and_bars(32, 48))


class EveryOperation(nn.Module):
    """All that backbones are made of: strides, groups, four activations, squeeze-excite, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(8, 8, 5, 1, 2, groups=8, bias=False), nn.BatchNorm2d(8), nn.Hardswish()
        )
        self.squeeze, self.excite, self.gate = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.Hardsigmoid()
        self.project = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.Identity())
        self.last = nn.Sequential(nn.Conv2d(8, 128, 3, 2, 0), nn.BatchNorm2d(128), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.depthwise(x)
        y = y * self.gate(self.excite(functional.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return self.last(self.project(y) + x)


@pytest.fixture(scope="session")
def tiny() -> Student:
    """A student of one block of every operation, 24 pixels, with the statistics of a network that has been trained."""
    torch.manual_seed(1)
    student = Student("resnet-mini", 24, nn.Sequential(EveryOperation())).eval()
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    nn.init.normal_(student.head.weight, std=0.3)
    return student


@pytest.fixture(scope="session")
def small() -> torch.Tensor:
    """uint8 `(40, 24, 24, 3)`."""
    return torch.from_numpy(discs_and_bars(40, 24))
