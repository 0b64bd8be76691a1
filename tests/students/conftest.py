"""One training that several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_factory import students
from clip_factory.run_folder import RunFolder
from support.shapes_run import make_shapes_run


@pytest.fixture(scope="session")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run of a student that can tell discs from bars."""
    scenario, run, store = make_shapes_run(tmp_path_factory.mktemp("student"), shapes, epochs=24)
    students.train(scenario, run, store)
    return run
