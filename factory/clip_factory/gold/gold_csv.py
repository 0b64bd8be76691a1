"""Gold labels: a person's yes or no, matched to image contents, from CSV or from the gold.parquet of a review."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clip_factory.errors import GoldError
from clip_factory.gold.label_table import parse_yes, read_table
from clip_factory.gold.photo_names import PhotoNames

UNDECIDED = frozenset({"", "unsure"})
"""Labels that say neither yes nor no: such rows count as unlabeled."""
SHOWN = 3
"""Rows named in an error."""


@dataclass
class GoldFile:
    """What a file of labels says of some images."""

    labels: dict[str, bool] = field(default_factory=dict)
    """By sha256."""
    undecided: int = 0
    """Rows without a yes or no."""
    unusable: int = 0
    """Rows of files that are there and cannot be used."""

    by_ending: int = 0
    """Rows whose path is not that of a photo, and ends, or begins later, like it."""

    @property
    def says(self) -> str | None:
        """What a person should know of how it was read; None where every row was a photo's own."""
        parts = [
            f"{self.undecided:,} rows say neither yes nor no" if self.undecided else "",
            f"{self.unusable:,} rows are of files that cannot be used" if self.unusable else "",
            f"{self.by_ending:,} rows are matched by the end of their path" if self.by_ending else "",
        ]
        return "; ".join(filter(None, parts)) or None


def read_gold(path: Path, images: pa.Table) -> GoldFile:
    """Gold labels of images.

    Args:
        path: Table of text with the columns `path` (see `PhotoNames`) and `label`, as `read_table` takes it; or a
            Parquet file with the columns `label` and `sha256`, as a review makes it, or `path`. Rows of a sha256 that
            is not among the images are passed over: a review may know photos that have gone since.
        images: The table of images.parquet; `path` and `sha256`, and `reason`, where it has one.

    Raises:
        GoldError: The file cannot be read, names unknown images, holds other labels, or contradicts itself.
    """
    if path.suffix.lower() == ".parquet":
        return _of_parquet(path, images)
    rows = [(f"{path}:{row.line}", row.path, row.label) for row in read_table(path)]
    return _matched(rows, images)


def _matched(rows: Iterable[tuple[str, str, str]], images: pa.Table) -> GoldFile:
    """Labels by content, from (where, path, label)."""
    by_path = dict(zip(images["path"].to_pylist(), images["sha256"].to_pylist(), strict=True))
    names, usable = PhotoNames(by_path), _usable(images)
    gold, first = GoldFile(), dict[str, str]()
    unknown: list[str] = []
    unclear: list[str] = []
    for where, name, label in rows:
        if label in UNDECIDED:
            gold.undecided += 1
            continue
        if (yes := parse_yes(label)) is None:
            raise GoldError(f"{where}: label {label[:80]!r} is neither yes nor no")
        matches = names.find(name)
        if len(matches) != 1:
            (unclear if matches else unknown).append(f"{where}: {name}")
            continue
        (sha256,) = matches
        gold.by_ending += not names.is_exact(name)
        if sha256 not in usable:
            gold.unusable += 1
        elif gold.labels.setdefault(sha256, yes) != yes:
            raise GoldError(f"{where}: {name} is labeled {label}, but {first[sha256]} says the opposite")
        else:
            first.setdefault(sha256, f"line {where.rpartition(':')[2]}")
    if unknown:
        hint = "paths are relative to the images folder"
        raise GoldError(f"{len(unknown)} gold labels name no image: {'; '.join(unknown[:SHOWN])}", hint=hint)
    if unclear:
        hint = "name more of the path: several photos end like this"
        raise GoldError(f"{len(unclear)} gold labels may mean several images: {'; '.join(unclear[:SHOWN])}", hint=hint)
    return gold


def _usable(images: pa.Table) -> set[str]:
    """The sha256 of those images that can be used."""
    rows = images["sha256"].to_pylist()
    reasons = images["reason"].to_pylist() if "reason" in images.column_names else [None] * len(rows)
    return {sha256 for sha256, reason in zip(rows, reasons, strict=True) if reason is None and sha256}


def _of_parquet(path: Path, images: pa.Table) -> GoldFile:
    try:
        table = pq.read_table(path)
        if "label" not in table.column_names or not {"sha256", "path"} & set(table.column_names):
            raise ValueError(f"needs the columns sha256,label; found {','.join(table.column_names)}")
        labels = [_label(value) for value in table["label"].to_pylist()]
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise GoldError(f"{path}: no gold.parquet of a review ({error})") from None
    wheres = [f"{path}: row {number}" for number in range(1, len(labels) + 1)]
    if "sha256" not in table.column_names:
        return _matched(zip(wheres, map(str, table["path"].to_pylist()), labels, strict=True), images)
    gold, usable, others = GoldFile(), _usable(images), 0
    for where, sha256, label in zip(wheres, table["sha256"].to_pylist(), labels, strict=True):
        if label in UNDECIDED:
            gold.undecided += 1
        elif (yes := parse_yes(label)) is None:
            raise GoldError(f"{where}: label {label[:80]!r} is neither yes nor no")
        elif sha256 not in usable:
            others += 1
        elif gold.labels.setdefault(sha256, yes) != yes:
            raise GoldError(f"{where}: {sha256} is labeled {label}, but an earlier row says the opposite")
    if others and not gold.labels:
        raise GoldError(f"{path}: none of its {others} labels is of an image of this scenario")
    return gold


def _label(value: Any) -> str:
    """A cell of a column of any type, as `parse_yes` takes it."""
    return "" if value is None or value != value else str(value).strip().lower()
