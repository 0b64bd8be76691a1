"""Another package adds an encoder, a label source, a refinement and an executor: no file of ours changes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from clip_factory import pipeline
from clip_factory.encoders import load_encoder
from clip_factory.errors import PluginError
from clip_factory.labels import Labels
from clip_factory.loader_table import LoaderTable
from clip_factory.run_folder import LABELS, SCENARIO, RunFolder
from clip_factory.scenario import Scenario, Teacher, dump
from clip_factory.store import EmbeddingStore

ENCODER = '''
import numpy as np


class Colors:
    """Photos by their mean color and its spread, words by the color that they name."""

    name = key = "mean-color"
    license, dim, image_size, logit_scale, logit_bias = "CC0-1.0", 6, 8, 5.0, 0.0
    about = {"name": "mean-color", "key": "mean-color", "license": "CC0-1.0", "dim": 6}

    def embed_images(self, images):
        pixels = [np.asarray(image, np.float32).reshape(-1, 3) for image in images]
        return unit(np.stack([np.concatenate([p.mean(0), p.std(0)]) for p in pixels]))

    def embed_texts(self, texts):
        names = ("red", "green", "blue")
        return unit(np.array([[float(name in text) for name in names] + [0.1] * 3 for text in texts], np.float32))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def load(teacher):
    assert teacher.model.startswith("mean-color")
    return Colors()
'''

SOURCE = '''
from pathlib import Path

import numpy as np

from clip_factory.label_sources.source import Scores

ASKED = Path(__file__).with_name("asked.txt")


class FileNames:
    """Even numbers in file names mean yes."""

    key, batch_size = "file-names-1", 32
    about = {"name": "file names", "license": "CC0-1.0"}

    def score(self, photos, scenario):
        with open(ASKED, "a") as file:
            file.write("".join(f"{photo.path.name}\\n" for photo in photos))
        even = np.array([int(photo.path.stem[1:]) % 2 == 0 for photo in photos])
        return Scores.of_probabilities(np.where(even, 0.9, 0.2))


def load(scenario, encoder, store):
    return FileNames()
'''

REFINEMENT = """
from clip_factory.label_sources.refinement import Refined


class Sharper:
    def refine(self, labels):
        return Refined((labels.p >= 0.5).astype(float), True, "All doubts were rounded away.")
"""

EXECUTOR = '''
from concurrent.futures import ThreadPoolExecutor


class Threads:
    """All shards at once; results in order all the same."""

    def map(self, work, shards):
        with ThreadPoolExecutor(2) as pool:
            for results in pool.map(lambda shard: list(work(shard)), shards):
                yield from results
'''

ENTRY_POINTS = """
[clip_factory.encoders]
mean-color = others_encoder:load
offline = others_encoder:load
broken = others_missing:load
number = math:pi

[clip_factory.label_sources]
file-names = others_source:load

[clip_factory.refinements]
sharper = others_refinement:Sharper

