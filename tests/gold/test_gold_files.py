"""Gold labels from files: matched by path, kept by content, refused by line."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clip_factory.errors import GoldError
from clip_factory.gold import gold_csv as gold
from clip_factory.gold.gold_csv import GoldFile


def test_the_gold_table_of_a_review_is_gold(tmp_path: Path) -> None:
    reviewed = pa.table({"sha256": ["1", "2", "9", "3"], "label": ["no", "unsure", "yes", None]})
    pq.write_table(reviewed, tmp_path / "ball.gold.parquet")

    assert gold.read_gold(tmp_path / "ball.gold.parquet", IMAGES) == GoldFile({"1": False}, undecided=2)
    pq.write_table(reviewed.slice(2), tmp_path / "other.gold.parquet")
    with pytest.raises(GoldError, match="none of its 1 labels"):
        gold.read_gold(tmp_path / "other.gold.parquet", IMAGES)
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(GoldError, match=r"no gold\.parquet of a review"):
        gold.read_gold(tmp_path / "bad.parquet", IMAGES)


IMAGES = pa.table({"path": ["a.jpg", "b/c.jpg", "copy.jpg"], "sha256": ["1", "2", "1"]})


def read(tmp_path: Path, text: str, images: pa.Table = IMAGES, encoding: str = "utf-8") -> GoldFile:
    (tmp_path / "g.csv").write_bytes(text.encode(encoding))
    return gold.read_gold(tmp_path / "g.csv", images)


def test_gold_is_matched_by_path_and_kept_by_content(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffpath,label\na.jpg,Yes\nb\\c.jpg,0\ncopy.jpg,true\n") == GoldFile(
        {"1": True, "2": False}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.jpg,maybe\n", "g.csv:2: label 'maybe' is neither yes nor no"),
        ("path,label\nz.jpg,yes\n", "1 gold labels name no image: .*g.csv:2: z.jpg"),
        ("path,label\na.jpg,yes\ncopy.jpg,no\n", "g.csv:3: copy.jpg is labeled no, but line 2 says the opposite"),
        ("photograph,verdict\n", "needs the columns path,label; found 'photograph,verdict'"),
        ("", "needs the columns path,label"),
    ],
)
def test_bad_gold_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GoldError, match=message):
        read(tmp_path, text)


BOTH = GoldFile({"1": True, "2": False})


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("path;label\na.jpg;yes\nb/c.jpg;no\n", "utf-8"),
        ("path\tlabel\na.jpg\tyes\nb/c.jpg\tno\n", "utf-16"),
        ("Path,Label\r\na.jpg,1.0\r\nb/c.jpg,0.0\r\n", "utf-8-sig"),
        ("path,label,\na.jpg,yes,\n,,\nb/c.jpg,no,\n\n", "utf-8"),
        ('"path","label"\n"a.jpg","TRUE"\n"b\\c.jpg"," False "\n', "utf-8"),
        ('label,filename,remark\nyes,a.jpg,x\nno,./b/c.jpg,"two\nlines"\n', "utf-8"),
    ],
    ids=["semicolon", "tab in UTF-16", "Excel", "trailing separators", "quotes", "other columns"],
)
def test_the_dialects_of_spreadsheets_are_read(tmp_path: Path, text: str, encoding: str) -> None:
    assert read(tmp_path, text, encoding=encoding) == BOTH


def test_blank_labels_are_counted_and_not_taken(tmp_path: Path) -> None:
    found = read(tmp_path, "path,label\na.jpg,\nb/c.jpg,no\ncopy.jpg,unsure\n")
    assert found == GoldFile({"2": False}, undecided=2)
    assert found.says == "2 rows say neither yes nor no"


def test_labels_of_files_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    images = pa.table(
        {"path": ["a.jpg", "b.jpg", "c.txt"], "sha256": ["1", "2", ""], "reason": [None, "damaged", "no"]}
    )
    found = read(tmp_path, "path,label\na.jpg,yes\nb.jpg,no\nc.txt,no\n", images)
    assert found == GoldFile({"1": True}, unusable=2)
    assert found.says == "2 rows are of files that cannot be used"
    pq.write_table(pa.table({"sha256": ["1", "2"], "label": ["yes", "no"]}), tmp_path / "g.parquet")
    assert gold.read_gold(tmp_path / "g.parquet", images).labels == {"1": True}


@pytest.mark.parametrize(
    ("name", "sha256", "by_ending"),
    [
        ("Tiere/Cafe\u0301.jpg", "1", False),  # NFD in the table, NFC on the disk
        ("tiere/CAF\u00c9.JPG", "1", False),
        ("n\u0308.jpg", "2", False),
        ("/home/me/photos/Tiere/Caf\u00e9.jpg", "1", True),
        ("C:\\photos\\Tiere\\Caf\u00e9.jpg", "1", True),
        ("caf\u00e9.jpg", "1", True),
        ("./x/same.jpg", "3", False),
    ],
)
def test_names_are_matched_in_every_form(tmp_path: Path, name: str, sha256: str, by_ending: bool) -> None:
    paths = ["Tiere/Caf\u00e9.jpg", "n\u0308.jpg", "x/same.jpg", "y/same.jpg"]
    images = pa.table({"path": paths, "sha256": ["1", "2", "3", "4"]})
    assert read(tmp_path, f"path,label\n{name},yes\n", images) == GoldFile({sha256: True}, by_ending=by_ending)


def test_a_name_that_several_photos_have_is_refused_by_line(tmp_path: Path) -> None:
    images = pa.table({"path": ["x/same.jpg", "y/same.jpg"], "sha256": ["3", "4"]})
    with pytest.raises(GoldError, match=r"1 gold labels may mean several images: .*g\.csv:2: same\.jpg"):
        read(tmp_path, "path,label\nsame.jpg,yes\n", images)


@pytest.mark.parametrize(
    "labels",
    [pa.array([1, 0], pa.int8()), pa.array([True, False]), pa.array([1.0, 0.0]), pa.array(["Yes", " no "])],
    ids=lambda labels: str(labels.type),
)
@pytest.mark.parametrize("key", ["sha256", "path"])
def test_labels_of_every_type_in_parquet(tmp_path: Path, labels: pa.Array, key: str) -> None:
    names = {"sha256": ["1", "2"], "path": ["a.jpg", "b/c.jpg"]}[key]
    pq.write_table(pa.table({key: names, "label": labels}), tmp_path / "g.parquet")
    assert gold.read_gold(tmp_path / "g.parquet", IMAGES) == BOTH


@pytest.mark.parametrize("column", [{"label": [2]}, {"label": ["maybe"]}])
def test_other_labels_in_parquet_are_refused_by_row(tmp_path: Path, column: dict) -> None:
    pq.write_table(pa.table({"sha256": ["1"], **column}), tmp_path / "g.parquet")
    with pytest.raises(GoldError, match=r"g\.parquet: row 1: label '\w+' is neither yes nor no"):
        gold.read_gold(tmp_path / "g.parquet", IMAGES)


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GoldError, match=r"neither UTF-8 nor UTF-16 \(byte 13\)\n  save it as CSV in UTF-8"):
        read(tmp_path, "path,label\nca\u00e9.jpg,yes\n", encoding="latin-1")
