"""A region in every stage: a run about a region is the run about photos that Pillow has cropped to it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from clip_factory import api
from clip_factory import run_folder as files
from clip_factory.encoders import EmbeddingStore, for_region
from clip_factory.encoders.store_check import check_store
from clip_factory.evaluation.labeled_folder import read_folder
from clip_factory.exporters.export_student import export_source
from clip_factory.images import scan as images
from clip_factory.images.photo import Photo, read_squares
from clip_factory.images.scenario_region import scenario_region
from clip_factory.label_sources import labeling
from clip_factory.labels import Labels
from clip_factory.pipeline import STAGES, Job
from clip_factory.run_folder import RunFolder
from clip_factory.runtime import Model
from clip_factory.runtime.preprocessing import to_square
from clip_factory.runtime.region import Region
from clip_factory.scenario import Scenario, dump, load
from clip_factory.scenario import Student as StudentSection
from clip_factory.store import EmbeddingStore as Store
from clip_factory.students import backbones
from clip_factory.students.cross_fitting import logits, member_logits
from clip_factory.students.network import Student
from clip_factory.students.recipe import Recipe
from clip_factory.students.training_data import load_photos
from clip_factory.zeroshot.embedded_folder import embed_folder
from support.door_photos import DOOR, door_encoder, door_frame, save_frames

COUNT = 24


def asked(frames: Path, region: object = None) -> Scenario:
    return Scenario.model_validate(
        {
            "name": "door",
            "question": "Is there a red ball in the door?",
            "positive": ["red ball"],
            "negative": ["green ball"],
            "teacher": {"model": "offline"},
            "images": {"path": str(frames)},
            "student": {"backbone": "resnet-mini", "image_size": 32, "epochs": 6},
            "region": region,
        }
    )


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disc in the door."""
    path = tmp_path_factory.mktemp("mask") / "door.png"
    y, x = np.mgrid[:140, :200]
    disc = ((x - 105) / 24) ** 2 + ((y - 76) / 33) ** 2 < 1
    Image.fromarray(np.where(disc, 255, 0).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module", params=["box", "mask"])
def region(request: pytest.FixtureRequest, mask: Path) -> object:
    """As a scenario names it."""
    return DOOR if request.param == "box" else {"mask": str(mask)}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("door") / "frames"
    save_frames(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def cropped(frames: Path, region: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same frames, cropped by Pillow and filled pixel by pixel, under the same names."""
    folder = tmp_path_factory.mktemp("cropped") / "frames"
    folder.mkdir()
    chosen = scenario_region(asked(frames, region))
    assert chosen is not None
    for file in sorted(frames.iterdir()):
        photo = Image.open(file)
        box = chosen.pixels(*photo.size)
        pixels = np.array(photo.crop(box))
        if chosen.mask is not None:
            for y, x in np.ndindex(pixels.shape[:2]):
                row, column = (
                    math.floor(Fraction(2 * at + 1, 2 * side) * cells)
                    for at, side, cells in zip((y, x), pixels.shape, chosen.mask.cells.shape, strict=False)
                )
                if not chosen.mask.cells[row, column]:
                    pixels[y, x] = 128
        Image.fromarray(pixels).save(folder / file.name)
    shutil.copy(frames.parent / "gold.csv", folder.parent / "gold.csv")
    return folder


@pytest.fixture(autouse=True)
def by_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labeling, "load_encoder", lambda teacher: door_encoder())


def scanned(folder: Path, store: Path, region: Region | None) -> pa.Table:
    return images.scan(folder, store / "scan.sqlite", lambda done, total: None, region)


def labeled(folder: Path, store: Path, region: object) -> tuple[Scenario, Labels]:
    scenario = asked(folder, region)
    usable = images.usable_photos(scanned(folder, store, scenario_region(scenario)))
    photos = [
        Photo(sha256, folder / path)
        for sha256, path in zip(*(usable[name].to_pylist() for name in ("sha256", "path")), strict=True)
    ]
    return scenario, labeling.label(scenario, photos, usable, EmbeddingStore(store), {}).labels


def by_path(labels: Labels, values: np.ndarray) -> dict[str, object]:
    return dict(zip(labels.path, values.tolist(), strict=True))


def test_near_duplicates_are_told_by_the_region(frames: Path, cropped: Path, region: object, tmp_path: Path) -> None:
    chosen = scenario_region(asked(frames, region))
    whole, part, expected = (
        scanned(folder, tmp_path / folder.parent.name, what)
        for folder, what in ((frames, None), (frames, chosen), (cropped, None))
    )
    for column in ("path", "phash", "dhash", "group", "reason"):
        assert part[column] == expected[column], column
    assert part["phash"] != whole["phash"]
    for column in ("sha256", "width", "height", "bytes"):
        assert part[column] == whole[column], "a photo is its file, whole as it is"
    assert scanned(frames, tmp_path / frames.parent.name, None).equals(whole), "from the memory of the whole photos"
    evaluated = read_folder(frames.parent / "gold.csv", frames, chosen)
    groups = partition(evaluated.path, evaluated.group.tolist())
    assert groups == partition(part["path"].to_pylist(), part["group"].to_pylist()), "an evaluation tells them alike"


def partition(paths: Sequence[str], groups: Sequence[int]) -> set[frozenset[str]]:
    pairs = list(zip(paths, groups, strict=True))
    return {frozenset(path for path, other in pairs if other == group) for group in groups}


def test_vectors_scores_and_squares_are_those_of_cropped_photos(
    frames: Path, cropped: Path, region: object, tmp_path: Path
) -> None:
    made = [labeled(frames, tmp_path / "a", region), labeled(cropped, tmp_path / "b", None)]
    vectors, scores, squares = [], [], []
    for (scenario, labels), store in zip(made, (tmp_path / "a", tmp_path / "b"), strict=True):
        kept = EmbeddingStore(store).get(labels.teacher["key"], labels.sha256.tolist())
        vectors.append(by_path(labels, kept))
        scores.append(by_path(labels, labels.scores))
        photos = labels.photos(Path(scenario.images.path or ""), scenario_region(scenario))
        squares.append(by_path(labels, read_squares(photos, 32)))
    assert vectors[0] == vectors[1]
    assert scores[0] == scores[1]
    assert squares[0] == squares[1]
    whole = labeled(frames, tmp_path / "c", None)[1]
    assert by_path(whole, whole.scores) != scores[0]


def test_a_student_is_trained_and_validated_on_the_region(
    frames: Path, cropped: Path, region: object, tmp_path: Path
) -> None:
    scenario, labels = labeled(frames, tmp_path / "store", region)
    run = RunFolder(tmp_path)
    labels.write(run.file(files.LABELS))
    loaded = load_photos(frames, run, Store(tmp_path / "store"), Recipe(), 32, 0, scenario_region(scenario))
    for split, part, size in (("train", loaded.train, round(32 * Recipe().oversize)), ("val", loaded.val, 32)):
        paths = labels.of_split(split).path
        expected = [to_square(Image.open(cropped / path), size) for path in paths]
        assert np.array_equal(part.images.numpy(), expected), split
    network = Student("resnet-mini", 32, backbones.pretrained(backbones.get("resnet-mini"))).eval()
    torch.nn.init.normal_(network.head.weight, std=0.3)
    (member,) = member_logits([network], loaded, frames, run, 32, scenario_region(scenario))
    path_of = dict(zip(labels.sha256, labels.path, strict=True))
    left_out = np.stack([to_square(Image.open(cropped / path_of[sha]), 32) for sha in member.sha256])
    assert member.train == pytest.approx(logits(network, left_out)), "what calibration and threshold rest on"


def test_vectors_of_a_region_are_kept_apart_from_those_of_whole_photos(frames: Path, tmp_path: Path) -> None:
    whole, part = labeled(frames, tmp_path, None)[1], labeled(frames, tmp_path, DOOR)[1]
    again, other = labeled(frames, tmp_path, None)[1], labeled(frames, tmp_path, (0.1, 0.1, 0.5, 0.5))[1]
    keys = [one.teacher["key"] for one in (whole, part, again, other)]
    assert keys[0] == keys[2] == door_encoder().key, "as it was before there were regions"
    assert len(set(keys)) == 3
    store = EmbeddingStore(tmp_path)
    assert [len(store.known(key)) for key in keys] == [COUNT] * 4
    assert sorted(path.name for path in (tmp_path / "vectors").iterdir()) == sorted(set(keys))
    hashes = [labeling.question_hash(asked(frames, what)) for what in (None, DOOR, (0, 0, 1, 1))]
    assert hashes[0] != hashes[1]
    assert hashes[0] == hashes[2], "a region that is the whole photo is none"


def test_the_mask_that_counts_is_what_it_shows(frames: Path, mask: Path, tmp_path: Path) -> None:
    moved = shutil.copy(mask, tmp_path / "other.png")
    Image.open(mask).convert("RGB").save(tmp_path / "same.bmp")
    hashes = {
        labeling.question_hash(asked(frames, {"mask": str(path)})) for path in (mask, moved, tmp_path / "same.bmp")
    }
    assert len(hashes) == 1
    Image.new("L", (10, 10), 255).save(moved)
    assert labeling.question_hash(asked(frames, {"mask": str(moved)})) == labeling.question_hash(asked(frames))


def test_the_store_is_checked_by_the_region_of_its_vectors(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clip_factory.encoders.store_check.load_encoder", lambda teacher: door_encoder())
    labeled(frames, tmp_path, DOOR)
    result = check_store(tmp_path, [frames], lambda done, total: None)
    assert (result.clean, result.vectors, result.not_checked) == (True, COUNT, [])
    encoder = for_region(door_encoder(), scenario_region(asked(frames, DOOR)))
    store = EmbeddingStore(tmp_path)
    names = sorted(store.known(encoder.key))
    swapped = store.get(encoder.key, names)[::-1]
    shutil.rmtree(tmp_path / "vectors")
    with store.writer(encoder.key, encoder.about) as writer:
        writer.add(names, swapped)
    assert check_store(tmp_path, [frames], lambda done, total: None).wrong_vectors


def test_a_folder_is_embedded_by_the_region(frames: Path, cropped: Path, region: object, tmp_path: Path) -> None:
    teacher, chosen = asked(frames).teacher, scenario_region(asked(frames, region))
    part = embed_folder(frames, teacher, tmp_path / "a", door_encoder(), chosen)
    expected = embed_folder(cropped, teacher, tmp_path / "b", door_encoder())
    assert np.array_equal(part.vectors, expected.vectors)
    assert part.groups.tolist() == expected.groups.tolist()


# --- whole runs

MANY = 120


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "frames"
    save_frames(folder, MANY)
    return folder


@pytest.fixture(scope="module")
def finished(many: Path, tmp_path_factory: pytest.TempPathFactory) -> api.Run:
    """A run about the door, and its model."""
    home = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labeling, "load_encoder", lambda teacher: door_encoder())
        return api.run(asked(many, DOOR), runs=home / "runs", store=home / "store")


def accuracy(model: Model, folder: Path) -> float:
    answers = [one.label == "yes" for one in model.predict(folder)]
    return float(np.mean([answer == (number % 2 == 0) for number, answer in enumerate(answers)]))


@pytest.mark.slow
def test_a_camera_is_asked_about_its_door_and_the_rest_misleads_nobody(
    finished: api.Run, many: Path, tmp_path: Path
) -> None:
    assert accuracy(finished.model, many) > 0.95
    result = api.evaluate(finished, gold=many.parent / "gold.csv", images=many)
    assert result.counts.balanced_accuracy.figure > 0.95
    whole = api.run(asked(many), runs=tmp_path / "runs", store=tmp_path / "store")
    assert whole.model.region is None
    assert accuracy(whole.model, many) < 0.05, "without it, the teacher and so the student follow the wall"


@pytest.mark.slow
def test_the_file_answers_alone_as_the_run_said(finished: api.Run, many: Path, tmp_path: Path) -> None:
    """On another machine: the file and photos, and nothing else."""
    alone = Model.load(shutil.copy(finished.path / files.MODEL, tmp_path / "door.onnx"))
    said = RunFolder(finished.path).table(files.PREDICTIONS, "evaluate").to_pydict()
    seen = RunFolder(finished.path).table(files.IMAGES, "scan").to_pydict()
    path_of = dict(zip(seen["sha256"], seen["path"], strict=True))
    paths = [many / path_of[sha] for sha in said["sha256"]]
    asked_again = [one.probability for one in alone.predict(paths)]
    assert asked_again == pytest.approx(said["probability"], abs=1e-6)
    crops = [Image.open(path).crop((80, 42, 130, 112)) for path in paths]
    squares = np.stack([to_square(one, 32) for one in crops])
    assert alone.probabilities(squares).tolist() == pytest.approx(said["probability"], abs=1e-6)
    assert json.loads(alone.metadata["preprocessing"])["region"] == {"box": list(DOOR)}


@pytest.mark.slow
def test_an_export_is_measured_on_the_region(finished: api.Run, many: Path) -> None:
    run = RunFolder(finished.path)
    source, labels = export_source(load(run.file(files.SCENARIO)), run), Labels.of_run(run)
    for split, pixels in (("val", source.images.val), ("test", source.images.test)):
        crops = [Image.open(many / path).crop((80, 42, 130, 112)) for path in labels.of_split(split).path]
        assert np.array_equal(pixels, [to_square(crop, 32) for crop in crops]), split


@pytest.mark.slow
def test_what_lies_outside_of_the_region_makes_no_difference(finished: api.Run) -> None:
    photo = door_frame(500)
    box = finished.model.region.pixels(*photo.size)
    other = Image.new("RGB", photo.size, "orange")
    other.paste(photo.crop(box), box[:2])
    assert finished.model.predict(other) == finished.model.predict(photo)


@pytest.mark.slow
def test_another_region_is_scanned_labeled_and_trained_anew_and_the_same_one_is_not(
    finished: api.Run, mask: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished.path, tmp_path / "run"))
    run, store = RunFolder(folder), finished.path.parents[2] / "store"
    scenario = load(run.file(files.SCENARIO))

    def stale(changed: Scenario) -> list[str]:
        job = Job(run, changed, store)
        return [stage.name for stage in STAGES if "region" in stage.changed(job)]

    everything = ["scan", "label", "train", "export", "evaluate", "report"]
    assert stale(scenario) == []
    assert [stage.name for stage in STAGES if stage.changed(Job(run, scenario, store))] == []
    assert stale(scenario.model_copy(update={"region": (0.4, 0.3, 0.25, 0.49)})) == everything
    assert stale(scenario.model_copy(update={"region": None})) == everything
    box = np.zeros((10, 20), np.uint8)
    box[3:8, 8:13] = 255
    painted = tmp_path / "door.png"
    Image.fromarray(box).save(painted)
    by_mask = Scenario.model_validate(scenario.model_dump() | {"region": {"mask": str(painted)}})
    assert stale(by_mask) == [], "a mask that shows the very same"
    Image.open(mask).save(painted)
    assert stale(by_mask) == everything
    assert "region" not in dump(scenario.model_copy(update={"region": None}))
    student = scenario.model_copy(update={"student": StudentSection(seed=1)})
    assert stale(student) == []
