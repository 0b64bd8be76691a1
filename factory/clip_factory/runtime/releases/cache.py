"""What was fetched from registries, kept in the user's cache folder: files by their hash, indexes by their registry.

    CACHE/blobs/ab/ab12...         the bytes with that sha256
    CACHE/indexes/34cd....json     the index last seen at the registry whose address has that sha256
    CACHE/registries/34cd.../      the key that it pins, and its identity

Files are written under a temporary name and renamed, so that any number of processes can share the folder, and one
that is killed leaves nothing that looks whole. Nothing is trusted for lying here: hashes are checked on every read.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clip_factory.runtime.atomic import write_bytes

ENVIRONMENT = "FACTORY_CACHE"


def default_folder() -> Path:
    """$FACTORY_CACHE, else `clip-factory` in the folder that the operating system has for caches.

    A user without a home, as containers have, gets a folder that cannot be made: nothing is stored.
    """
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    from platformdirs import user_cache_path  # a model that lies in a file needs no cache

    try:
        folder = user_cache_path("clip-factory", appauthor=False, opinion=False)
    except RuntimeError:
        folder = Path()
    # without a home, not a folder that is shared or wherever the process runs: others could put a wrong index there
    return folder if folder.is_absolute() else Path(os.devnull, "clip-factory")


@dataclass(frozen=True)
class Cache:
    """A cache folder. One that cannot be written is no error: everything is then fetched each time."""

    folder: Path

    def blob(self, sha256: str, size: int) -> bytes | None:
        """The bytes with this hash and size, or None if they are not here or are damaged."""
        path = self._blob_path(sha256)
        try:
            if path.stat().st_size != size:
                return None
            data = path.read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def store_blob(self, data: bytes) -> None:
        """Store bytes under their hash."""
        _write(self._blob_path(hashlib.sha256(data).hexdigest()), data)

    def index(self, root: str) -> tuple[bytes, float] | None:
        """The index last seen at a registry, and when (Unix seconds); None if there was none."""
        path = self._index_path(root)
        try:
            return path.read_bytes(), path.stat().st_mtime
        except OSError:
            return None

    def store_index(self, root: str, data: bytes) -> None:
        """Store the index that was seen at a registry just now."""
        _write(self._index_path(root), data)

    def steady(self, root: str, file: str) -> bytes | None:
        """What a registry's key or identity was when it was last seen; None if it was not."""
        try:
            return self._steady_path(root, file).read_bytes()
        except OSError:
            return None

    def store_steady(self, root: str, file: str, data: bytes) -> None:
        """Remember a registry's key or identity."""
        _write(self._steady_path(root, file), data)

    def _steady_path(self, root: str, file: str) -> Path:
        return self.folder / "registries" / hashlib.sha256(root.encode()).hexdigest() / file

    def _blob_path(self, sha256: str) -> Path:
        return self.folder / "blobs" / sha256[:2] / sha256

    def _index_path(self, root: str) -> Path:
        return self.folder / "indexes" / f"{hashlib.sha256(root.encode()).hexdigest()}.json"


def _write(path: Path, data: bytes) -> None:
    with suppress(OSError):  # a full disk or a read-only home must not keep a model from being used
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data, sync=False)  # what a power cut leaves is not whole, and is noticed
