"""All releases and moves of a registry in two files of one commit, for back-ends that commit several files at once.

index.json is what consumers read anyway; history.json holds the moves of the aliases. Since one commit writes both, and
only if nobody committed in between, neither can lose an entry and they cannot differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Decide, Draft, Move, make_index
from clip_factory.registry.backends.retries import until_committed
from clip_factory.runtime.releases.json_fields import Fields, loads
from clip_factory.runtime.releases.release_index import INDEX, LAYOUT, Index
from clip_factory.runtime.releases.release_record import Release

HISTORY = "history.json"
HISTORY_FORMAT = "clip-factory-history/1"
MAX_BYTES = 32_000_000
"""Of each of the two files."""


@dataclass(frozen=True)
class Catalog:
    """All releases and moves that a registry keeps."""

    releases: tuple[Release, ...] = ()
    moves: tuple[Move, ...] = ()
    layout: str = LAYOUT

    @classmethod
    def parse(cls, index: bytes | None, history: bytes | None, where: str, layout: str = LAYOUT) -> Catalog:
        """Read the two files; None for one that is not there.

        Args:
            index: Bytes of index.json.
            history: Bytes of history.json.
            where: Which registry, for errors.
            layout: Where files lie, see `Index.layout`; only used to write.

        Raises:
            RegistryError: A file is not as `files` writes it, or the two do not agree.
        """
        read = Index({}) if index is None else Index.parse(index, f"{where}: {INDEX}")
        moves = () if history is None else _parse_history(history, f"{where}: {HISTORY}")
        releases = tuple(release for entry in read.models.values() for release in entry.versions.values())
        catalog = cls(releases, moves, layout)
        if catalog.index() != replace(read, layout=layout):
            raise RegistryError(
                f"{where}: {INDEX} and {HISTORY} disagree", hint="they were changed by hand: restore an earlier commit"
            )
        return catalog

    def index(self) -> Index:
        """What consumers read."""
        return replace(make_index(self.releases, self.moves), layout=self.layout)

    def files(self) -> dict[str, str]:
        """Name -> text of the two files."""
        history = {"format": HISTORY_FORMAT, "moves": [move.to_json() for move in self.moves]}
        return {INDEX: _text(self.index().to_json()), HISTORY: _text(history)}

    def versions(self, name: str) -> list[Release]:
        """The releases of a model, oldest first."""
        return sorted((release for release in self.releases if release.name == name), key=lambda one: one.version)

    def history(self, name: str) -> Sequence[Move]:
        """The moves of a model's aliases, oldest first."""
        return [move for move in self.moves if move.name == name]

    def next_version(self, name: str) -> int:
        """A number that no release of this name has."""
        return max((one.version for one in self.versions(name)), default=0) + 1

    def find(self, draft: Draft) -> Release | None:
        """The release that holds a draft's bytes already."""
        return draft.find_in(self.versions(draft.name))

    def with_release(self, release: Release) -> Catalog:
        """This catalog and one release more."""
        return replace(self, releases=(*self.releases, release))


class CatalogStore(Protocol):
    """Where the catalog of a registry is kept: commits with a head that moves."""

    @property
    def where(self) -> str:
        """Its address, for messages."""

    def load(self) -> tuple[str | None, Catalog]:
        """The head's name and the catalog there; None and an empty catalog where nothing is kept yet."""

    def save(self, catalog: Catalog, head: str | None, message: str) -> None:
        """Commit the catalog on top of `head`.

        Raises:
            ConflictError: The head has moved.
        """


def append(store: CatalogStore, name: str, decide: Decide, sleep: Callable[[float], None]) -> Move | None:
    """Append the next move of a model's aliases, as `Registry.move` asks for it."""
    move: Move | None = None

    def attempt() -> Move | None:
        nonlocal move
        head, catalog = store.load()
        if move is not None and move in catalog.moves:  # it was done, only the answer was lost
            return move
        move = decide(catalog.history(name))
        if move is not None:
            store.save(replace(catalog, moves=(*catalog.moves, move)), head, _message(move))
        return move

    return until_committed(store.where, sleep, attempt)


def _message(move: Move) -> str:
    return f"{move.name}: {move.alias} is version {move.after}, was {move.before or 'new'} ({move.why})"


def _parse_history(data: bytes, where: str) -> tuple[Move, ...]:
    fields = Fields(loads(data, where), where)
    if fields.value("format") != HISTORY_FORMAT or not isinstance(trees := fields.value("moves"), list):
        raise RegistryError(f"{where}: not a history of this factory", hint="a newer factory may read it")
    return tuple(Move.parse(tree, f"{where}: moves[{place}]") for place, tree in enumerate(trees))


def _text(tree: object) -> str:
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"
