"""What becomes of an alias: promotion to a version, and rollback to the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Move, Reason, Registry, standing
from clip_factory.registry.draft import USUAL, GateRefusedError, NotProvenError, Terms, now, whoever
from clip_factory.registry.trust import ANYONE, Trust
from clip_factory.runtime.releases.release_index import CHAMPION, Reference, Release, is_alias


def promote(
    registry: Registry, reference: str, alias: str, by: str, trust: Trust = ANYONE, terms: Terms = USUAL
) -> Move | None:
    """Let an alias stand for the release that a reference names; None if it does already.

    Raises:
        RegistryError: There is no such release, it is not signed as `trust` asks, or the alias is no alias.
        GateRefusedError: The champion is to be one that the gate refused, and `terms` does not force it.
        NotProvenError: The champion is to be one that is not proven, and `terms` does not allow that.
    """
    check_alias(alias)
    release = registry.index().find(Reference.parse(reference))
    trust.check(registry, release)
    return point(registry, release, alias, "promote", replace(terms, by=by))


def point(registry: Registry, release: Release, alias: str, why: Reason, terms: Terms) -> Move | None:
    """Move an alias to a release; None if it is there already.

    Raises:
        GateRefusedError, NotProvenError: As `promote`.
    """

    def decide(history: Sequence[Move]) -> Move | None:
        before = standing(history).get(alias)
        if before == release.version:
            return None
        _check_state(release, alias, terms)
        by = terms.by or whoever()
        return _checked(Move(release.name, alias, before, release.version, now(), by, why))

    return registry.move(release.name, decide)


def rollback(registry: Registry, name: str, alias: str, by: str, trust: Trust = ANYONE) -> Move:
    """Take an alias back to the version that it stood for before; once more, and it goes further back.

    Whatever the gate said of that one: who goes back is in a hurry, and it has stood there before.

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


def _check_state(release: Release, alias: str, terms: Terms) -> None:
    """Refuse that people and programs who take the champion get a model that did not pass, unless somebody says so."""
    if alias != CHAMPION:
        return
    if release.state == "refused" and not terms.force:
        raise GateRefusedError(
            f"{release}: the gate refused it; {CHAMPION} does not stand for such a release",
            hint="let it all the same: --force; or choose another alias",
        )
    if release.state == "not proven" and not terms.allow_unproven:
        raise NotProvenError(
            f"{release}: it is not proven; {CHAMPION} does not stand for such a release",
            hint="let it all the same: --allow-unproven; or choose another alias, or prove it and publish it anew: "
            "factory review RUN --prove",
        )


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
