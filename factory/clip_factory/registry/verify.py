"""Checking a model: its test vectors, and with a registry signature, hashes and index of its release."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Registry, WritesIndex
from clip_factory.registry.release_reader import load_matching, read_checked
from clip_factory.registry.trust import DEFAULT_TRUST, Trust
from clip_factory.runtime import Model
from clip_factory.runtime.releases.release_index import INDEX
from clip_factory.runtime.releases.release_record import MODEL, Release
from clip_factory.runtime.releases.release_reference import Reference

STALE = "it was altered, or a publisher was killed: the next publish or promote writes it anew"


@dataclass(frozen=True)
class Checked:
    """What was checked of a model, all of it found right."""

    model: Model
    difference: float
    """Largest difference of a probability from the test vectors in the file."""
    release: Release | None
    """None: no registry was asked."""
    signed: bool
    """Whether the release's signature was checked against a key."""


def verify(path: Path) -> Checked:
    """Replay the test vectors in a model file.

    Raises:
        ModelError: It is not a model of this factory, or answers otherwise than when it was exported.
    """
    model = Model.load(path, threads=1)
    return Checked(model, model.verify(), None, False)


def verify_release(registry: Registry, model: str, trust: Trust = DEFAULT_TRUST) -> Checked:
    """Check a release in full: signature, hashes of all its files, what consumers read of it, and its test vectors.

    Args:
        registry: Where it is.
        model: The path of a model file, whose release is found by its hash, or a reference.
        trust: Whom it must be signed by, beside what the registry asks.

    Raises:
        RegistryError: There is no such release, or something in the registry was altered.
        ModelError: The file is not a model of this factory, or answers otherwise than when it was exported.
    """
    index = registry.index()
    if model.endswith(".onnx") or os.sep in model:
        sha256 = Model.load(model, threads=1).sha256
        release = _by_hash([one for entry in index.models.values() for one in entry.versions.values()], sha256)
        if release is None:
            hint = "it was never published there, or was altered since"
            raise RegistryError(f"{model}: no release of {registry.url} has these bytes (sha256 {sha256})", hint=hint)
    else:
        release = index.find(Reference.parse(model))
    signed = trust.check(registry, release)
    data = {name: read_checked(registry, release, name) for name in release.files}
    _check_index(registry, release)
    loaded = load_matching(release, data[MODEL])
    return Checked(loaded, loaded.verify(), release, signed)


def _by_hash(releases: list[Release], sha256: str) -> Release | None:
    return next((one for one in reversed(releases) if one.sha256 == sha256), None)


def _check_index(registry: Registry, release: Release) -> None:
    """Where the index is a file of its own, it must say what the record says."""
    if not isinstance(registry, WritesIndex):
        return
    where = f"{registry.url}/{INDEX}"
    index = registry.written_index()
    if index is None:
        raise RegistryError(f"{where} is not there, and consumers go by it", hint=STALE)
    entry = index.models.get(release.name)
    if entry is None or entry.versions.get(release.version) != release:
        raise RegistryError(f"{where} says something else of {release} than its record", hint=STALE)
