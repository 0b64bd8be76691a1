"""labels.parquet: one owner, one encoding of gold, and files of version 0.1.0."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clip_factory.errors import RunError
from clip_factory.gold.gold_labels import Gold
from clip_factory.gold.ledger import Event, Ledger
from clip_factory.images.photo import Photo
from clip_factory.labels import SCHEMA, Labels, hard_labels
from clip_factory.run_folder import RunFolder
from clip_factory.statistics import break_even

ROOT = Path(__file__).parent.parent / "factory" / "clip_factory"
NAN = np.nan


@pytest.fixture
def labels() -> Labels:
    """Six photos: two with a person's label, one of them picked for its doubt."""
    return Labels(
        sha256=np.array([f"{n:064x}" for n in range(6)], object),
        path=np.array([f"a/{n}.jpg" for n in range(6)], object),
        group=np.array([0, 0, 1, 2, 3, 4], np.int32),
        p_teacher=np.array([0.9, 0.8, 0.45, 0.4, 0.3, 0.1], np.float32),
        scores=np.full((6, 3), 1 / 3, np.float32),
        gold=np.array([NAN, 0, NAN, 1, NAN, NAN]),
        picked=np.array([False, True, False, False, False, False]),
        split=np.array(["train", "train", "val", "test", "train", "test"]),
        weight=np.array([0.8, 1, 0.2, 1, 0.6, 0.8], np.float32),
        metadata={"phrases": {"positive": ["cat"], "negative": ["dog", "wall"]}, "teacher": {"key": "k"}},
    )


def same(one: Labels, other: Labels) -> None:
    for name in SCHEMA.names:
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.dtype == theirs.dtype, name
        assert np.array_equal(ours, theirs, equal_nan=name == "gold"), name
    assert one.metadata == other.metadata


def test_what_is_written_is_read(labels: Labels, tmp_path: Path) -> None:
    labels.write(tmp_path / "labels.parquet")
    table = pq.read_table(tmp_path / "labels.parquet")

    assert table.schema.remove_metadata() == SCHEMA
    assert table["gold"].to_pylist() == [None, False, None, True, None, None]
    same(Labels.read(tmp_path / "labels.parquet"), labels)
    assert list(labels.to_pandas().columns) == SCHEMA.names
    assert [path.name for path in tmp_path.iterdir()] == ["labels.parquet"], "no temporary file is left"


