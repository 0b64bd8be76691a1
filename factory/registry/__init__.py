"""Where releases are kept: published, found, trusted, taken back.

`backend` says what a registry must do, `address` which one serves a URL; `files` is the one of folders and fsspec.
"""

from factory.registry.address import open_existing, open_registry
from factory.registry.aliases import promote, rollback
from factory.registry.backend import Draft, Move, Registry
from factory.registry.contents import look_at
from factory.registry.diff import Change, Diff, compare, diff, without_teacher
from factory.registry.keys import Signer, make_pair
from factory.registry.publish import publish
from factory.registry.run import GateRefusedError, NotProvenError, Terms, whoever
from factory.registry.take import pull, verify, verify_release
from factory.registry.trust import Trust
from factory.runtime.index import Reference

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
