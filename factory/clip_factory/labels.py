"""The labels of a run: the one owner of labels.parquet.

A row is one photo, by the sha256 of its bytes. A person's label is encoded in one way everywhere in memory: float64,
1 yes, 0 no, NaN where no person has labeled the photo. In the file it is a boolean that may be null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clip_factory.errors import RunError
from clip_factory.images.photo import Photo
from clip_factory.images.photo_paths import file_at
from clip_factory.run_folder import LABELS, RunFolder
from clip_factory.runtime.atomic import atomic
from clip_factory.runtime.region import Region
from clip_factory.statistics import break_even

if TYPE_CHECKING:  # a second to import, which only a notebook needs
    import pandas as pd

SCHEMA = pa.schema(
    [
        ("sha256", pa.string()),
        ("path", pa.string()),
        ("group", pa.int32()),
        ("p_teacher", pa.float32()),
        ("scores", pa.list_(pa.float32())),
        ("gold", pa.bool_()),
        ("picked", pa.bool_()),
        ("split", pa.string()),
        ("weight", pa.float32()),
    ]
)
"""Columns and types of labels.parquet. Files without `scores`, `picked` or `weight` are read, too."""
ANSWER_COLUMNS = ("yes",), ("no",)
"""Columns of `scores`, for yes and for no, of a label source that compares photos with no phrases."""
REQUIRED = ("sha256", "path", "group", "p_teacher", "gold", "split")


@dataclass(frozen=True, eq=False)
class Labels:
    """The labeled photos, in the order of the file (by sha256); all arrays have N rows."""

    sha256: np.ndarray
    """object `(N,)`: hex strings, all different."""
    path: np.ndarray
    """object `(N,)`: POSIX paths, relative to the root of the images."""
    group: np.ndarray
    """int32 `(N,)`: near-duplicates share a number."""
    p_teacher: np.ndarray
    """float32 `(N,)` in [0, 1]: the teacher's probability of yes."""
    scores: np.ndarray
    """float32 `(N, P)`: the teacher's probability of each phrase, positive phrases first; P = 0 where it uses none."""
    gold: np.ndarray
    """float64 `(N,)`: a person's label, 1 yes, 0 no, NaN where there is none."""
    picked: np.ndarray
    """bool `(N,)`: whether the person was asked because the photo looked doubtful, and not at random."""
    split: np.ndarray
    """str `(N,)`: `train`, `val` or `test`."""
    weight: np.ndarray
    """float32 `(N,)` in [0, 1]: the weight in training."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Stored beside the columns as JSON: `phrases`, `teacher`, and `probe`, which says what refinement did."""

    def __len__(self) -> int:
        return len(self.sha256)

    @classmethod
    def read(cls, path: Path) -> Labels:
        """The labels in a file.

        Raises:
            RunError: It is missing, no Parquet file, or lacks a column.
        """
        try:
            return cls.from_table(pq.read_table(path))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise RunError(f"{path}: no labels ({error})", hint="make them: factory label SCENARIO") from None

    @classmethod
    def of_run(cls, run: RunFolder) -> Labels:
        """The labels of a run.

        Raises:
            RunError: The run has none, or its file is damaged; the message names the command that makes it.
        """
        table = run.table(LABELS, "label")
        try:
            return cls.from_table(table)
        except (pa.ArrowException, ValueError) as error:
            path = run.file(LABELS)
            raise RunError(
                f"{path}: damaged ({error})", hint=f"delete {path.name}, then: factory label {run.path}"
            ) from None

    @classmethod
    def from_table(cls, table: pa.Table) -> Labels:
        """The labels in a table with the columns of `SCHEMA`.

        Raises:
            ValueError: A required column is missing or has empty cells, scores differ in length, or the metadata is no
                JSON.
            pyarrow.ArrowException: A column has another type.
        """
        missing = [name for name in REQUIRED if name not in table.column_names]
        if missing:
            raise ValueError(f"no column {', '.join(missing)}")
        empty = [name for name in REQUIRED if name != "gold" and table[name].null_count]
        if empty:
            raise ValueError(f"empty cells in {', '.join(empty)}")
        stored: Mapping[bytes, bytes] = table.schema.metadata or {}
        return cls(
            sha256=_objects(table["sha256"]),
            path=_objects(table["path"]),
            group=table["group"].cast(pa.int32()).to_numpy(),
            p_teacher=table["p_teacher"].cast(pa.float32()).to_numpy(),
            scores=_scores(table),
            gold=table["gold"].cast(pa.int8()).cast(pa.float64()).to_numpy(),
            picked=_optional(table, "picked", False, np.bool_),
            split=np.array(table["split"].to_pylist(), dtype=np.str_),
            weight=_optional(table, "weight", 1.0, np.float32),
            metadata={key.decode(): json.loads(value) for key, value in stored.items()},
        )

    def to_arrow(self) -> pa.Table:
        """A table of `SCHEMA` with the metadata."""
        columns = {
            "sha256": self.sha256,
            "path": self.path,
            "group": self.group,
            "p_teacher": self.p_teacher,
            "scores": list(self.scores),
            "gold": pa.array(np.nan_to_num(self.gold) == 1, pa.bool_(), mask=~self.labeled),
            "picked": self.picked,
            "split": self.split.tolist(),
            "weight": self.weight,
        }
        metadata = {key: json.dumps(value) for key, value in self.metadata.items()}
        return pa.table(columns, schema=SCHEMA).replace_schema_metadata(metadata)

    def to_pandas(self) -> pd.DataFrame:
        """A data frame with the columns of `SCHEMA`; needs pandas."""
        return self.to_arrow().to_pandas()

    def write(self, path: Path) -> None:
        """Write the file: whole, or not at all."""
        with atomic(path) as temporary:
            pq.write_table(self.to_arrow(), temporary)

    def select(self, rows: np.ndarray) -> Labels:
        """Some of the rows: a bool mask `(N,)` or indices."""
        columns = [column.name for column in fields(self) if column.name != "metadata"]
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def of_split(self, *names: str) -> Labels:
        """The rows of one or more splits, in the same order."""
        return self.select(np.isin(self.split, names))

    def photos(self, root: Path, region: Region | None) -> list[Photo]:
        """The N photos, below the folder that their paths start from, and the part of them that is looked at.

        Raises:
            ImagesError: A path leads out of it.
        """
        return [Photo(sha256, file_at(root, path), region) for sha256, path in zip(self.sha256, self.path, strict=True)]

    @property
    def labeled(self) -> np.ndarray:
        """Whether a person has labeled each photo, bool `(N,)`."""
        return np.asarray(~np.isnan(self.gold))

    @property
    def unbiased(self) -> np.ndarray:
        """Whether a person has labeled each photo, and not because it looked doubtful, bool `(N,)`."""
        return np.asarray(self.labeled & ~self.picked)

    @property
    def teacher_threshold(self) -> float:
        """The teacher answers yes from this probability on: as often as its probabilities of all N photos expect."""
        return break_even(self.p_teacher)

    @property
    def teacher_answers(self) -> np.ndarray:
        """The teacher's answer to each photo, bool `(N,)`."""
        return np.asarray(self.p_teacher >= self.teacher_threshold)

    @property
    def answers(self) -> np.ndarray:
        """The label in force of each photo, bool `(N,)`; see `hard_labels`."""
        return hard_labels(self.p_teacher, self.gold)

    @property
    def teacher(self) -> dict[str, Any]:
        """Name, key, license and so on of the teacher; empty where the file does not say."""
        stored = dict(self.metadata.get("teacher") or {})
        older = {"license": stored.pop("licence")} if "licence" in stored else {}  # as version 0.1.0 spelled it
        return older | stored

    @property
    def positive(self) -> tuple[str, ...]:
        """The phrases that mean yes: the first columns of `scores`."""
        return tuple((self.metadata.get("phrases") or {}).get("positive", ()))

    @property
    def negative(self) -> tuple[str, ...]:
        """The phrases that mean no: the other columns of `scores`."""
        return tuple((self.metadata.get("phrases") or {}).get("negative", ()))

    @property
    def by_phrases(self) -> bool:
        """Whether the label source compared the photos with phrases; others answer yes and no."""
        return (self.positive, self.negative) != ANSWER_COLUMNS

    @property
    def refinement(self) -> dict[str, Any]:
        """What people's labels did to the teacher's probabilities: `used`, `says` and figures."""
        return dict(self.metadata.get("probe") or {})

    @property
    def counts(self) -> dict[str, int]:
        """How many photos there are, have the label in force yes or no, a person has labeled, and are in each split."""
        answers = self.answers
        names, sizes = np.unique(self.split, return_counts=True)
        splits = {"train": 0, "val": 0, "test": 0} | dict(zip(names.tolist(), sizes.tolist(), strict=True))
        sides = {"yes": int(answers.sum()), "no": int((~answers).sum()), "labeled": int(self.labeled.sum())}
        return {"photos": len(self)} | sides | splits


