"""The scan: every file is accounted for; photos are checked by decoding, hashed and grouped, into images.parquet."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clip_factory.errors import ImageError, ImagesError, StoreError
from clip_factory.images.clip_groups import GAP, ClipGroups, group_clips
from clip_factory.images.left_out import read_left_out
from clip_factory.images.photo_paths import file_at
from clip_factory.runtime.atomic import atomic
from clip_factory.runtime.photo_files import EXTENSIONS, SeenFile, find_files, path_text, read_file
from clip_factory.runtime.preprocessing import decoder, header, read_rgb
from clip_factory.runtime.processors import usable_cpus
from clip_factory.runtime.region import Region

PHASH_BITS = 10
DHASH_BITS = 16
"""Two photos are near-duplicates when their 64-bit DCT hashes differ in at most PHASH_BITS bits and their gradient
hashes in at most DHASH_BITS. On 5,900 unrelated photos this joined 0.5 pairs in a million; of frames shifted by 3 %,
brightened by a quarter or halved in size it found 98 to 100 in a hundred."""

PAIRS_AT_ONCE = 4_000_000
"""Pairs of hashes compared in one go; they take 8 bytes each."""

WAIT_SECONDS = 60.0
"""How long to wait for another process that writes to the cache."""

FRAMES = "frames of a fixed camera"
"""Key of images.parquet's metadata: how many photos were cut into blocks."""
CLIPS, DOUBTFUL = "frames of videos", "frames of videos look alike"
"""Keys of images.parquet's metadata: a sentence on how frames are grouped; whether it is a warning."""
SETTLED_SECONDS = 2.0
"""A file that was touched less than this before it was read may change again without a new time: file systems count in
steps of up to 2 s. Its hash is not kept."""

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True)
class ImageRecord:
    """One file seen: a row of images.parquet without its group."""

    path: str
    """Below the root of the images, as `path_text` gives it."""
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
    """Why the file is not used; None when it is usable."""

    @classmethod
    def unused(cls, path: str, reason: str, size: int = 0) -> ImageRecord:
        """Of a file whose pixels are not known."""
        return cls(path, "", size, 0, 0, "", "", "", reason)


SCHEMA = pa.schema(
    [(f.name, pa.int64() if f.name in ("bytes", "width", "height") else pa.string()) for f in fields(ImageRecord)]
    + [("group", pa.int32())]
)


def scan(root: Path, cache: Path, progress: Progress, region: Region | None = None) -> pa.Table:
    """Account for every file below `root`; image files are checked by decoding, once for each content ever.

    Args:
        root: Folder of images, searched recursively.
        cache: SQLite file that remembers hashes (by path, size and times) and what decoding showed (by sha256).
        progress: Called after each image file.
        region: The part of each photo by which near-duplicates are told; None: the whole. Size and sha256 are always
            the whole photo's.

    Returns:
        A table of `SCHEMA`, sorted by path, one row a file seen; what is not used carries a reason and group -1.

    Raises:
        ImagesError: No file has an image extension, or none can be read.
    """
    seen = [(file, path_text(file.path.relative_to(root))) for file in find_files(root)]
    seen += [(SeenFile(root / text, reason), text) for text, reason in read_left_out(root)]
    files = [(file.path, text) for file, text in seen if file.reason is None]
    left_out = [ImageRecord.unused(text, file.reason) for file, text in seen if file.reason is not None]
    if not files:
        raise ImagesError(f"{root}: no image files ({', '.join(sorted(EXTENSIONS))})", hint=_what_else(left_out))
    with _ScanCache(cache, region) as known, ThreadPoolExecutor(usable_cpus()) as pool:
        records = []
        for record in pool.map(lambda file: _examine(file[0], file[1], known), files):
            records.append(record)
            progress(len(records), len(files))
    usable = [record for record in records if record.reason is None]
    if not usable:
        raise ImagesError(f"{root}: none of {len(files)} files can be read", hint=f"the first: {records[0].reason}")
    paths, contents = [record.path for record in usable], [record.sha256 for record in usable]
    hashes = [(record.phash, record.dhash) for record in usable]
    grouped = group_clips(paths, contents, hashes, near_duplicates(usable))
    group_of = dict(zip([id(record) for record in usable], grouped.groups, strict=True))
    everything = sorted(records + left_out, key=lambda record: record.path)
    if len(everything) != len(seen):
        raise AssertionError(f"{len(seen)} files seen, {len(everything)} accounted for")
    rows = [_row(record, group_of.get(id(record))) for record in everything]
    table = pa.table(dict(zip(SCHEMA.names, zip(*rows, strict=True), strict=True)), schema=SCHEMA)
    return table.replace_schema_metadata(_notes(grouped))


