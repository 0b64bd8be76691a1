"""What a back-end of the registry must do, and the records that it keeps: small, so that others can add theirs.

A back-end keeps two things for ever: releases, under version numbers that never repeat, and moves of aliases, in
order. The state of the aliases is the replay of the moves, so that history and state cannot differ.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, cast, runtime_checkable

from clip_factory.errors import RegistryError
from clip_factory.registry.keys import Signer
from clip_factory.run_folder import CARD
from clip_factory.runtime.releases.json_fields import Fields
from clip_factory.runtime.releases.release_index import Entry, Index
from clip_factory.runtime.releases.release_record import (
    CLASSES,
    MAX_TEXT,
    MODEL,
    UTC,
    FileEntry,
    Release,
    State,
    state_of,
)
from clip_factory.runtime.releases.release_reference import MAX_NAME, SLUG

Reason = Literal["publish", "promote", "rollback"]
PROVENANCE = "provenance.json"
"""Optional file of a release: an in-toto statement of what made it, from what."""
REASONS = re.compile("publish|promote|rollback")
IDENTITY = "registry-id"
"""Where files can be kept: what tells the registry from all others."""
PINNED_KEY = "signer.pem"
"""Where files can be kept: the public key that every release must be signed with."""
MAX_RECORD = 1_000_000
"""Bytes of one record or key."""


class RegistryNotFoundError(RegistryError):
    """There is no registry at this address yet: nobody has published to it."""


@dataclass(frozen=True)
class Move:
    """An alias that went from one version to another; a record that is never changed."""

    name: str
    """Of the model."""
    alias: str
    before: int | None
    """The version that the alias stood for; None if it is new."""
    after: int
    """The version that it stands for from now on."""
    when: str
    """ISO 8601, UTC."""
    by: str
    """Who, one line."""
    why: Reason

    @classmethod
    def parse(cls, tree: Any, where: str = "move") -> Move:
        """Check a decoded JSON value and make a move of it.

        Raises:
            RegistryError: A key is missing or unknown, or a value is not as the attributes above say.
        """
        fields = Fields(tree, where)
        before = fields.value("from")
        move = cls(
            name=fields.match("name", SLUG, MAX_NAME),
            alias=fields.match("alias", SLUG, MAX_NAME),
            before=None if before is None else fields.integer("from", 1, 999_999_999),
            after=fields.integer("to", 1, 999_999_999),
            when=fields.match("when", UTC, 40),
            by=fields.text("by", MAX_TEXT),
            why=cast(Reason, fields.match("why", REASONS, 8)),
        )
        fields.refuse_unknown()
        return move

    def to_json(self) -> dict[str, Any]:
        """The move as a JSON object; `parse` of it gives the same move."""
        tree = asdict(self)
        return {"from": tree.pop("before"), "to": tree.pop("after"), **tree}


@dataclass(frozen=True)
class Draft:
    """A release before it has a number: its files and all that its record will say."""

    name: str
    question: str
    threshold: float
    passed: bool
    forced: bool
    created: str
    by: str
    files: Mapping[str, bytes]
    """File name -> content; model.onnx is among them, and provenance.json may be."""
    signer: Signer | None = None

    @property
    def state(self) -> State:
        """What the gate said of it."""
        return state_of(passed=self.passed, forced=self.forced)

    @property
    def entries(self) -> dict[str, FileEntry]:
        """Hash and size of each file."""
        return {name: FileEntry(hashlib.sha256(data).hexdigest(), len(data)) for name, data in self.files.items()}

    def to_release(self, version: int, identity: str | None = None) -> Release:
        """The record under a version number, checked, and signed if there is a key, for a registry of this identity.

        A back-end calls this with a number that is free, as often as it must try.

        Raises:
            RegistryError: A value is not as a release may have it.
        """
        entries = self.entries
        release = Release(
            name=self.name,
            version=version,
            question=self.question,
            classes=CLASSES,
            threshold=self.threshold,
            sha256=entries[MODEL].sha256,
            size=entries[MODEL].size,
            passed=self.passed,
            forced=self.forced,
            created=self.created,
            by=self.by,
            files=entries,
        )
        signed = (
            release
            if self.signer is None
            else replace(release, signature=self.signer.sign(release.canonical(identity)))
        )
        return Release.parse(signed.to_json(), str(signed))

    def find_in(self, releases: Iterable[Release], identity: str | None = None) -> Release | None:
        """The release that holds these very bytes already, under this draft's key and for this registry if it has one.

        How they came about makes no other bytes of them: provenance.json is not compared, and the first one stays. Nor
        is card.md, where a notice may name who let it pass: manifest.json has the hash of the card without it.

        A back-end looks here first, and again whenever somebody else took the number that it tried.
        """
        entries = _content(self.entries)
        for release in releases:
            if _content(release.files) == entries and (self.signer is None or self.signer.signed(release, identity)):
                return release
        return None


def identity_of(registry: Registry) -> str | None:
    """What tells a registry from all others, as signatures in it name it; None where its back-end has no such thing."""
    identity: str | None = getattr(registry, "identity", None)
    return identity


def _content(files: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
    return {name: entry for name, entry in files.items() if name not in (PROVENANCE, CARD)}


Decide = Callable[[Sequence[Move]], Move | None]
"""Given a model's moves, oldest first, the next one; None if there is nothing to do. It may raise a RegistryError."""


