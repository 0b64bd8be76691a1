"""One exported student, the pretrained networks and some pixels, which several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clip_factory import exporters, students
from clip_factory.run_folder import RunFolder
from clip_factory.scenario import Scenario
from clip_factory.students import backbones
from clip_factory.students.network import Student
from clip_factory.students.training_data import decode
from support.shapes_run import make_shapes_run


@pytest.fixture(scope="session")
def exported(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Scenario, RunFolder]:
    scenario, run, store = make_shapes_run(tmp_path_factory.mktemp("export"), shapes, epochs=6)
    students.train(scenario, run, store)
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
def pixels(shapes: Path) -> torch.Tensor:
    """uint8 `(32, 48, 48, 3)`."""
    return torch.from_numpy(decode(sorted((shapes / "photos").glob("*.png"))[:32], 48))
