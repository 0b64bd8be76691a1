"""Gold labels: a person's yes or no, matched to image contents, from CSV or from the gold.parquet of a review."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from clip_factory.errors import GoldError

YES = frozenset({"yes", "y", "true", "1"})
NO = frozenset({"no", "n", "false", "0"})


def read_gold(path: Path, images: pa.Table) -> dict[str, bool]:
    """Gold labels by image sha256.

    Args:
        path: CSV with the columns `path` (relative to the images root) and `label` (yes or no); or a Parquet file with
            the columns `sha256` and `label`, as a review makes it: rows that say neither yes nor no, and images that
            are not among these, are passed over.
        images: The table of images.parquet.

    Raises:
        GoldError: The file cannot be read, names unknown images, holds other labels, or contradicts itself.
    """
    if path.suffix == ".parquet":
        return _of_review(path, set(images["sha256"].to_pylist()))
    by_path = dict(zip(images["path"].to_pylist(), images["sha256"].to_pylist(), strict=True))
    gold: dict[str, bool] = {}
    first_line: dict[str, int] = {}
    unknown: list[str] = []
    for line, name, label in _rows(path):
        sha256 = by_path.get(PurePosixPath(name.replace("\\", "/")).as_posix())
        if label not in YES | NO:
            raise GoldError(f"{path}:{line}: label {label!r} is neither yes nor no")
        if sha256 is None:
            unknown.append(f"{path}:{line}: {name}")
        elif gold.setdefault(sha256, label in YES) != (label in YES):
            raise GoldError(
                f"{path}:{line}: {name} is labeled {label}, but line {first_line[sha256]} says the opposite"
            )
        else:
            first_line.setdefault(sha256, line)
    gold.pop("", None)  # files that could not be opened have no content to label
    if unknown:
        raise GoldError(
            f"{len(unknown)} gold labels name no image: {'; '.join(unknown[:3])}",
            hint="paths are relative to the images folder",
        )
    return gold


def _of_review(path: Path, known: set[str]) -> dict[str, bool]:
    try:
        table = pq.read_table(path, columns=["sha256", "label"])
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise GoldError(f"{path}: no gold.parquet of a review ({error})") from None
    rows = zip(table["sha256"].to_pylist(), table["label"].to_pylist(), strict=True)
    gold = {sha: label in YES for sha, label in rows if label in YES | NO}
    ours = {sha: answer for sha, answer in gold.items() if sha in known}
    if gold and not ours:
        raise GoldError(f"{path}: none of its {len(gold)} labels is of an image of this scenario")
    return ours


def _rows(path: Path) -> list[tuple[int, str, str]]:
    """(line, path, label) of each row, the label in small letters."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"path", "label"} <= set(reader.fieldnames or ()):
                raise GoldError(f"{path}:1: needs the columns path,label; found {','.join(reader.fieldnames or ())!r}")
            return [
                (reader.line_num, (row["path"] or "").strip(), (row["label"] or "").strip().lower()) for row in reader
            ]
    except FileNotFoundError:
        raise GoldError(f"{path}: no such file of gold labels", hint="check the path") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise GoldError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from None