[clip_factory.executors]
threads = others_executor:Threads
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages with one package in it: a file for each seam, and its entry points."""
    site = tmp_path / "site-packages"
    dist = site / "others-1.0.dist-info"
    dist.mkdir(parents=True)
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (dist / "entry_points.txt").write_text(ENTRY_POINTS)
    for name, code in (
        ("encoder", ENCODER),
        ("source", SOURCE),
        ("refinement", REFINEMENT),
        ("executor", EXECUTOR),
    ):
        (site / f"others_{name}.py").write_text(code)
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [name for name in sys.modules if name.startswith("others_")]:
        del sys.modules[name]


def make_run(folder: Path, shapes: Path, **settings: object) -> RunFolder:
    values = {"name": "red", "positive": ["red thing"], "negative": ["green thing", "blue thing"], **settings}
    folder.mkdir(parents=True)
    scenario = Scenario.model_validate({**values, "images": {"path": str(shapes / "photos")}})
    (folder / SCENARIO).write_text(dump(scenario))
    return RunFolder(folder)


def label(run: RunFolder, store: Path, **how: bool) -> Labels:
    pipeline.run(run, store, "label", **how)
    return Labels.read(run.file(LABELS))


def test_anothers_encoder_labels_by_name(site: Path, shapes: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", shapes, teacher={"model": "mean-color"})
    labels = label(run, tmp_path / "store")

    assert len(labels) == 160 and labels.scores.shape == (160, 3)
    assert labels.teacher["license"] == "CC0-1.0" and labels.teacher["key"] == "mean-color"
    assert EmbeddingStore(tmp_path / "store").get("mean-color", labels.sha256[:2].tolist()).shape == (2, 6)


def test_anothers_label_source_needs_no_vectors_and_is_asked_once(site: Path, shapes: Path, tmp_path: Path) -> None:
    settings = {"teacher": {"model": "mean-color"}, "labels": {"source": "file-names"}}
    first = label(make_run(tmp_path / "one", shapes, **settings), tmp_path / "store")
    asked = (site / "others_source.py").with_name("asked.txt").read_text().splitlines()
    second = label(make_run(tmp_path / "two", shapes, **settings), tmp_path / "store")

    even = np.array([int(Path(path).stem[1:]) % 2 == 0 for path in first.path])
    assert first.p_teacher[even] == pytest.approx(0.9) and first.p_teacher[~even] == pytest.approx(0.2)
    assert first.teacher["name"] == "file names" and first.teacher["key"] == "mean-color"
    assert (first.positive, first.negative) == (("yes",), ("no",))
    assert sorted(asked) == sorted(Path(path).name for path in first.path)
    assert (site / "asked.txt").read_text().splitlines() == asked, "a second run asks nothing again"
    for name in ("p_teacher", "scores"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


def test_anothers_refinement_and_executor_work_by_name(
    site: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"teacher": {"model": "mean-color", "batch_size": 1}, "labels": {"refine": "sharper"}}
    monkeypatch.setenv("FACTORY_EXECUTOR", "threads")
    labels = label(make_run(tmp_path / "run", shapes, **settings), tmp_path / "store")

    assert set(labels.p_teacher.tolist()) <= {0.0, 1.0}
    assert labels.refinement == {"used": True, "says": "All doubts were rounded away."}
    monkeypatch.delenv("FACTORY_EXECUTOR")
    here = label(make_run(tmp_path / "here", shapes, **settings), tmp_path / "other-store")
    assert labels.scores.tobytes() == here.scores.tobytes(), "wherever the work runs"


def test_the_whole_command_works_with_anothers_members(site: Path, shapes: Path, tmp_path: Path) -> None:
    file = tmp_path / "red.yaml"
    file.write_text(
        "name: red\npositive: [red thing]\nteacher: {model: mean-color}\nlabels: {source: file-names}\n"
        f"images: {{path: {shapes / 'photos'}}}\n"
    )
    root = Path(__file__).parents[2] / "factory"
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{root}"}
    command = [sys.executable, "-m", "clip_factory", "label", str(file), "--out", str(tmp_path / "runs")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
    assert pq.read_table(next(tmp_path.glob("runs/red/*/labels.parquet"))).num_rows == 160


def test_a_name_of_our_own_cannot_be_replaced(site: Path) -> None:
    table = LoaderTable("clip_factory.encoders", {"offline": lambda teacher: "ours"})

    assert table.find("offline")(Teacher(model="offline")) == "ours"
    assert table.names == ["offline", "broken", "mean-color", "number"]


def test_a_package_that_cannot_be_imported_is_named(site: Path) -> None:
    with pytest.raises(PluginError, match=r"broken: the package others cannot be imported.*No module named"):
        load_encoder(Teacher(model="broken"))


def test_an_entry_point_that_is_no_loader_is_named(site: Path) -> None:
    with pytest.raises(PluginError, match="number: math:pi of the package others cannot be called"):
        load_encoder(Teacher(model="number"))


def test_names_may_carry_weights_of_their_own(site: Path) -> None:
    assert load_encoder(Teacher.parse("mean-color:v2/large")).name == "mean-color"


def test_the_example_of_the_docs_labels(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
    code, project, settings = (
        page.split(f"```{language}\n")[1].split("```")[0] for language in ("python", "toml", "yaml")
    )
    groups = tomllib.loads(project)["project"]["entry-points"]
    dist = tmp_path / "site" / "mine-1.0.dist-info"
    dist.mkdir(parents=True)
    (dist / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups.items()]
    (dist / "entry_points.txt").write_text("\n".join(lines))
    (dist.parent / "my_factory_parts.py").write_text(code)
    monkeypatch.syspath_prepend(dist.parent)
    labels = label(
        make_run(tmp_path / "run", shapes, **YAML(typ="safe").load(settings)), tmp_path / "store", go_on=True
    )

    assert labels.teacher["name"] == "file size" and labels.teacher["key"] == "mean-color-1"
    assert len(set(labels.p_teacher.tolist())) > 100
