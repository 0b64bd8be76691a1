"""What becomes of an alias: promotion to a version, and rollback to the one before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from factory.errors import RegistryError
from factory.registry.backend import Move, Reason, Registry, standing
from factory.registry.run import now
from factory.registry.trust import ANYONE, Trust
from factory.runtime.index import Reference, Release, is_alias


def promote(registry: Registry, reference: str, alias: str, by: str, trust: Trust = ANYONE) -> Move | None:
    """Let an alias stand for the release that a reference names; None if it does already.

    Raises:
        RegistryError: There is no such release, it is not signed as `trust` asks, or the alias is no alias.
    """
    check_alias(alias)
    release = registry.index().find(Reference.parse(reference))
    trust.check(registry, release)
    return point(registry, release, alias, by, "promote")


def point(registry: Registry, release: Release, alias: str, by: str, why: Reason) -> Move | None:
    """Move an alias to a release; None if it is there already."""

    def decide(history: Sequence[Move]) -> Move | None:
        before = standing(history).get(alias)
        if before == release.version:
            return None
        return _checked(Move(release.name, alias, before, release.version, now(), by, why))

    return registry.move(release.name, decide)


def rollback(registry: Registry, name: str, alias: str, by: str, trust: Trust = ANYONE) -> Move:
    """Take an alias back to the version that it stood for before; once more, and it goes further back.

    Raises:
        RegistryError: There is no such model or alias, no version before, or that one is not signed as `trust` asks.
    """
    check_alias(alias)
    _check_name(name, alias)
    seen = registry.index().find(Reference(name, alias=alias))

    def decide(history: Sequence[Move]) -> Move:
        line = trail(history, alias)
        if not line or line[-1] != seen.version:
            hint = f"look first: factory models show {name}"
            raise RegistryError(f"{name}: somebody else has just moved {alias}", hint=hint)
        if len(line) < 2:
            hint = f"choose one: factory models promote {name}@VERSION {alias}"
            raise RegistryError(f"{name}: {alias} has stood for no version before {line[-1]}", hint=hint)
        trust.check(registry, registry.index().find(Reference(name, version=line[-2])))
        return _checked(Move(name, alias, line[-1], line[-2], now(), by, "rollback"))

    return cast(Move, registry.move(name, decide))


def trail(history: Sequence[Move], alias: str) -> list[int]:
    """The versions that rollbacks would go back through, the present one last: each rollback takes one off."""
    line: list[int] = []
    for move in history:
        if move.alias != alias:
            continue
        if move.why == "rollback" and line[-2:-1] == [move.after]:
            line.pop()
        else:
            line.append(move.after)
    return line


def check_alias(alias: str) -> None:
    """Refuse what may not be an alias.

    Raises:
        RegistryError: It has other signs than a name, or is a number.
    """
    if not is_alias(alias):
        hint = "small letters, digits and single dashes, and not a number: champion, for example"
        raise RegistryError(f"{alias!a} cannot be an alias", hint=hint)


def _check_name(name: str, alias: str) -> None:
    reference = Reference.parse(name)
    if str(reference) != reference.name:
        hint = f"factory models rollback {reference.name} {alias}"
        raise RegistryError(
            f"{name}: a rollback takes the model's name alone; the version is the one before", hint=hint
        )


def _checked(move: Move) -> Move:
    """A record is never changed: one that could not be read again must not be written."""
    return Move.parse(move.to_json(), f"{move.alias} of {move.name}")
