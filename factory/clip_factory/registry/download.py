"""Taking a release out of a registry, and checking one: every byte against its hash, every record against its key."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Registry
from clip_factory.registry.backends.file_registry import FilesRegistry
from clip_factory.registry.release_contents import ALTERED, load_bytes, read_checked
from clip_factory.registry.trust import ANYONE, Trust
from clip_factory.runtime import Model
from clip_factory.runtime.releases.release_index import INDEX, MODEL, Reference, Release, one_line

RECORD = "release.json"
"""The signed record, beside the files that it names."""
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


def pull(registry: Registry, reference: str, out: Path, trust: Trust = ANYONE) -> Path:
    """Copy a release's files and its record into the folder OUT/NAME-VERSION; whole or not at all.

    Returns:
        The path of model.onnx. Where the folder holds these very files already, nothing is written.

    Raises:
        RegistryError: There is no such release, it is not signed as `trust` asks, a file was altered, or the folder
            holds something else.
        ModelError: Its model.onnx is not a model of this factory: it refers to data in another file, say.
    """
    release = registry.index().find(Reference.parse(reference))
    trust.check(registry, release)
    files = {name: read_checked(registry, release, name) for name in sorted(release.files)}
    _load(release, files[MODEL])
    files[RECORD] = (json.dumps(release.to_json(), indent=2, ensure_ascii=False) + "\n").encode()
    folder = out / f"{release.name}-{release.version}"
    if not os.path.lexists(folder):
        _write(folder, files)
    if any(not (folder / name).is_file() or (folder / name).read_bytes() != data for name, data in files.items()):
        raise RegistryError(f"{folder}: holds other files than {release}", hint="name another folder with --out")
    return folder / MODEL


def verify(path: Path) -> Checked:
    """Replay the test vectors in a model file.

    Raises:
        ModelError: It is not a model of this factory, or answers otherwise than when it was exported.
    """
    model = Model.load(path, threads=1)
    return Checked(model, model.verify(), None, False)


def verify_release(registry: Registry, model: str, trust: Trust = ANYONE) -> Checked:
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
    loaded = _load(release, data[MODEL])
    return Checked(loaded, loaded.verify(), release, signed)


def _by_hash(releases: list[Release], sha256: str) -> Release | None:
    return next((one for one in reversed(releases) if one.sha256 == sha256), None)


def _load(release: Release, data: bytes) -> Model:
    """The model, which a record that is not signed could call something else than the file itself does."""
    model = load_bytes(data, f"{release}: {MODEL}")
    inside = (model.name, model.threshold, one_line(model.question))
    if inside != (said := (release.name, release.threshold, release.question)):
        raise RegistryError(f"{release}: its file says {inside}, its record {said}", hint=ALTERED)
    return model


def _check_index(registry: Registry, release: Release) -> None:
    """Where the index is a file of its own, it must say what the record says."""
    if not isinstance(registry, FilesRegistry):
        return
    where = f"{registry.url}/{INDEX}"
    if not registry.store.has(INDEX):
        raise RegistryError(f"{where} is not there, and consumers go by it", hint=STALE)
    entry = registry.written_index().models.get(release.name)
    if entry is None or entry.versions.get(release.version) != release:
        raise RegistryError(f"{where} says something else of {release} than its record", hint=STALE)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Put the files there in one step, unless somebody else has put something there by then."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, data in files.items():
            (temporary / name).write_bytes(data)
        os.rename(temporary, folder)
    except OSError as error:
        if not os.path.lexists(folder):
            hint = "check --out, its rights and the space left"
            raise RegistryError(f"{folder}: cannot be written ({error.strerror})", hint=hint) from None
    finally:
        if temporary.exists():
            for name in files:
                (temporary / name).unlink(missing_ok=True)
            temporary.rmdir()
