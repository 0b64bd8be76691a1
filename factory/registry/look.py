"""One release with all that a person asks about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from factory.artifacts import GATE
from factory.registry.backend import Move, Registry
from factory.registry.diff import clauses
from factory.registry.trust import ANYONE, Trust, read_checked
from factory.runtime.fields import loads
from factory.runtime.index import Reference, Release


@dataclass(frozen=True)
class Look:
    """A release, checked."""

    release: Release
    aliases: list[str]
    """Those that stand for it now."""
    gate: Any
    """The content of gate.json."""
    history: Sequence[Move]
    """All moves of the model's aliases, oldest first."""
    signed: bool
    """Whether its signature was checked against a key."""

    @property
    def clauses(self) -> list[dict[str, Any]]:
        """What the gate said, clause by clause."""
        return clauses(self.gate)


def look_at(registry: Registry, reference: str, trust: Trust = ANYONE) -> Look:
    """Look a release up.

    Raises:
        RegistryError: It is not there, not signed as `trust` asks, or its gate.json was altered.
    """
    index = registry.index()
    release = index.find(Reference.parse(reference))
    signed = trust.check(registry, release)
    aliases = sorted(a for a, version in index.models[release.name].aliases.items() if version == release.version)
    gate = loads(read_checked(registry, release, GATE), f"{release}: {GATE}")
    return Look(release, aliases, gate, registry.history(release.name), signed)
