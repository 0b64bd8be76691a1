"""The embedding store: image vectors, kept once per (image sha256, teacher), for every scenario to come.

    STORE/vectors/TEACHER_KEY/teacher.json          what made the vectors
    STORE/vectors/TEACHER_KEY/NAME.parquet          shards: sha256, vector (float16)

A shard is written under a temporary name and renamed, and is never changed: a reader sees whole shards only, two
writers cannot harm each other, and kill -9 costs no more than the batch in flight. A writer that ends well folds its
own shards into one. The teacher's key covers its weights and its preprocessing.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clip_factory.errors import StoreError
from clip_factory.run_folder import atomic, write_json


@dataclass(frozen=True)
class EmbeddingStore:
    """Vectors of one or many teachers, below one folder."""

    root: Path

    def known(self, teacher_key: str) -> set[str]:
        """The sha256 of every image that this teacher has embedded."""
        return {sha for table in self._shards(teacher_key, ["sha256"]) for sha in table["sha256"].to_pylist()}

    def get(self, teacher_key: str, sha256s: Sequence[str]) -> np.ndarray:
        """Vectors in the order asked.

        Returns:
            float32 `(N, D)`, L2-normalized (to the precision of float16).

        Raises:
            StoreError: One of the images is not in the store, or a shard is damaged.
        """
        rows: dict[str, np.ndarray] = {}
        wanted = pa.array(sorted(set(sha256s)), pa.string())
        for table in self._shards(teacher_key, ["sha256", "vector"]):
            found = table.filter(pa.compute.is_in(table["sha256"], wanted))
            rows.update(zip(found["sha256"].to_pylist(), _matrix(found["vector"]), strict=True))
        missing = [sha for sha in sha256s if sha not in rows]
        if missing:
            raise StoreError(
                f"{self.root}: {len(missing)} of {len(sha256s)} images have no vectors (first: {missing[0]})",
                hint="label again: factory label RUN",
            )
        vectors: np.ndarray = np.stack([rows[sha] for sha in sha256s]).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def writer(self, teacher_key: str, about: dict[str, object]) -> StoreWriter:
        """A context manager that adds vectors; `about` is kept as teacher.json for people."""
        folder = self._folder(teacher_key)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "teacher.json", about)
        return StoreWriter(folder)

    def _folder(self, teacher_key: str) -> Path:
        return self.root / "vectors" / teacher_key

    def _shards(self, teacher_key: str, columns: list[str]) -> Iterable[pa.Table]:
        for shard in sorted(self._folder(teacher_key).glob("*.parquet")):
            try:
                yield pq.read_table(shard, columns=columns)
            except FileNotFoundError:  # folded by its writer a moment ago; the fold sorts last and holds the rows
                continue
            except (pa.ArrowException, OSError) as error:
                raise StoreError(
                    f"{shard}: damaged shard ({error})", hint="delete it; its images are embedded anew"
                ) from None


@dataclass
class StoreWriter:
    """Adds batches of vectors; each `add` is on disk when it returns."""

    folder: Path
    _own: list[Path] = field(default_factory=list)

    def add(self, sha256s: Sequence[str], vectors: np.ndarray) -> None:
        """Append one batch: N hex sha256 and float `(N, D)` vectors of unit length."""
        flat = pa.array(vectors.astype(np.float16).ravel())
        columns = [pa.array(sha256s, pa.string()), pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])]
        self._own.append(self._write("a", pa.table(columns, names=["sha256", "vector"])))

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if len(self._own) > 1:
            self._write("z", pa.concat_tables([pq.read_table(shard) for shard in self._own]).combine_chunks())
            for shard in self._own:
                shard.unlink()

    def _write(self, prefix: str, table: pa.Table) -> Path:
        # "a" shards are read before "z" folds: a reader that misses a shard just deleted still comes to its fold.
        path = self.folder / f"{prefix}-{os.getpid()}-{uuid.uuid4().hex}.parquet"
        with atomic(path) as temporary:
            pq.write_table(table, temporary, compression="none")
        return path


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    combined = column.combine_chunks()
    chunks = combined.chunks if isinstance(combined, pa.ChunkedArray) else [combined]
    parts = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), -1) for chunk in chunks if len(chunk)]
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float16)