def _row(record: ImageRecord, group: int | None) -> tuple[Any, ...]:
    """A row of `SCHEMA`; `group`: None of what is not used, -1 of a frame that is left out as a gap."""
    return (*astuple(replace(record, reason=GAP) if group == -1 else record), -1 if group is None else group)


def _notes(grouped: ClipGroups) -> dict[str, str] | None:
    notes = {
        FRAMES: str(grouped.camera or ""),
        CLIPS: grouped.says,
        DOUBTFUL: "yes" if grouped.doubtful else "",
    }
    return {key: value for key, value in notes.items() if value} or None


def frames_of_a_fixed_camera(table: pa.Table) -> int:
    """How many photos were cut into blocks, since they look alike and are most of all."""
    return int((table.schema.metadata or {}).get(FRAMES.encode(), b"0"))


def frames_of_videos(table: pa.Table) -> tuple[str, bool]:
    """A sentence on how frames of videos are grouped, empty where there are none; and whether it is a warning."""
    notes: dict[bytes, bytes] = table.schema.metadata or {}
    return notes.get(CLIPS.encode(), b"").decode(), DOUBTFUL.encode() in notes


def usable_photos(table: pa.Table) -> pa.Table:
    """The rows of images.parquet that name photos: columns sha256, path, group; sorted by these two."""
    usable = table.filter(pc.is_null(table["reason"])).select(["sha256", "path", "group"])
    return usable.sort_by([("sha256", "ascending"), ("path", "ascending")])


def summarize(table: pa.Table) -> str:
    """One sentence on how many files were seen, how many are used, and why the others are not."""
    reasons = Counter(_kind(reason) for reason in table["reason"].to_pylist() if reason is not None)
    used, seen = table["reason"].null_count, table.num_rows
    if not reasons:
        return f"{seen:,} files seen, all are used"
    listed = "; ".join(f"{count:,} {kind}" for kind, count in reasons.most_common())
    return f"{seen:,} files seen, {used:,} are used, {seen - used:,} are not (images.parquet names each): {listed}"


def _kind(reason: str) -> str:
    """A reason without what is special to one file."""
    return reason.partition(" (")[0].partition(":")[0]


def _what_else(left_out: Sequence[ImageRecord]) -> str:
    reasons = Counter(_kind(record.reason or "") for record in left_out)
    return "; ".join(f"{count:,} {kind}" for kind, count in reasons.most_common(4)) or "check the path"


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


def near_duplicate_groups(root: Path, paths: list[str], region: Region | None = None) -> list[int]:
    """Group ids of some photos, one a path: near-duplicates share one; a file that cannot be read has its own.

    Args:
        root: Folder that the paths start from.
        paths: POSIX, relative to `root`.
        region: As for `scan`.
    """

    def examine(path: str) -> ImageRecord:
        try:
            data = read_file(file_at(root, path))
            return ImageRecord(path, "", len(data), *_properties(data, region))
        except ImageError as error:
            return ImageRecord.unused(path, error.what)

    with ThreadPoolExecutor(usable_cpus()) as pool:
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


def known_files(cache: Path) -> list[tuple[Path, str]]:
    """The files that earlier scans have hashed and that are, by size and times, as they were: path and sha256."""
    if not cache.is_file():
        return []
    with _ScanCache(cache) as known:
        rows = [(Path(os.fsdecode(path)), stamp, sha256) for path, stamp, sha256 in known.hashes()]
    return [(file, sha256) for file, stamp, sha256 in rows if file.is_file() and _stamp(file.stat()) == stamp]


def forget_hashes(cache: Path, files: Sequence[Path]) -> None:
    """Have the next scan read these files again."""
    with _ScanCache(cache) as known:
        for file in files:
            known.forget(file)


