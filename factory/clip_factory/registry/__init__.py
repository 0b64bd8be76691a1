"""Releases of models: published, listed, pulled, verified, promoted and rolled back.

`backend` says what a registry must do, `open_registry` which back-end serves a URL; the back-ends are in `backends/`.
"""

from clip_factory.registry.aliases import promote, rollback
from clip_factory.registry.backend import Draft, Move, Registry, RegistryNotFoundError
from clip_factory.registry.diff import Change, Diff, compare, diff, without_teacher
from clip_factory.registry.draft_from_run import GateRefusedError, NotProvenError, PublishOptions, current_user
from clip_factory.registry.keys import Signer, make_pair
from clip_factory.registry.open_registry import open_existing, open_registry
from clip_factory.registry.publish import publish
from clip_factory.registry.pull import pull
from clip_factory.registry.release_reader import read_details
from clip_factory.registry.trust import Trust
from clip_factory.registry.verify import verify, verify_release
from clip_factory.runtime.releases.release_reference import Reference

__all__ = [
    "Change",
    "Diff",
    "Draft",
    "GateRefusedError",
    "Move",
    "NotProvenError",
    "PublishOptions",
    "Reference",
    "Registry",
    "RegistryNotFoundError",
    "Signer",
    "Trust",
    "compare",
    "current_user",
    "diff",
    "make_pair",
    "open_existing",
    "open_registry",
    "promote",
    "publish",
    "pull",
    "read_details",
    "rollback",
    "verify",
    "verify_release",
    "without_teacher",
]
