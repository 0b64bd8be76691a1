"""The store: what was computed once per photo is kept for every scenario to come.

    STORE/vectors/ENCODER_KEY/teacher.json            what made the vectors
    STORE/vectors/ENCODER_KEY/NAME.parquet            shards: sha256, vector (float16)
    STORE/scores/SOURCE_KEY/QUESTION/question.json    what was asked
    STORE/scores/SOURCE_KEY/QUESTION/NAME.parquet     shards: sha256, scores (float32), and evidence, if there is any

A shard is written under a temporary name and renamed, and is never changed: a reader sees whole shards only, two
writers cannot harm each other, and kill -9 costs no more than the batch in flight. A writer that ends well folds its
own shards into one. An encoder's key covers its weights and its preprocessing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clip_factory.errors import StoreError
from clip_factory.runtime.atomic import atomic, sweep, write_json

BESIDE = "evidence"
"""Column of what is kept of an image beside its numbers."""


@dataclass(frozen=True)
class EmbeddingStore:
    """Vectors of one or many encoders, and scores of one or many label sources, below one folder."""

    root: Path

    def known(self, key: str) -> set[str]:
        """The sha256 of every image that this encoder has embedded."""
        return self._vectors(key).known()

    def get(self, key: str, sha256s: Sequence[str]) -> np.ndarray:
        """Vectors in the order asked.

        Returns:
            float32 `(N, D)`, L2-normalized (to the precision of float16).

        Raises:
            StoreError: One of the images is not in the store, or a shard is damaged.
        """
        rows = self._vectors(key).rows(sha256s)
        missing = [sha for sha in sha256s if sha not in rows]
        if missing:
            raise StoreError(
                f"{self.root}: {len(missing)} of {len(sha256s)} images have no vectors (first: {missing[0]})",
                hint="label again: factory label RUN",
            )
        if not sha256s:
            return np.empty((0, 0), np.float32)
        vectors: np.ndarray = np.stack([rows[sha] for sha in sha256s]).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def remove(self, key: str, sha256s: Set[str]) -> None:
        """Take out the vectors of some images; what else their shards hold stays."""
        self._vectors(key).remove(sha256s)

    def writer(self, key: str, about: Mapping[str, object]) -> StoreWriter:
        """A context manager that adds vectors; `about` is kept as teacher.json for people."""
        return self._vectors(key).writer("teacher.json", about)

    def scores(self, source: str, question: str, sha256s: Sequence[str]) -> dict[str, np.ndarray]:
        """The scores that a label source has given some of these images: float32 `(P,)` by sha256.

        Args:
            source: The source's key.
            question: Hash of what was asked.
            sha256s: Images.

        Raises:
            StoreError: A shard is damaged.
        """
        return self._scores(source, question).rows(sha256s)

    def evidence(self, source: str, question: str, sha256s: Sequence[str]) -> dict[str, Any]:
        """What a label source has shown for its answers about some of these images, as plain values by sha256.

        It lies in the shards of the scores: an image that has scores has its evidence. Arguments and errors as of
        `scores`.
        """
        return self._scores(source, question).beside(sha256s)

    def scores_writer(self, source: str, question: str, about: Mapping[str, object]) -> StoreWriter:
        """A context manager that adds scores; `about` is kept as question.json for people."""
        return self._scores(source, question).writer("question.json", about)

    def scores_about(self, source: str, question: str) -> dict[str, Any]:
        """What `scores_writer` was given; empty where there are no scores, or the file is damaged."""
        try:
            about = json.loads((self._scores(source, question).folder / "question.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return about if isinstance(about, dict) else {}

    def _vectors(self, key: str) -> _Shards:
        return _Shards(self.root / "vectors" / _folder_name(key), "vector", np.dtype(np.float16))

    def _scores(self, source: str, question: str) -> _Shards:
        folder = self.root / "scores" / _folder_name(source) / _folder_name(question)
        return _Shards(folder, "scores", np.dtype(np.float32))


@dataclass(frozen=True)
class _Shards:
    """A folder of shards: for each image a row of numbers, all of one length."""

    folder: Path
    column: str
    dtype: np.dtype[np.generic]

    def known(self) -> set[str]:
        return {sha for table in self._tables(["sha256"]) for sha in table["sha256"].to_pylist()}

    def rows(self, sha256s: Sequence[str]) -> dict[str, np.ndarray]:
        """The rows of those of these images that have one."""
        rows: dict[str, np.ndarray] = {}
        wanted = pa.array(sorted(set(sha256s)), pa.string())
        for table in self._tables(["sha256", self.column]):
            matches = table.filter(pa.compute.is_in(table["sha256"], wanted))
            rows.update(zip(matches["sha256"].to_pylist(), _matrix(matches[self.column], self.dtype), strict=True))
        return rows

    def beside(self, sha256s: Sequence[str]) -> dict[str, Any]:
        """What stands beside the rows of those of these images that have something there."""
        values: dict[str, Any] = {}
        wanted = pa.array(sorted(set(sha256s)), pa.string())
        for table in self._tables(["sha256", BESIDE]):
            if BESIDE in table.column_names:
                matches = table.filter(pa.compute.is_in(table["sha256"], wanted)).drop_null()
                values.update(zip(matches["sha256"].to_pylist(), matches[BESIDE].to_pylist(), strict=True))
        return values

    def remove(self, sha256s: Set[str]) -> None:
        """Write the shards that hold one of these images anew without them."""
        unwanted = pa.array(sorted(sha256s), pa.string())
        for shard in sorted(self.folder.glob("*.parquet")):
            table = pq.read_table(shard)
            kept = table.filter(pa.compute.invert(pa.compute.is_in(table["sha256"], unwanted)))
            if kept.num_rows == table.num_rows:
                continue
            if kept.num_rows:
                StoreWriter(self.folder, self.column, self.dtype).write_shard("z", kept)
            shard.unlink()

    def writer(self, name: str, about: Mapping[str, object]) -> StoreWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        write_json(self.folder / name, dict(about))
        return StoreWriter(self.folder, self.column, self.dtype)

    def _tables(self, columns: list[str]) -> Iterable[pa.Table]:
        for shard in sorted(self.folder.glob("*.parquet")):
            try:
                with pq.ParquetFile(shard) as file:
                    there = file.schema_arrow.names
                    table = file.read(columns=[name for name in columns if name in there])
            except FileNotFoundError:  # folded by its writer a moment ago; the fold sorts last and holds the rows
                continue
            except (pa.ArrowException, OSError) as error:
                raise StoreError(
                    f"{shard}: damaged shard ({error})", hint="delete it; what it held is computed anew"
                ) from None
            yield table


@dataclass
class StoreWriter:
    """Adds batches of rows; each `add` is on disk when it returns."""

    folder: Path
    column: str
    dtype: np.dtype[np.generic]
    _own: list[Path] = field(default_factory=list)

    def add(self, sha256s: Sequence[str], rows: np.ndarray, beside: pa.Array | None = None) -> None:
        """Append one batch: N hex sha256 and float `(N, K)`; vectors are kept as float16, scores as float32.

        `beside`: what else is kept of each of the N, in the same shard.
        """
        flat = pa.array(rows.astype(self.dtype).ravel())
        columns = [pa.array(sha256s, pa.string()), pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])]
        table = pa.table(columns, names=["sha256", self.column])
        self._own.append(self.write_shard("a", table if beside is None else table.append_column(BESIDE, beside)))

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if len(self._own) > 1:
            tables = [pq.read_table(shard) for shard in self._own]
            self.write_shard("z", pa.concat_tables(tables, promote_options="default").combine_chunks())
            for shard in self._own:
                shard.unlink()

    def write_shard(self, prefix: str, table: pa.Table) -> Path:
        """Write one file: `a` of a batch, `z` of what was in several."""
        # "a" shards are read before "z" folds: a reader that misses a shard just deleted still comes to its fold.
        path = self.folder / f"{prefix}-{os.getpid()}-{uuid.uuid4().hex}.parquet"
        with atomic(path) as temporary:
            pq.write_table(table, temporary, compression="none")
        return path


def _folder_name(key: str) -> str:
    """A key as the name of a folder: as it stands where that is safe, else its hash."""
    return key if re.fullmatch(r"\w[\w.-]{0,63}", key) else hashlib.sha256(key.encode()).hexdigest()[:24]


def _matrix(column: pa.ChunkedArray, dtype: np.dtype[np.generic]) -> np.ndarray:
    combined = column.combine_chunks()
    chunks = combined.chunks if isinstance(combined, pa.ChunkedArray) else [combined]
    parts = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1) for chunk in chunks if len(chunk)]
    return np.concatenate(parts) if parts else np.empty((0, 0), dtype)
