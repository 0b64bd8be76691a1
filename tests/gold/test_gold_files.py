"""Gold labels from files: matched by path, kept by content, refused by line."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clip_factory.errors import GoldError
from clip_factory.gold import gold_csv as gold


def test_the_gold_table_of_a_review_is_gold(tmp_path: Path) -> None:
    reviewed = pa.table({"sha256": ["1", "2", "9", "3"], "label": ["no", "unsure", "yes", None]})
    pq.write_table(reviewed, tmp_path / "ball.gold.parquet")

    assert gold.read_gold(tmp_path / "ball.gold.parquet", IMAGES) == {"1": False}
    pq.write_table(reviewed.slice(2), tmp_path / "other.gold.parquet")
    with pytest.raises(GoldError, match="none of its 1 labels"):
        gold.read_gold(tmp_path / "other.gold.parquet", IMAGES)
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(GoldError, match=r"no gold\.parquet of a review"):
        gold.read_gold(tmp_path / "bad.parquet", IMAGES)


IMAGES = pa.table({"path": ["a.jpg", "b/c.jpg", "copy.jpg"], "sha256": ["1", "2", "1"]})


def read(tmp_path: Path, text: str) -> dict[str, bool]:
    (tmp_path / "g.csv").write_text(text, encoding="utf-8")
    return gold.read_gold(tmp_path / "g.csv", IMAGES)


def test_gold_is_matched_by_path_and_kept_by_content(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffpath,label\na.jpg,Yes\nb\\c.jpg,0\ncopy.jpg,true\n") == {"1": True, "2": False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.jpg,maybe\n", "g.csv:2: label 'maybe' is neither yes nor no"),
        ("path,label\nz.jpg,yes\n", "1 gold labels name no image: .*g.csv:2: z.jpg"),
        ("path,label\na.jpg,yes\ncopy.jpg,no\n", "g.csv:3: copy.jpg is labeled no, but line 2 says the opposite"),
        ("file,answer\n", "needs the columns path,label"),
        ("", "needs the columns path,label"),
    ],
)
def test_bad_gold_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GoldError, match=message):
        read(tmp_path, text)
