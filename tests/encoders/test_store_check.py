"""A store that holds a vector or a hash of another photo is found, and mended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from clip_factory import encoders
from clip_factory.cli.main import app
from clip_factory.encoders import EmbeddingStore, Encoder
from clip_factory.encoders.store_check import check_store
from clip_factory.images import scan as images
from clip_factory.images.photo import Photo
from clip_factory.scenario import Teacher


@pytest.fixture(scope="module")
def encoder(tiny_clip: Path) -> Encoder:
    return encoders.load_encoder(Teacher(model=f"local-dir:{tiny_clip}"))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Photo]:
    monkeypatch.setattr(images, "SETTLED_SECONDS", -60.0)
    (tmp_path / "photos").mkdir()
    for number, color in enumerate(("black", "white", "red", "blue", "yellow", "lime")):
        Image.new("RGB", (48, 48), color).save(tmp_path / "photos" / f"{number}.png")
    return [Photo.of(path) for path in sorted((tmp_path / "photos").iterdir())]


@pytest.fixture
def store(tmp_path: Path, photos: list[Photo], encoder: Encoder) -> Path:
    """A store after a scan and an embedding; the vectors of two photos are each other's, of one it has none."""
    images.scan(tmp_path / "photos", tmp_path / "store" / "scan.sqlite", lambda *_: None)
    vectors = encoder.embed_images([Image.open(photo.path) for photo in photos])
    with EmbeddingStore(tmp_path / "store").writer(encoder.key, encoder.about) as writer:
        writer.add([photos[i].sha256 for i in (0, 1, 2, 3, 4)], vectors[[1, 0, 2, 3, 4]])
    return tmp_path / "store"


def run(store: Path, *folders: Path, repair: bool = False) -> tuple[set[int], set[int], int, int]:
    found = check_store(store, folders, lambda *_: None, repair=repair)
    assert found.not_checked == []
    assert found.clean is not bool(found.wrong_hashes or found.wrong_vectors)
    hashes = {int(path.stem) for path in found.wrong_hashes}
    return hashes, {int(path.stem) for _, path in found.wrong_vectors}, found.photos, found.vectors


def test_vectors_of_other_photos_are_found_and_taken_out(store: Path, photos: list[Photo], encoder: Encoder) -> None:
    assert run(store) == (set(), {0, 1}, 6, 5)
    assert run(store, repair=True) == (set(), {0, 1}, 6, 5)
    assert EmbeddingStore(store).known(encoder.key) == {photos[i].sha256 for i in (2, 3, 4)}
    assert run(store) == (set(), set(), 6, 3)


def test_a_hash_of_other_bytes_is_found_and_forgotten(
    store: Path, photos: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with images._ScanCache(store / "scan.sqlite") as known:
        known.keep_hash(photos[5].path, photos[5].path.stat(), "0" * 64)
    assert run(store)[0] == {5}
    run(store, repair=True)
    assert run(store)[0] == set()
    table = images.scan(tmp_path / "photos", store / "scan.sqlite", lambda *_: None)
    assert photos[5].sha256 in table["sha256"].to_pylist()


def test_photos_that_no_scan_has_seen_are_checked_where_they_are_named(store: Path, tmp_path: Path) -> None:
    (store / "scan.sqlite").unlink()
    assert run(store) == (set(), set(), 0, 0)
    assert run(store, tmp_path / "photos") == (set(), {0, 1}, 6, 5)


def test_vectors_of_an_encoder_that_is_not_to_be_had_are_named(store: Path) -> None:
    for key, about in (("gone", {"name": "local-dir:/nowhere"}), ("old", {"name": "offline"}), ("odd", [])):
        (store / "vectors" / key).mkdir()
        (store / "vectors" / key / "teacher.json").write_text(json.dumps(about))
    said = sorted(check_store(store, [], lambda *_: None).not_checked)
    assert [line.partition(": ")[0].rpartition("/")[2] for line in said] == ["gone", "odd", "old"]
    assert "its encoder cannot be loaded (teacher local-dir:/nowhere" in said[0]
    assert "made by another version of offline, and not used any more" in said[2]


def test_the_command_says_what_is_wrong_and_mends_it(store: Path) -> None:
    found = CliRunner().invoke(app, ["store", "check", "--store", str(store)])
    assert found.exit_code == 1
    assert "0.png: its local-dir:" in found.stdout
    assert "6 photos hashed, 5 vectors compared, 2 wrong" in found.stdout
    mended = CliRunner().invoke(app, ["store", "check", "--store", str(store), "--repair"])
    assert (mended.exit_code, mended.stdout.splitlines()[-1]) == (0, "6 photos hashed, 5 vectors compared, 2 taken out")
    assert CliRunner().invoke(app, ["store", "check", "--store", str(store)]).exit_code == 0
