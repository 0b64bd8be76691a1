"""What a release says of the photos that shaped its model, and what is taken for one of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clip_factory.errors import RegistryError
from clip_factory.images import scan
from clip_factory.images.scan import ImageRecord
from clip_factory.labels import Labels
from clip_factory.run_folder import IMAGES, LABELS, RunFolder
from clip_factory.seen_photos import SeenPhotos, write_splits

BITS = {"phash": scan.PHASH_BITS, "dhash": scan.DHASH_BITS}


def images_of(rows: dict[str, tuple[int, int]]) -> pa.Table:
    records = [
        ImageRecord(f"{sha}.jpg", sha, 1, 1, 1, "JPEG", f"{phash:016x}", f"{dhash:016x}", None)
        for sha, (phash, dhash) in rows.items()
    ]
    columns = ("path", "sha256", "phash", "dhash", "reason")
    return pa.table({name: [getattr(record, name) for record in records] for name in columns})


def labels_of(splits: dict[str, str]) -> Labels:
    count = len(splits)
    table = {
        "sha256": list(splits),
        "path": [f"{sha}.jpg" for sha in splits],
        "group": pa.array(range(count), pa.int32()),
        "p_teacher": pa.array([0.5] * count, pa.float32()),
        "gold": pa.array([None] * count, pa.bool_()),
        "split": list(splits.values()),
    }
    return Labels.from_table(pa.table(table))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """One photo of each split, their hashes far apart."""
    far = {"a": (0, 0), "b": (2**64 - 1, 0), "c": (0xFFFF, 2**64 - 1)}
    pq.write_table(images_of(far), tmp_path / IMAGES)
    labels_of({"a": "train", "b": "val", "c": "test"}).write(tmp_path / LABELS)
    write_splits(RunFolder(tmp_path))
    return RunFolder(tmp_path)


def seen(run: RunFolder) -> SeenPhotos:
    return SeenPhotos.parse((run.path / "splits.csv").read_bytes(), "x")


def test_the_file_names_every_photo_with_its_split_and_hashes(run: RunFolder) -> None:
    assert (run.path / "splits.csv").read_text().splitlines() == [
        "sha256,split,phash,dhash",
        "a,train,0000000000000000,0000000000000000",
        "b,val,ffffffffffffffff,0000000000000000",
        "c,test,000000000000ffff,ffffffffffffffff",
    ]


def test_photos_of_train_and_val_are_seen_and_those_of_test_are_not(run: RunFolder) -> None:
    labels, images = Labels.of_run(run), pq.read_table(run.file(IMAGES))
    assert seen(run).sha256 == {"a", "b"}
    assert seen(run).includes(labels, images).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("phash_bits", "dhash_bits", "alike"),
    [(BITS["phash"], BITS["dhash"], True), (BITS["phash"] + 1, 0, False), (0, BITS["dhash"] + 1, False), (0, 0, True)],
)
def test_look_alikes_are_seen_too(run: RunFolder, phash_bits: int, dhash_bits: int, alike: bool) -> None:
    new = {"x": (2**phash_bits - 1, 2**dhash_bits - 1), "y": (0xF0F0F0F0F0F0F0F0, 0xF0F0F0F0F0F0F0F0)}
    labels = labels_of({"x": "test", "y": "test"})
    assert seen(run).includes(labels, images_of(new)).tolist() == [alike, False]


def test_many_photos_are_compared_in_parts(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_factory.seen_photos.ROWS_AT_ONCE", 2)
    new = {f"n{i}": (0 if i % 3 == 0 else 0xF0F0F0F0F0F0F0F0, 0) for i in range(7)}
    labels = labels_of(dict.fromkeys(new, "test"))
    assert seen(run).includes(labels, images_of(new)).tolist() == [i % 3 == 0 for i in range(7)]


def test_a_table_without_hashes_is_told_by_content_alone(run: RunFolder) -> None:
    images = pq.read_table(run.file(IMAGES)).drop_columns(["phash", "dhash"])
    pq.write_table(images, run.file(IMAGES))
    write_splits(run)
    assert (run.path / "splits.csv").read_text().splitlines()[1] == "a,train,,"
    assert seen(run).includes(Labels.of_run(run), images).tolist() == [True, True, False]


@pytest.mark.parametrize("data", [b"", b"a,b\n1,2\n", b"\xff\xfe", b"sha256,split,phash,dhash\na,train,zz,0\n"])
def test_a_damaged_table_is_refused(data: bytes) -> None:
    if data:
        with pytest.raises(RegistryError, match="x@1: not a table of splits"):
            SeenPhotos.parse(data, "x@1")
    else:
        assert SeenPhotos.parse(data, "x@1").sha256 == frozenset()
