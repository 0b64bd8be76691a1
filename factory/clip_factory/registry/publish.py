"""Publishing: a finished run becomes an immutable release, and an alias may be moved to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clip_factory.registry.aliases import check_alias, check_free, move_alias
from clip_factory.registry.backend import Move, Registry
from clip_factory.registry.draft_from_run import DEFAULT_OPTIONS, PublishOptions, draft_from_run
from clip_factory.registry.trust import check_signer
from clip_factory.runtime.releases.release_record import Release


@dataclass(frozen=True)
class Published:
    """What publishing a run did."""

    release: Release
    new: bool
    """False: the registry had these very bytes already."""
    move: Move | None
    """None: no alias was named, or it was there already."""


def publish(
    folder: Path, registry: Registry, alias: str | None = None, options: PublishOptions = DEFAULT_OPTIONS
) -> Published:
    """Publish a finished run, then let the alias stand for it.

    Each of the two is done or not done, whatever happens; where the second is missing, the same call does it.

    Raises:
        RunError: It is no run folder, is not finished, or was altered after it was finished.
        GateRefusedError: The gate refused the run, and `options` does not force it.
        NotProvenError: The gate does not call it proven, and `options` does not allow that.
        RegistryError: The registry cannot be written, wants another signature, or the alias is no alias.
    """
    if alias is not None:
        check_alias(alias)
        check_free(registry, alias)
    draft = draft_from_run(folder, options)
    draft.to_release(1)  # whatever the number will be: what a record may not say is refused before anything is written
    check_signer(registry, options.signer)
    release = registry.publish(draft)
    move = None if alias is None else move_alias(registry, release, alias, "publish", options)
    return Published(release, (release.created, release.by) == (draft.created, draft.by), move)
