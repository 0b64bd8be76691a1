"""A registry's books as two files that are always written together, for back-ends that commit several files at once.

index.json is what consumers read anyway; history.json holds the moves of the aliases. Since one commit writes both, and
only if nobody committed in between, neither can lose an entry and they cannot differ.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Decide, Draft, Move, make_index
from clip_factory.runtime.releases.json_fields import Fields, loads
from clip_factory.runtime.releases.release_index import INDEX, LAYOUT, Index, Release

HISTORY = "history.json"
HISTORY_FORMAT = "clip-factory-history/1"
MAX_BYTES = 32_000_000
"""Of each of the two files."""
TRIES = 50
"""How often a commit is tried while others are quicker."""


@dataclass(frozen=True)
class Ledger:
    """All releases and moves that a registry keeps."""

    releases: tuple[Release, ...] = ()
    moves: tuple[Move, ...] = ()
    layout: str = LAYOUT

    @classmethod
    def parse(cls, index: bytes | None, history: bytes | None, where: str, layout: str = LAYOUT) -> Ledger:
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
        ledger = cls(releases, moves, layout)
        if ledger.index() != replace(read, layout=layout):
            raise RegistryError(
                f"{where}: {INDEX} and {HISTORY} disagree", hint="they were changed by hand: restore an earlier commit"
            )
        return ledger

    def index(self) -> Index:
        """What consumers read."""
        return replace(make_index(self.releases, self.moves), layout=self.layout)

    def files(self) -> dict[str, str]:
        """Name -> text of the two files."""
        history = {"format": HISTORY_FORMAT, "moves": [move.to_json() for move in self.moves]}
        return {INDEX: _text(self.index().to_json()), HISTORY: _text(history)}

    def of(self, name: str) -> list[Release]:
        """The releases of a model, oldest first."""
        return sorted((one for one in self.releases if one.name == name), key=lambda one: one.version)

    def history(self, name: str) -> Sequence[Move]:
        """The moves of a model's aliases, oldest first."""
        return [move for move in self.moves if move.name == name]

    def next_version(self, name: str) -> int:
        """A number that no release of this name has."""
        return max((one.version for one in self.of(name)), default=0) + 1

    def among(self, draft: Draft) -> Release | None:
        """The release that holds a draft's bytes already."""
        return draft.among(self.of(draft.name))

    def with_release(self, release: Release) -> Ledger:
        """These books and one release more."""
        return replace(self, releases=(*self.releases, release))


class Store(Protocol):
    """Where the books of a registry are kept: commits with a head that moves."""

    @property
    def where(self) -> str:
        """Its address, for messages."""

    def load(self) -> tuple[str | None, Ledger]:
        """The head's name and the books as they are there; None and empty books where nothing is kept yet."""

    def save(self, books: Ledger, head: str | None, message: str) -> bool:
        """Commit the books on top of `head`, unless the head has moved.

        Returns:
            Whether it was done; False if somebody was quicker.
        """


def append(store: Store, name: str, decide: Decide, sleep: Callable[[float], None]) -> Move | None:
    """Enter the next move of a model's aliases, as `Registry.move` asks for it."""
    move = None
    for _ in tries(store.where, sleep):
        head, books = store.load()
        if move is not None and move in books.moves:  # it was done, only the answer was lost
            return move
        move = decide(books.history(name))
        if move is None or store.save(replace(books, moves=(*books.moves, move)), head, _says(move)):
            return move
    raise AssertionError("`tries` ends with an error")


def tries(where: str, sleep: Callable[[float], None]) -> Iterator[int]:
    """Count the tries at a commit, with a longer and longer wait by chance between them.

    Raises:
        RegistryError: Others were quicker every time.
    """
    for count in range(TRIES):
        yield count
        sleep(random.uniform(0, min(2.0, 0.05 * 2**count)))  # noqa: S311 - no secret
    raise RegistryError(f"{where}: others write to it all the time; nothing was changed", hint="try again in a while")


def _says(move: Move) -> str:
    return f"{move.name}: {move.alias} is version {move.after}, was {move.before or 'new'} ({move.why})"


def _parse_history(data: bytes, where: str) -> tuple[Move, ...]:
    fields = Fields(loads(data, where), where)
    if fields.take("format") != HISTORY_FORMAT or not isinstance(trees := fields.take("moves"), list):
        raise RegistryError(f"{where}: not a history of this factory", hint="a newer factory may read it")
    return tuple(Move.parse(tree, f"{where}: moves[{place}]") for place, tree in enumerate(trees))


def _text(tree: object) -> str:
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"
