"""Copying a release out of a registry: every byte against its hash, the record against its key."""

from __future__ import annotations

import json
import os
from pathlib import Path

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Registry
from clip_factory.registry.release_reader import load_matching, read_checked
from clip_factory.registry.trust import DEFAULT_TRUST, Trust
from clip_factory.runtime.atomic import atomic_folder
from clip_factory.runtime.releases.release_record import MODEL
from clip_factory.runtime.releases.release_reference import Reference

RECORD = "release.json"
"""The signed record, beside the files that it names."""


def pull(registry: Registry, reference: str, out: Path, trust: Trust = DEFAULT_TRUST) -> Path:
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
    load_matching(release, files[MODEL])
    files[RECORD] = (json.dumps(release.to_json(), indent=2, ensure_ascii=False) + "\n").encode()
    folder = out / f"{release.name}-{release.version}"
    if not os.path.lexists(folder):
        _write(folder, files)
    if any(not (folder / name).is_file() or (folder / name).read_bytes() != data for name, data in files.items()):
        raise RegistryError(f"{folder}: holds other files than {release}", hint="name another folder with --out")
    return folder / MODEL


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Put the files there in one step, unless somebody else has put something there by then."""
    try:
        with atomic_folder(folder) as temporary:
            for name, data in files.items():
                (temporary / name).write_bytes(data)
    except OSError as error:
        if not os.path.lexists(folder):
            hint = "check --out, its rights and the space left"
            raise RegistryError(f"{folder}: cannot be written ({error.strerror})", hint=hint) from None
