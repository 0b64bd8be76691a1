"""The built wheel, installed beside factory_boy in either order: the two share no file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import clip_factory

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
USE_BOTH = """
import factory, sys
import clip_factory

class Pair(factory.Factory):
    class Meta:
        model = dict
    number = factory.Sequence(int)

assert Pair()["number"] == 0
assert clip_factory.Model.__name__ == "Model"
assert "torch" not in sys.modules
print(clip_factory.__version__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    shutil.copytree(ROOT / "factory", copy / "factory", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    run(sys.executable, "-m", "pip", "wheel", "-q", copy, "--no-deps", "-w", folder, cwd=folder)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_under_its_own_name_with_all_its_data(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    sources = {
        str(path.relative_to(ROOT / "factory"))
        for package in ("clip_factory", "clip_factory_demo")
        for path in (ROOT / "factory" / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == sources
    assert sources >= {"clip_factory/py.typed", "clip_factory_demo/scenario.yaml"}
    for kind in ("assets/", "templates/"):
        assert any(kind in name for name in sources), kind


@pytest.mark.parametrize("order", [("wheel", "factory_boy"), ("factory_boy", "wheel")], ids="-".join)
def test_it_lives_beside_factory_boy(order: tuple[str, str], wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    programs = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    for name in order:
        run(programs / "pip", "install", "-q", wheel if name == "wheel" else name, cwd=tmp_path)
    assert run(programs / "python", "-c", USE_BOTH, cwd=tmp_path).strip() == clip_factory.__version__
    assert run(programs / "factory", "--version", cwd=tmp_path) == f"clip-factory {clip_factory.__version__}\n"
    assert "Usage: clip-factory" in run(programs / "clip-factory", "--help", cwd=tmp_path)
    assert "error:" not in run(programs / "factory", "predict", "--help", cwd=tmp_path)
    installed = run(programs / "pip", "list", "--format", "freeze", cwd=tmp_path)
    assert "torch==" not in installed
