"""From a reference such as forklift@champion to checked bytes: registry, index, signature, cache, hash."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from clip_factory.runtime.releases.cache import Cache, default_folder
from clip_factory.runtime.releases.location import root_of
from clip_factory.runtime.releases.release_index import INDEX, Index
from clip_factory.runtime.releases.release_record import MODEL, Release
from clip_factory.runtime.releases.release_reference import Reference
from clip_factory.runtime.releases.release_signature import verify_signature
from clip_factory.runtime.releases.transport import UnreachableError, read
from clip_factory.runtime.runtime_errors import OfflineWarning, RegistryError

SIGNER = "signer.pem"
"""The public key that all releases of a registry are signed with, where it pins one."""
IDENTITY = "registry-id"
"""What tells a registry from all others, where it has such a thing: its signatures hold for it alone."""
MAX_STEADY = 10_000
MAX_INDEX = 64_000_000
"""Bytes of an index: some 50,000 releases."""

PublicKey = bytes | str | os.PathLike[str]
"""An ed25519 public key: PEM, or the path of a PEM file."""


@dataclass(frozen=True)
class FetchedFile:
    """One file of a release; its bytes have the hash that the release states."""

    release: Release
    data: bytes


def fetch(
    reference: str,
    registry: str | os.PathLike[str],
    *,
    public_key: PublicKey | None = None,
    file: str = MODEL,
    cache: Cache | None = None,
) -> FetchedFile:
    """Fetch one file of a release, from the cache where it is there.

    A registry may pin the key that its releases are signed with: then each must be, and the key must stay the same, as
    far as the cache remembers it.

    A version never changes, so NAME@VERSION that was fetched before asks no network. An alias may have moved: the
    registry is asked, and if it does not answer, the index last seen decides, with an `OfflineWarning`.

    Args:
        reference: NAME, NAME@VERSION or NAME@ALIAS, as `Reference.parse` reads it.
        registry: A folder, or a URL: file://, http(s)://, or any other through fsspec.
        public_key: Refuse a release that the holder of this key has not signed.
        file: Which of the release's files.
        cache: By default the folder named by $FACTORY_CACHE, else the user's.

    Raises:
        RegistryError: The registry, the release or the file is not there, is altered, or is not signed by the key.
    """
    parsed, root = Reference.parse(reference), root_of(registry)
    # a folder is read as it is now: what was kept of it could be older, and is no nearer
    cache = Cache(Path(os.devnull)) if "://" not in root else cache or Cache(default_folder())
    key = None if public_key is None else _read_key(public_key)
    kept = _sufficient_cached_index(parsed, root, file, cache)
    pinned = _steady(root, SIGNER, cache, ask=kept is None)
    index = kept or _index(root, cache)
    release = index.find(parsed)
    signers = [signer for signer in (key, pinned) if signer is not None]
    identity = _steady(root, IDENTITY, cache, ask=kept is None) if signers else None
    for signer in signers:
        verify_signature(release, signer, None if identity is None else identity.decode("ascii", "replace").strip())
    return FetchedFile(release, read_file(index, release, file, root, cache))


def read_index(registry: str | os.PathLike[str], cache: Cache | None = None) -> Index:
    """The index of a registry as it is now; remembered in the cache.

    Raises:
        UnreachableError: The registry does not answer.
        RegistryError: There is none, or what is there is no index.
    """
    root, cache = root_of(registry), cache or Cache(default_folder())
    data = read(root, INDEX, MAX_INDEX)
    index = Index.parse(data, f"{root}/{INDEX}")
    cache.store_index(root, data)
    return index


def read_file(index: Index, release: Release, file: str, root: str, cache: Cache) -> bytes:
    """The bytes of one file of a release, from the cache or the registry.

    Raises:
        RegistryError: It cannot be read, or has another size or hash than the release says.
    """
    where = index.location(release, file)
    expected = release.files[file]
    data = cache.blob(expected.sha256, expected.size)
    if data is not None:
        return data
    data = read(root, where, expected.size)
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected.sha256:
        raise RegistryError(
            f"{release}: {file} at {root} has sha256 {actual}, the index says {expected.sha256}",
            hint="the file was altered or damaged: do not use it; ask who runs the registry",
        )
    cache.store_blob(data)
    return data


def _steady(root: str, file: str, cache: Cache, *, ask: bool) -> bytes | None:
    """A file of a registry that never changes, as it is now, or as it was when it was last seen; None without one.

    Raises:
        RegistryError: It is another than before, or is there no more.
    """
    known = cache.steady(root, file)
    if not ask:
        return known
    try:
        now: bytes | None = read(root, file, MAX_STEADY)
    except UnreachableError:
        return known
    except RegistryError:  # it has none, or does not show it: what it does not show, it does not say
        now = None
    if known is not None and known != now:
        raise RegistryError(
            f"{root}: its {file} is another than when it was last seen" if now else f"{root}: its {file} is gone",
            hint="ask who runs the registry; if that is right, delete the cache folder",
        )
    if now is not None and known is None:
        cache.store_steady(root, file, now)
    return now


def _sufficient_cached_index(reference: Reference, root: str, file: str, cache: Cache) -> Index | None:
    """The index last seen, if it and the cache alone can serve a reference to a version."""
    if reference.version is None or (cached := _cached_index(root, cache)) is None:
        return None
    index, _ = cached
    try:
        entry = index.find(reference).files[file]
    except (RegistryError, KeyError):
        return None
    return index if cache.blob(entry.sha256, entry.size) is not None else None


def _index(root: str, cache: Cache) -> Index:
    try:
        return read_index(root, cache)
    except UnreachableError as error:
        if (cached := _cached_index(root, cache)) is None:
            raise
        index, when = cached
        date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(when))
        warnings.warn(f"{error.what}; going by its index as of {date}", OfflineWarning, stacklevel=4)
        return index


def _cached_index(root: str, cache: Cache) -> tuple[Index, float] | None:
    if (stored := cache.index(root)) is None:
        return None
    try:
        return Index.parse(stored[0]), stored[1]
    except RegistryError:  # damaged on the disk: as if it were not there
        return None


def _read_key(key: PublicKey) -> bytes | str:
    if isinstance(key, bytes) or (isinstance(key, str) and "-----BEGIN" in key):
        return key
    try:
        return Path(key).read_bytes()
    except OSError as error:
        raise RegistryError(f"{os.fspath(key)}: the public key cannot be read ({error.strerror})") from None
