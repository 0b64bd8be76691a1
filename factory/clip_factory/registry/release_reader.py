"""Reading a release: its files, checked against its record, and what they say."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_factory.errors import ModelError, RegistryError
from clip_factory.registry.backend import Move, Registry
from clip_factory.registry.trust import DEFAULT_TRUST, Trust
from clip_factory.run_folder import GATE, MODEL
from clip_factory.runtime import Model
from clip_factory.runtime.releases.json_fields import loads
from clip_factory.runtime.releases.release_record import Release, one_line
from clip_factory.runtime.releases.release_reference import Reference

ALTERED = "the file was altered or damaged: do not use it; ask who runs the registry"


@dataclass(frozen=True)
class ReleaseDetails:
    """A release with all that a person asks about it, checked."""

    release: Release
    aliases: list[str]
    """Those that stand for it now."""
    gate: Any
    """The content of gate.json."""
    history: Sequence[Move]
    """All moves of the model's aliases, oldest first."""
    signed: bool
    """Whether its signature was checked against a key."""


def read_details(registry: Registry, reference: str, trust: Trust = DEFAULT_TRUST) -> ReleaseDetails:
    """A release with its aliases, gate and history.

    Raises:
        RegistryError: It is not there, not signed as `trust` asks, or its gate.json was altered.
    """
    index = registry.index()
    release = index.find(Reference.parse(reference))
    signed = trust.check(registry, release)
    aliases = index.models[release.name].aliases_of(release.version)
    return ReleaseDetails(release, aliases, read_gate(registry, release), registry.history(release.name), signed)


def read_checked(registry: Registry, release: Release, file: str) -> bytes:
    """The bytes of one file of a release.

    Raises:
        RegistryError: The release has no such file, or its size or hash is not what the release says.
    """
    if file not in release.files:
        raise RegistryError(f"{release} has no file {file!a}", hint=f"files: {', '.join(sorted(release.files))}")
    expected = release.files[file]
    data = registry.read(release, file)
    sha256 = hashlib.sha256(data).hexdigest()
    if len(data) != expected.size or sha256 != expected.sha256:
        raise RegistryError(
            f"{release}: {file} at {registry.url} has sha256 {sha256}, the release says {expected.sha256}", hint=ALTERED
        )
    return data


def read_model(registry: Registry, release: Release) -> Model:
    """The model of a release.

    Raises:
        RegistryError: As `read_checked`.
        ModelError: It is not a model of this factory.
    """
    return load_bytes(read_checked(registry, release, MODEL), f"{release}: {MODEL}")


def load_matching(release: Release, data: bytes) -> Model:
    """The model in the bytes of a release, which an unsigned record could call something else than the file does.

    Raises:
        RegistryError: Name, threshold or question are not those of the record.
        ModelError: It is not a model of this factory.
    """
    model = load_bytes(data, f"{release}: {MODEL}")
    inside = (model.name, model.threshold, one_line(model.question))
    if inside != (recorded := (release.name, release.threshold, release.question)):
        raise RegistryError(f"{release}: its file says {inside}, its record {recorded}", hint=ALTERED)
    return model


def read_gate(registry: Registry, release: Release) -> Any:
    """The content of a release's gate.json, which nobody has looked at yet.

    Raises:
        RegistryError: As `read_checked`, or it is not JSON.
    """
    return loads(read_checked(registry, release, GATE), f"{release}: {GATE}")


def clauses(gate: Any) -> list[dict[str, Any]]:
    """The clauses of a gate.json, as far as they are as they should be."""
    listed = gate.get("clauses") if isinstance(gate, dict) else None
    return [
        clause
        for clause in (listed if isinstance(listed, list) else ())
        if isinstance(clause, dict) and isinstance(clause.get("name"), str)
    ]


def load_bytes(data: bytes, where: str) -> Model:
    """A model from its bytes, the very ones, whatever becomes of the file that they were read from.

    Args:
        data: The content of a model file.
        where: What it is called in an error.

    Raises:
        ModelError: They are not a model of this factory.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, MODEL)
        path.write_bytes(data)
        try:
            return Model.load(path, threads=1)
        except ModelError as error:
            raise ModelError(error.what.replace(str(path), where), hint=error.hint) from None
