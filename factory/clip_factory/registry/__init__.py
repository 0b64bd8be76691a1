"""Where releases are kept: published, found, trusted, taken back.

`backend` says what a registry must do, `address` which one serves a URL; `files` is the one of folders and fsspec.
"""

from clip_factory.registry.aliases import promote, rollback
from clip_factory.registry.backend import Draft, Move, Registry
from clip_factory.registry.diff import Change, Diff, compare, diff, without_teacher
from clip_factory.registry.download import pull, verify, verify_release
from clip_factory.registry.draft import GateRefusedError, NotProvenError, Terms, whoever
from clip_factory.registry.keys import Signer, make_pair
from clip_factory.registry.open_registry import open_existing, open_registry
from clip_factory.registry.publish import publish
from clip_factory.registry.release_contents import look_at
from clip_factory.registry.trust import Trust
from clip_factory.runtime.releases.release_index import Reference

__all__ = [
    "Change",
    "Diff",
    "Draft",
    "GateRefusedError",
    "Move",
    "NotProvenError",
    "Reference",
    "Registry",
    "Signer",
    "Terms",
    "Trust",
    "compare",
    "diff",
    "look_at",
    "make_pair",
    "open_existing",
    "open_registry",
    "promote",
    "publish",
    "pull",
    "rollback",
    "verify",
    "verify_release",
    "whoever",
    "without_teacher",
]