def hard_labels(p: np.ndarray, gold: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """The label in force of each photo: a person's where there is one, else the probability's.

    Args:
        p: `(N,)` probability of yes, in [0, 1].
        gold: `(N,)`: 1 yes, 0 no, NaN where there is none.
        threshold: Yes from this probability on; by default the break-even of `p`, from which on as many photos are
            called yes as the probabilities expect.

    Returns:
        bool `(N,)`, true for yes.
    """
    return np.where(np.isnan(gold), p >= (break_even(p) if threshold is None else threshold), gold == 1)


def _objects(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False), object)


def _scores(table: pa.Table) -> np.ndarray:
    """float32 `(N, P)`."""
    if "scores" not in table.column_names:
        return np.zeros((table.num_rows, 0), np.float32)
    lengths = pc.unique(pc.list_value_length(table["scores"])).to_pylist()
    if len(lengths) > 1 or None in lengths:
        raise ValueError("scores of different lengths")
    values = pc.list_flatten(table["scores"]).cast(pa.float32()).to_numpy()
    return np.asarray(values).reshape(table.num_rows, lengths[0] if lengths else 0)


def _optional(table: pa.Table, name: str, default: float, dtype: type[np.generic]) -> np.ndarray:
    if name not in table.column_names:
        return np.full(table.num_rows, default, dtype)
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype)
