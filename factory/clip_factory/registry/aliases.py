"""Moving an alias: promotion to a version, and rollback to the one before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import cast

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Move, Reason, Registry, current_aliases
from clip_factory.registry.draft_from_run import (
    DEFAULT_OPTIONS,
    GateRefusedError,
    NotProvenError,
    PublishOptions,
    current_user,
    now,
)
from clip_factory.registry.trust import DEFAULT_TRUST, Trust
from clip_factory.runtime.releases.release_record import Release
from clip_factory.runtime.releases.release_reference import CHAMPION, Reference, is_alias


def promote(
    registry: Registry,
    reference: str,
    alias: str,
    by: str,
    trust: Trust = DEFAULT_TRUST,
    options: PublishOptions = DEFAULT_OPTIONS,
) -> Move | None:
    """Move an alias to the release that a reference names; None if it is there already.

    Raises:
        RegistryError: There is no such release, it is not signed as `trust` asks, or the alias is no alias.
        GateRefusedError: The champion is to be one that the gate refused, and `options` does not force it.
        NotProvenError: The champion is to be one that is not proven, and `options` does not allow that.
    """
    check_alias(alias)
    check_free(registry, alias)
    release = registry.index().find(Reference.parse(reference))
    trust.check(registry, release)
    return move_alias(registry, release, alias, "promote", replace(options, by=by))


def move_alias(registry: Registry, release: Release, alias: str, why: Reason, options: PublishOptions) -> Move | None:
    """Move an alias to a release; None if it is there already.

    Raises:
        GateRefusedError, NotProvenError: As `promote`.
    """

    def decide(history: Sequence[Move]) -> Move | None:
        before = current_aliases(history).get(alias)
        if before == release.version:
            return None
        _check_state(release, alias, options)
        by = options.by or current_user()
        return _checked(Move(release.name, alias, before, release.version, now(), by, why))

    return registry.move(release.name, decide)


def rollback(registry: Registry, name: str, alias: str, by: str, trust: Trust = DEFAULT_TRUST) -> Move:
    """Move an alias back to the version that it stood for before; once more, and it goes further back.

    Whatever the gate said of that one: who goes back is in a hurry, and it has stood there before.

    Raises:
        RegistryError: There is no such model or alias, no version before, or that one is not signed as `trust` asks.
    """
    check_alias(alias)
    _check_name(name, alias)
    current = registry.index().find(Reference(name, alias=alias))

    def decide(history: Sequence[Move]) -> Move:
        versions = rollback_versions(history, alias)
        if not versions or versions[-1] != current.version:
            hint = f"look first: factory models show {name}"
            raise RegistryError(f"{name}: somebody else has just moved {alias}", hint=hint)
        if len(versions) < 2:
            hint = f"choose one: factory models promote {name}@VERSION {alias}"
            raise RegistryError(f"{name}: {alias} has stood for no version before {versions[-1]}", hint=hint)
        trust.check(registry, registry.index().find(Reference(name, version=versions[-2])))
        return _checked(Move(name, alias, versions[-1], versions[-2], now(), by, "rollback"))

    return cast(Move, registry.move(name, decide))


def rollback_versions(history: Sequence[Move], alias: str) -> list[int]:
    """The versions that rollbacks would go back through, the present one last: each rollback takes one off."""
    versions: list[int] = []
    for move in history:
        if move.alias != alias:
            continue
        if move.why == "rollback" and versions[-2:-1] == [move.after]:
            versions.pop()
        else:
            versions.append(move.after)
    return versions


def check_alias(alias: str) -> None:
    """Refuse what may not be an alias.

    Raises:
        RegistryError: It has other signs than a name, or is a number.
    """
    if not is_alias(alias):
        hint = "small letters, digits and single dashes, and not a number: champion, for example"
        raise RegistryError(f"{alias!a} cannot be an alias", hint=hint)


def check_free(registry: Registry, alias: str) -> None:
    """Refuse an alias that the registry's back-end keeps for itself, before anything is written.

    Raises:
        RegistryError: It does; a back-end says so by its `reserved_aliases`, a set of names.
    """
    reserved: Collection[str] = getattr(registry, "reserved_aliases", ())
    if alias in reserved:
        raise RegistryError(f"{alias}: {registry.url} keeps this alias for itself", hint="choose another: champion")


def _check_state(release: Release, alias: str, options: PublishOptions) -> None:
    """Refuse a champion that did not pass, unless the options allow it: programs load it without asking."""
    if alias != CHAMPION:
        return
    if release.state == "refused" and not options.force:
        raise GateRefusedError(
            f"{release}: the gate refused it; {CHAMPION} does not stand for such a release",
            hint="let it all the same: --force; or choose another alias",
        )
    if release.state == "not proven" and not options.allow_unproven:
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
