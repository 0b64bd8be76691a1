"""A run with several label sources, one of which is a model that is asked: from photos to model.onnx."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import onnxruntime
import pyarrow.parquet as pq
import pytest

from clip_factory.run_folder import RunFolder
from clip_factory.runtime import Model
from support import tiny_vqa

pytestmark = pytest.mark.slow

SCENARIO = """\
name: shapes
question: Is there a disc in this photo?
positive: [disc]
negative: [bar]
images: {path: PHOTOS}
teacher: {model: offline}
labels:
  sources:
    - {source: zero-shot}
    - {source: vqa, model: "local-dir:MODEL", weight: 2}
  combine: cascade
  doubt: [0.1, 0.9]
student: {epochs: 1, image_size: 32}
"""


def factory(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clip_factory", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def bench(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed-run")
    model = tiny_vqa.idefics3(folder / "model")
    text = SCENARIO.replace("PHOTOS", str(shapes / "photos")).replace("MODEL", str(model))
    (folder / "shapes.yaml").write_text(text, encoding="utf-8")
    return folder


def test_a_run_is_killed_goes_on_and_ends_in_a_model_that_names_its_teachers(bench: Path) -> None:
    """Killed while the second source is asked: it is not asked again about what it has answered."""
    command = [sys.executable, "-m", "clip_factory", "run", "shapes.yaml", "--go-on", "--store", "store"]
    process = subprocess.Popen(command, cwd=bench, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not answers(bench):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    before = asked_of_vqa(bench)

    ended = factory("run", "shapes.yaml", "--go-on", "--store", "store", cwd=bench)
    assert ended.returncode in (0, 1, 4), ended.stderr
    said = re.search(r"asked: zero-shot about (\d+) photos, vqa about (\d+) in doubt", ended.stderr)
    assert said is not None and 0 < int(said[2]) < int(said[1]) == 160
    assert 0 < before < asked_of_vqa(bench) == int(said[2]), "in the store once each"
    path = bench / ended.stdout.splitlines()[-1]
    run = RunFolder(path)
    session = onnxruntime.InferenceSession(path / "model.onnx")
    teacher = json.loads(session.get_modelmeta().custom_metadata_map["teacher"])
    assert teacher["name"] == f"offline + local-dir:{bench / 'model'}"
    assert teacher["license"].startswith("offline: Apache-2.0") and teacher["license"].endswith(": cc0-1.0")
    Model.load(path / "model.onnx").verify()
    for page in ("card.md", "report.html"):
        text = run.file(page).read_text(encoding="utf-8")
        assert "Asked" in text and "Is there a disc in this photo?" in text and "cc0-1.0" in text, page

    again = factory("run", path, "--go-on", "--store", "store", cwd=bench)
    assert "scoring" not in again.stderr and "asked:" not in again.stderr, "nothing is done again"
    config = bench / "model" / "config.json"
    os.utime(config, ns=(0, 0))
    told = factory("label", path, "--go-on", "--store", "store", cwd=bench)
    assert "asked:" in told.stderr, "the checkpoint's files are looked at ..."
    assert "scoring" not in told.stderr, "... and their content is the same"


def answers(bench: Path) -> list[Path]:
    return sorted((bench / "store").glob("scores/vqa-*/*/*.parquet"))


def asked_of_vqa(bench: Path) -> int:
    return len({sha for shard in answers(bench) for sha in pq.read_table(shard)["sha256"].to_pylist()})