def test_an_interrupted_write_leaves_the_old_file(
    labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "labels.parquet"
    labels.write(file)
    before = file.read_bytes()

    def interrupted(table: pa.Table, target: Path) -> None:
        Path(target).write_bytes(b"PAR1")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        labels.write(file)
    assert file.read_bytes() == before


def test_gold_has_one_encoding(labels: Labels) -> None:
    assert labels.gold.dtype == np.float64
    assert labels.labeled.tolist() == [False, True, False, True, False, False]
    assert labels.unbiased.tolist() == [False, False, False, True, False, False]


def test_a_persons_label_comes_before_the_break_even(labels: Labels) -> None:
    assert break_even(labels.p_teacher) == pytest.approx(0.45), "2.95 yes are expected: three photos"
    assert labels.answers.tolist() == [True, False, True, True, False, False]
    assert labels.teacher_answers.tolist() == [True, True, True, False, False, False]
    assert hard_labels(labels.p_teacher, labels.gold, 0.85).tolist() == [True, False, False, True, False, False]
    assert labels.counts == {"photos": 6, "yes": 3, "no": 3, "labeled": 2, "train": 3, "val": 1, "test": 2}


def test_splits_keep_order_and_metadata(labels: Labels) -> None:
    held_out = labels.of_split("val", "test")

    assert held_out.path.tolist() == ["a/2.jpg", "a/3.jpg", "a/5.jpg"]
    assert held_out.photos(Path("photos"), None) == [
        Photo(sha256, Path(f"photos/a/{n}.jpg")) for sha256, n in zip(held_out.sha256, (2, 3, 5), strict=True)
    ]
    assert held_out.scores.shape == (3, 3)
    assert held_out.metadata == labels.metadata
    assert len(labels.of_split("nothing")) == 0


def test_a_file_without_photos_and_one_of_a_source_without_phrases_are_read(labels: Labels, tmp_path: Path) -> None:
    for rows in (labels.select(np.zeros(6, bool)), replace(labels, scores=np.zeros((6, 0), np.float32))):
        rows.write(tmp_path / "labels.parquet")
        read = Labels.read(tmp_path / "labels.parquet")
        assert read.scores.shape == (len(rows), 0)
        assert read.counts["photos"] == len(rows)


def test_what_older_files_lack_has_a_default(labels: Labels) -> None:
    table = labels.to_arrow().drop_columns(["scores", "picked", "weight"]).replace_schema_metadata(None)
    read = Labels.from_table(table)

    assert (read.scores.shape, read.picked.any(), read.weight.tolist()) == ((6, 0), False, [1.0] * 6)
    assert (read.teacher, read.positive, read.refinement) == ({}, (), {})


def test_the_license_of_version_0_1_0_is_read(labels: Labels) -> None:
    about = {"teacher": json.dumps({"key": "k", "licence": "MIT"})}
    older = Labels.from_table(labels.to_arrow().replace_schema_metadata(about))

    assert older.teacher == {"key": "k", "license": "MIT"}
    assert replace(labels, metadata={"teacher": {"license": "new", "licence": "old"}}).teacher["license"] == "new"


def damage(labels: Labels, file: Path, kind: str) -> None:
    table = labels.to_arrow()
    if kind == "no parquet":
        file.write_bytes(b"PAR1")
    elif kind == "no column":
        pq.write_table(table.drop_columns(["p_teacher", "gold"]), file)
    elif kind == "metadata":
        pq.write_table(table.replace_schema_metadata({"teacher": "{"}), file)
    elif kind == "type":
        words = pa.array(["much"] * 6)
        pq.write_table(table.set_column(table.column_names.index("p_teacher"), "p_teacher", words), file)


@pytest.mark.parametrize("kind", ["no file", "no parquet", "no column", "metadata", "type"])
def test_damaged_labels_are_an_error_that_says_what_to_do(labels: Labels, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "labels.parquet"
    damage(labels, file, kind)

    with pytest.raises(RunError) as caught:
        Labels.of_run(RunFolder(tmp_path))
    assert "factory label" in (caught.value.hint or "")
    with pytest.raises(RunError) as caught:
        Labels.read(file)
    assert str(caught.value).startswith(f"{file}: no labels (")
    assert caught.value.hint == "make them: factory label SCENARIO"


def test_a_file_without_columns_names_them_and_the_file(labels: Labels, tmp_path: Path) -> None:
    file = tmp_path / "labels.parquet"
    damage(labels, file, "no column")

    with pytest.raises(RunError) as caught:
        Labels.of_run(RunFolder(tmp_path))
    assert str(caught.value) == (
        f"{file}: damaged (no column p_teacher, gold)\n  delete labels.parquet, then: factory label {tmp_path}"
    )


def test_columns_of_other_types_become_those_of_the_schema(labels: Labels) -> None:
    table = labels.to_arrow()
    for name, kind in (("weight", pa.float64()), ("picked", pa.int8()), ("sha256", pa.large_string())):
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    same(Labels.from_table(table), labels)
    older = Labels.from_table(labels.to_arrow().drop_columns(["scores", "picked", "weight"]))
    assert (older.scores.dtype, older.picked.dtype, older.weight.dtype) == (np.float32, np.bool_, np.float32)
    one = labels.select(np.array([0]))
    same(Labels.from_table(one.to_arrow()), one)


def test_a_review_comes_before_the_gold_file() -> None:
    """Where people disagree, the photo counts as unlabeled; what was asked for its doubt alone is picked."""
    events = [
        Event("1", "", "asked", "Ada", {"random": ""}, random=frozenset({"random"})),
        Event("2", "", "answer", "Ada", dict.fromkeys(("file", "random", "doubtful", "torn", "elsewhere"), ""), "yes"),
        Event("3", "", "answer", "Bob", {"torn": ""}, "no"),
    ]
    gold = Gold.merge({"file": False, "torn": True, "kept": False}, Ledger.of(events), {"file", "random", "doubtful"})

    assert gold.labels == {"kept": False, "file": True, "random": True, "doubtful": True}
    assert gold.picked == {"doubtful"}, "the gold file was not made by doubt"
    column = gold.column(["kept", "torn", "file"])
    assert np.array_equal(column, [0, NAN, 1], equal_nan=True)
    assert gold.picked_column(["kept", "doubtful"]).tolist() == [False, True]


OWN_COLUMN = {"gold_csv.py", "journal.py"}
"""Files that read or write another table, with columns of its own."""


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_else_reads_the_columns(path: Path) -> None:
    if path == ROOT / "labels.py" or path.name in OWN_COLUMN:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            assert node.slice.value not in ("p_teacher", "picked"), f"{path}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "table":
            names = [ast.unparse(argument) for argument in node.args]
            assert not any(name.split(".")[-1] == "LABELS" for name in names) or path.name == "fingerprints.py", (
                f"{path}:{node.lineno} reads labels.parquet past labels.py"
            )