class Registry(Protocol):
    """One registry. Every method may raise a RegistryError that says what, which and what to do.

    To add a back-end, name a function that takes the registry's URL and returns one of these as an entry point of the
    group `clip_factory.registries`; the entry point's name is the URL's scheme.
    """

    @property
    def url(self) -> str:
        """Where it is, as the user wrote it, without secrets."""

    def index(self) -> Index:
        """All releases and where the aliases stand now, from what the registry keeps; no cache."""

    def history(self, name: str) -> Sequence[Move]:
        """All moves of a model's aliases, oldest first; none if there is no such model."""

    def publish(self, draft: Draft) -> Release:
        """Keep the files and the record `draft.to_release(N)`, N a number that no release of this name ever had.

        Returns `draft.find_in(releases)` where that is one. However many publish at once, none is lost, no number is
        given twice, and none is given to bytes that are there already; a process killed at any point leaves the
        registry as it was before or as it is after. What consumers read (index.json) is brought up to date in either
        case.
        """

    def move(self, name: str, decide: Decide) -> Move | None:
        """Append `decide(history)` to the moves of a model, so that nobody else's move comes in between.

        Where somebody was quicker, `decide` is asked again with the longer history. What consumers read is brought up
        to date in either case.
        """

    def read(self, release: Release, file: str) -> bytes:
        """The bytes of one file of a release, as they are; the caller checks their hash."""

    def pinned_key(self) -> bytes | None:
        """The public key (PEM) that all of this registry's releases must be signed with; None if it asks for none."""


@runtime_checkable
class WritesIndex(Protocol):
    """A registry whose index.json is a file beside the records, so that the two could disagree."""

    def written_index(self) -> Index | None:
        """What index.json says, which is what consumers read; None if it is not there."""


def current_aliases(moves: Iterable[Move]) -> dict[str, int]:
    """Alias -> the version that it stands for after these moves."""
    return {move.alias: move.after for move in moves}


def make_index(releases: Iterable[Release], moves: Iterable[Move]) -> Index:
    """The index of a registry that keeps these releases and, oldest first for each model, these moves."""
    versions: dict[str, dict[int, Release]] = {}
    for release in sorted(releases, key=lambda one: (one.name, one.version)):
        versions.setdefault(release.name, {})[release.version] = release
    history: dict[str, list[Move]] = {}
    for move in moves:
        history.setdefault(move.name, []).append(move)
    return Index(
        {
            # the newest release says how the question is put today
            name: Entry(own[max(own)].question, current_aliases(history.get(name, ())), own)
            for name, own in versions.items()
        }
    )
