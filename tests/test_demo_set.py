"""The demo's rendered set: seeded, complete, and truthful about its files."""

import csv
import hashlib

import numpy as np
import pytest
from PIL import Image

from clip_factory_demo.hard_cases import WRITERS
from clip_factory_demo.render import MARK, YES, _clear, photographs, render_set
from clip_factory_demo.staging import KINDS, photograph

COUNT = 2


def hashes(folder):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted((folder / "images").iterdir())}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    calls = []
    truth = render_set(out, COUNT, 0, lambda done, count: calls.append((done, count)))
    return out, truth, calls


def readable(path):
    try:
        with Image.open(path) as image:
            image.load()
    except OSError:
        return False
    return True


def test_every_readable_file_has_a_true_row_and_no_other(made):
    out, truth, calls = made
    files = {f.name for f in (out / "images").iterdir()}
    assert len(files) == COUNT + sum(WRITERS.values())
    assert {name for name, _ in truth} == {f for f in files if readable(out / "images" / f)}
    with (out / "truth.csv").open(newline="") as file:
        rows = {row["path"]: row["label"] for row in csv.DictReader(file)}
    assert rows == {path: "yes" if name == YES else "no" for path, name in truth}
    assert calls == sorted(calls)
    assert calls[-1] == (COUNT, COUNT)


def test_the_awkward_files_are_there(made):
    images = [f for f in sorted((made[0] / "images").iterdir()) if readable(f)]
    broken = set((made[0] / "images").iterdir()) - set(images)
    assert sorted(f.suffix for f in broken) == [".jpg", ".jpg", ".png"]
    assert any(f.stat().st_size == 0 for f in broken)
    modes = {Image.open(f).mode for f in images}
    assert {"RGB", "CMYK", "RGBA"} < modes
    assert any(mode.startswith("I") for mode in modes)
    assert [Image.open(f).getexif().get(0x0112) for f in images].count(6) == 1
    assert any(f.suffix == ".JPG" for f in images)
    digests = list(hashes(made[0]).values())
    assert len(digests) - len(set(digests)) == 1


def test_same_seed_same_bytes(made, tmp_path):
    render_set(tmp_path / "again", COUNT, 0)
    assert hashes(tmp_path / "again") == hashes(made[0])
    assert (tmp_path / "again" / "truth.csv").read_bytes() == (made[0] / "truth.csv").read_bytes()


def test_another_seed_makes_other_pictures(made, tmp_path):
    (tmp_path / "images").mkdir()
    photographs(tmp_path / "images", 1, 1, None)
    assert hashes(tmp_path)["img_0001.jpg"] not in hashes(made[0]).values()


def test_only_its_own_pictures_are_replaced(tmp_path):
    own = tmp_path / "images" / "IMG_0042.JPG"
    own.parent.mkdir()
    own.write_bytes(b"a person's photo")
    with pytest.raises(FileExistsError, match="already holds images"):
        render_set(tmp_path, 1)
    (own.parent / "img_0001.jpg").write_bytes(b"made by an earlier call")
    (tmp_path / MARK).write_text("img_0001.jpg\n")
    _clear(tmp_path)
    assert list(own.parent.iterdir()) == [own]


@pytest.mark.parametrize("name", KINDS)
def test_every_class_renders_a_picture_with_light_and_dark(name):
    picture = photograph(name, np.random.default_rng(5))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert 204 <= min(picture.shape[:2]) <= max(picture.shape[:2]) <= 288
    assert picture.std() > 15
    assert 30 < picture.mean() < 220


def test_one_process_renders_what_several_do(made, tmp_path, monkeypatch):
    monkeypatch.setattr("clip_factory_demo.render.usable_cpus", lambda: 1)
    render_set(tmp_path, COUNT, 0)
    assert hashes(tmp_path) == hashes(made[0])


def test_a_process_that_fails_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("clip_factory_demo.render.usable_cpus", lambda: 2)
    monkeypatch.setattr("clip_factory_demo.render.WORKER", "raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="a process that renders pictures has failed"):
        photographs(tmp_path, 2, 0, None)