def _examine(file: Path, text: str, known: _ScanCache) -> ImageRecord:
    """What a file is: from memory where neither it nor the decoder have changed, else from its bytes, read once."""
    try:
        status = file.stat()
        sha256 = known.hash_of(file, status)
        if sha256 and (properties := known.properties_of(sha256)):
            return ImageRecord(text, sha256, status.st_size, *properties)
        began = time.time()
        data = read_file(file)
        sha256 = hashlib.sha256(data).hexdigest()
        properties = known.properties_of(sha256) or _properties(data, known.region)
        known.keep(sha256, properties)
        if began - max(status.st_mtime, status.st_ctime) > SETTLED_SECONDS:
            known.keep_hash(file, status, sha256)
        return ImageRecord(text, sha256, len(data), *properties)
    except OSError as error:
        return ImageRecord.unused(text, f"cannot be opened ({error.strerror or error})")
    except ImageError as error:
        return ImageRecord.unused(text, error.what.removeprefix(f"{file}: "))


class ImageProperties(NamedTuple):
    """What decoding an image file shows."""

    width: int
    height: int
    format: str
    phash: str
    dhash: str
    reason: str | None


def _properties(data: bytes, region: Region | None) -> ImageProperties:
    """What decoding shows; the hashes are the region's.

    Raises:
        ImageError: The machine failed, not the picture: nothing to remember.
    """
    try:
        image = read_rgb(data, min_side=64, region=region)
    except ImageError as error:
        if error.__cause__ is not None:
            raise
        return ImageProperties(0, 0, "", "", "", error.what.partition(": ")[2])
    width, height, kind = header(data)
    return ImageProperties(width, height, kind, str(imagehash.phash(image)), str(imagehash.dhash(image)), None)


class _ScanCache:
    """What earlier scans found, so that a photo is read once; SQLite survives kill -9 and two writers."""

    def __init__(self, path: Path, region: Region | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.region = region
        self._decoder = decoder() if region is None else f"{decoder()}, region {region.key}"
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=WAIT_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            self._share()
            self._db.executescript(
                """PRAGMA synchronous = NORMAL;
                CREATE TABLE IF NOT EXISTS hashes (path BLOB PRIMARY KEY, stamp TEXT, sha256 TEXT);
                CREATE TABLE IF NOT EXISTS decoded (sha256 TEXT, decoder TEXT, width INT, height INT, format TEXT,
                                                    phash TEXT, dhash TEXT, reason TEXT,
                                                    PRIMARY KEY (sha256, decoder));"""
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

    def hash_of(self, file: Path, status: os.stat_result) -> str | None:
        """The file's sha256, while size and times are as they were."""
        query = "SELECT sha256 FROM hashes WHERE path = ? AND stamp = ?"
        known = self._query(query, _key(file), _stamp(status))
        return str(known[0]) if known else None

    def keep_hash(self, file: Path, status: os.stat_result, sha256: str) -> None:
        """Remember the hash of a file that was as `status` says."""
        self._query("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", _key(file), _stamp(status), sha256)

    def hashes(self) -> list[tuple[bytes, str, str]]:
        """All that is known of files: path, stamp, sha256."""
        with self._lock:
            return list(self._db.execute("SELECT path, stamp, sha256 FROM hashes"))

    def forget(self, file: Path) -> None:
        """Forget the hash of a file."""
        self._query("DELETE FROM hashes WHERE path = ?", _key(file))

    def properties_of(self, sha256: str) -> ImageProperties | None:
        """What decoding these bytes has shown, by the decoder and in the region of now."""
        query = "SELECT width, height, format, phash, dhash, reason FROM decoded WHERE sha256 = ? AND decoder = ?"
        known = self._query(query, sha256, self._decoder)
        return ImageProperties(*known) if known else None

    def keep(self, sha256: str, properties: ImageProperties) -> None:
        """Remember what decoding these bytes has shown."""
        self._query(
            "INSERT OR REPLACE INTO decoded VALUES (?, ?, ?, ?, ?, ?, ?, ?)", sha256, self._decoder, *properties
        )

    def _query(self, query: str, *values: object) -> Any:
        with self._lock:
            return self._db.execute(query, values).fetchone()


def _key(file: Path) -> bytes:
    return os.fsencode(file.resolve())


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
