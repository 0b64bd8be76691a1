"""The scan: image files are listed, checked by decoding, hashed, and near-duplicates grouped, into images.parquet."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from clip_factory.errors import ImageError, ImagesError, StoreError
from clip_factory.run_folder import sha256_file
from clip_factory.runtime.atomic import atomic
from clip_factory.runtime.preprocessing import EXTENSIONS, find_images, read_rgb

PHASH_BITS = 10
DHASH_BITS = 16
"""Two photos are near-duplicates when their 64-bit DCT hashes differ in at most PHASH_BITS bits and their gradient
hashes in at most DHASH_BITS. On 5,900 unrelated photos this joined 0.5 pairs in a million; of frames shifted by 3 %,
brightened by a quarter or halved in size it found 98 to 100 in a hundred."""

PAIRS_AT_ONCE = 4_000_000
"""Pairs of hashes compared in one go; they take 8 bytes each."""

WAIT_SECONDS = 60.0
"""How long to wait for another process that writes to the cache."""

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True)
class ImageRecord:
    """One file found: a row of images.parquet without its group."""

    path: str
    """POSIX, relative to the root of the images."""
    sha256: str
    bytes: int
    width: int
    height: int
    format: str
    phash: str
    """64-bit perceptual (DCT) hash, hex."""
    dhash: str
    """64-bit difference (gradient) hash, hex."""
    reason: str | None
    """Why the file is skipped; None when it is usable."""


SCHEMA = pa.schema(
    [(f.name, pa.int64() if f.name in ("bytes", "width", "height") else pa.string()) for f in fields(ImageRecord)]
    + [("group", pa.int32())]
)


def scan(root: Path, cache: Path, progress: Progress) -> pa.Table:
    """Check every image file below `root` by decoding it, once for each content ever.

    Args:
        root: Folder of images, searched recursively.
        cache: SQLite file that remembers hashes (by path, size and times) and what decoding showed (by sha256).
        progress: Called after each file.

    Returns:
        A table of `SCHEMA`, sorted by path; unusable files carry a reason and group -1.

    Raises:
        ImagesError: No file has an image extension, or none can be read.
    """
    files = find_images(root)
    if not files:
        raise ImagesError(f"{root}: no image files ({', '.join(sorted(EXTENSIONS))})", hint="check the path")
    with _ScanCache(cache) as known, ThreadPoolExecutor(os.cpu_count()) as pool:
        records = []
        for record in pool.map(lambda file: _examine(root, file, known), files):
            records.append(record)
            progress(len(records), len(files))
    usable = [record for record in records if record.reason is None]
    if not usable:
        raise ImagesError(f"{root}: none of {len(files)} files can be read", hint=f"the first: {records[0].reason}")
    groups = dict(zip([id(r) for r in usable], near_duplicates(usable), strict=True))
    rows = [(*astuple(record), groups.get(id(record), -1)) for record in records]
    return pa.table(dict(zip(SCHEMA.names, zip(*rows, strict=True), strict=True)), schema=SCHEMA)


def write(table: pa.Table, path: Path) -> None:
    """Write images.parquet."""
    with atomic(path) as temporary:
        pq.write_table(table, temporary)


def near_duplicates(records: list[ImageRecord]) -> list[int]:
    """Group ids, one a record, numbered by first appearance.

    Exact copies and near-duplicates share a group, and so do their near-duplicates in turn: a burst is one group.
    """
    parent = np.arange(len(records))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for close in _neighbors(records):
        roots = [root(i) for i in np.unique(parent[close])]  # few, even when a fixed camera makes all frames close
        parent[roots] = parent[close] = min(roots)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(len(records))]


def near_duplicate_groups(root: Path, paths: list[str]) -> list[int]:
    """Group ids of some photos, one a path: near-duplicates share one; a file that cannot be read has its own.

    Args:
        root: Folder that the paths start from.
        paths: POSIX, relative to `root`.
    """

    def examine(path: str) -> ImageRecord:
        try:
            return ImageRecord(path, "", 0, *_properties(root / path))
        except OSError as error:
            return ImageRecord(path, "", 0, 0, 0, "", "", "", f"cannot be opened: {error.strerror or error}")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        records = list(pool.map(examine, paths))
    usable = [record for record in records if record.reason is None]
    groups = dict(zip([record.path for record in usable], near_duplicates(usable), strict=True))
    return [groups.get(path, len(usable) + i) for i, path in enumerate(paths)]


def _neighbors(records: list[ImageRecord]) -> Iterator[np.ndarray]:
    """For each record that has near-duplicates after it, the indices of itself and of those."""
    rows = max(1, PAIRS_AT_ONCE // max(1, len(records)))
    phash, dhash = (np.array([int(getattr(r, name), 16) for r in records], np.uint64) for name in ("phash", "dhash"))
    for start in range(0, len(records), rows):
        close = np.bitwise_count(phash[start : start + rows, None] ^ phash[None, start:]) <= PHASH_BITS
        for row in np.flatnonzero(np.count_nonzero(close, axis=1) > 1):
            i = start + int(row)
            near = i + np.flatnonzero(close[row, row:])
            near = near[np.bitwise_count(dhash[near] ^ dhash[i]) <= DHASH_BITS]
            if len(near) > 1:
                yield near


def _examine(root: Path, file: Path, known: _ScanCache) -> ImageRecord:
    path = file.relative_to(root).as_posix()
    try:
        stat = file.stat()
        sha256 = known.hash_of(file, stat)
        return ImageRecord(path, sha256, stat.st_size, *known.properties_of(file, sha256))
    except OSError as error:
        return ImageRecord(path, "", 0, 0, 0, "", "", "", f"cannot be opened: {error.strerror or error}")


class ImageProperties(NamedTuple):
    """What decoding an image file shows."""

    width: int
    height: int
    format: str
    phash: str
    dhash: str
    reason: str | None


def _properties(file: Path) -> ImageProperties:
    try:
        image = read_rgb(file, min_side=64)
    except ImageError as error:
        if isinstance(error.__cause__, OSError):  # the disk's fault, not the bytes': nothing to remember
            raise error.__cause__ from None
        return ImageProperties(0, 0, "", "", "", error.what.removeprefix(f"{file}: "))
    with Image.open(file) as header:
        width, height, kind = header.width, header.height, header.format or ""
    return ImageProperties(width, height, kind, str(imagehash.phash(image)), str(imagehash.dhash(image)), None)


class _ScanCache:
    """What earlier scans found, so that a photo is read once; SQLite survives kill -9 and two writers."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=WAIT_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            self._share()
            self._db.executescript(
                """PRAGMA synchronous = NORMAL;
                CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, stamp TEXT, sha256 TEXT);
                CREATE TABLE IF NOT EXISTS looks (sha256 TEXT PRIMARY KEY, width INT, height INT, format TEXT,
                                                  phash TEXT, dhash TEXT, reason TEXT);"""
            )
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{path}: no usable scan cache ({error})", hint="delete it; photos are checked anew"
            ) from None

    def __enter__(self) -> _ScanCache:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def _share(self) -> None:
        """Turn the write-ahead log on; SQLite does not wait by itself for another process that is doing the same."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def hash_of(self, file: Path, stat: os.stat_result) -> str:
        """The file's sha256, from memory while size and times are as they were."""
        path, stamp = str(file.resolve()), f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        known = self._query("SELECT sha256 FROM files WHERE path = ? AND stamp = ?", path, stamp)
        if known:
            return str(known[0])
        sha256 = sha256_file(file)
        self._query("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", path, stamp, sha256)
        return sha256

    def properties_of(self, file: Path, sha256: str) -> ImageProperties:
        """What decoding the file shows, from memory where the same bytes were decoded before."""
        known = self._query("SELECT width, height, format, phash, dhash, reason FROM looks WHERE sha256 = ?", sha256)
        if known:
            return ImageProperties(*known)
        properties = _properties(file)
        self._query("INSERT OR REPLACE INTO looks VALUES (?, ?, ?, ?, ?, ?, ?)", sha256, *properties)
        return properties

    def _query(self, query: str, *values: object) -> Any:
        with self._lock:
            return self._db.execute(query, values).fetchone()
