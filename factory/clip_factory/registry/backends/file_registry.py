"""A registry that is nothing but files: in a folder, or in any file system of fsspec that can create exclusively.

    models/NAME/versions/000003.json    one release; creating it is the commit
    models/NAME/history/000007.json     one move of an alias; the aliases are the replay of the moves
    blobs/ab/ab12...                    the content of the releases' files, by its sha256
    index.json                          what consumers read: derived from the above, never the truth
    registry-id                         what signatures in it name it by; of one that was begun signed
    signer.pem                          optional: the public key that every release must be signed with

Blobs are written first and the record last, and a record is created only if nobody else has created it: so publishers
race without a lock, and one that is killed leaves the registry as it was before or as it is after.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from clip_factory.errors import RegistryError
from clip_factory.progress import warn
from clip_factory.registry.backend import IDENTITY, MAX_RECORD, PINNED_KEY, Decide, Draft, Move, make_index
from clip_factory.runtime.photo_files import LITTER
from clip_factory.runtime.releases.json_fields import loads
from clip_factory.runtime.releases.release_index import INDEX, Index
from clip_factory.runtime.releases.release_record import MAX_FILE, Release
from clip_factory.runtime.releases.release_reference import SLUG

RECORD = re.compile(rf"models/({SLUG.pattern})/(versions|history)/(\d{{6,9}})\.json")

Record = TypeVar("Record", Release, Move)


class Store(Protocol):
    """Files by their path: relative to the registry's root, with `/` between the parts, which it never leaves."""

    def find(self, folder: str) -> list[str]:
        """The paths of all files below a folder, sorted; none if it is not there. Temporary files are left out."""

    def has(self, path: str) -> bool:
        """Whether there is such a file."""

    def read(self, path: str, limit: int) -> bytes:
        """The bytes of a file; a RegistryError if it is missing or larger than `limit`."""

    def read_all(self, paths: Sequence[str], limit: int) -> list[bytes]:
        """The bytes of many files, as `read` gives those of one."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a file, whole or not at all, unless there is one: then leave it as it is and return False."""

    def put(self, path: str, data: bytes) -> None:
        """Write a file, whole or not at all, in the place of an earlier one."""


@dataclass(frozen=True)
class FileRegistry:
    """The back-end for folders and for fsspec; see `clip_factory.registry.backend.Registry`."""

    url: str
    store: Store
    _cached: dict[str, Any] = field(default_factory=dict, repr=False)
    """Records that were read, by path, or their bytes where they are not parsed yet: they never change."""

    def index(self) -> Index:
        """All releases, and the aliases as the replay of the moves; a model with a bad record is left out, and named.

        Raises:
            RegistryError: No model is sound.
        """
        sound, blocked = self._models()
        for name, error in blocked.items():
            if not sound:
                raise error
            warn(f"{name} is left out of {self.url}: {error.what}")
        return Index({name: entry for one in sound for name, entry in one.models.items()})

    def _models(self) -> tuple[list[Index], dict[str, RegistryError]]:
        """An index of each model that is sound, and what is wrong with each other one."""
        by_name: dict[str, list[str]] = defaultdict(list)
        for path in self.store.find("models"):  # sorted: of a model, the moves come before the versions that they name
            by_name[path.split("/")[1]].append(path)
        with suppress(RegistryError):  # all at once, which is quicker far away; one that is bad is named below
            self._fetch(path for paths in by_name.values() for path in paths if RECORD.fullmatch(path))
        sound, blocked = [], {}
        for name, paths in by_name.items():
            try:
                sound.append(self._model(paths))
            except RegistryError as error:
                blocked[name] = error
        return sound, blocked

    def _model(self, paths: Sequence[str]) -> Index:
        moves, releases = self._moves(paths), self._releases(paths)
        there = {(release.name, release.version) for release in releases}
        for move in moves:
            if (move.name, move.after) not in there:
                raise RegistryError(
                    f"{self.url}: {move.alias} of {move.name} was moved to version {move.after}, which is not there",
                    hint="its record was deleted or lost: restore it from a backup",
                )
        return make_index(releases, moves)

    def history(self, name: str) -> Sequence[Move]:
        """The moves of a model's aliases, oldest first."""
        return self._moves(self.store.find(f"models/{name}/history"))

    @property
    def identity(self) -> str | None:
        """What signatures name it by, made with its first signed release; None for one that was begun without."""
        return (
            self.store.read(IDENTITY, MAX_RECORD).decode("ascii", "replace").strip()
            if self.store.has(IDENTITY)
            else None
        )

    def publish(self, draft: Draft) -> Release:
        """Keep a draft's files, then its record under the next number, unless these bytes are there already."""
        if draft.signer is not None and not self.store.find("models"):
            self.store.create(IDENTITY, f"{uuid.uuid4().hex}\n".encode())
        for entry, data in zip(draft.entries.values(), draft.files.values(), strict=True):
            self._write_blob(entry.sha256, data)
        release = self._commit(draft)
        self._write_index()
        return release

    def move(self, name: str, decide: Decide) -> Move | None:
        """Create the next record of a model's history."""
        move = self._append(name, decide)
        self._write_index()
        return move

    def read(self, release: Release, file: str) -> bytes:
        """The bytes of one file of a release."""
        return self.store.read(Index({}).location(release, file), release.files[file].size)

    def pinned_key(self) -> bytes | None:
        """The content of signer.pem."""
        return self.store.read(PINNED_KEY, MAX_RECORD) if self.store.has(PINNED_KEY) else None

    def written_index(self) -> Index | None:
        """What index.json says, which is what consumers read; None if it is not there."""
        if not self.store.has(INDEX):
            return None
        return Index.parse(self.store.read(INDEX, MAX_FILE), f"{self.url}/{INDEX}")

    def _commit(self, draft: Draft) -> Release:
        while True:
            own = self._releases(self.store.find(f"models/{draft.name}/versions"))
            if existing := draft.find_in(own, self.identity):
                return existing
            release = draft.to_release(max((release.version for release in own), default=0) + 1, self.identity)
            if self.store.create(_path(release.name, "versions", release.version), _text(release.to_json())):
                return release

    def _append(self, name: str, decide: Decide) -> Move | None:
        while True:
            history = self.history(name)
            move = decide(history)
            if move is None:
                return None
            path, text = _path(name, "history", len(history) + 1), _text(move.to_json())
            # a file system may try again by itself when an answer was lost, and find what it has just created
            if self.store.create(path, text) or self.store.read(path, MAX_RECORD) == text:
                return move

    def _write_blob(self, sha256: str, data: bytes) -> None:
        path = f"blobs/{sha256[:2]}/{sha256}"
        if self.store.create(path, data):
            return
        if hashlib.sha256(self.store.read(path, MAX_FILE)).hexdigest() != sha256:
            self.store.put(path, data)  # damaged since it was published: these are the right bytes

    def _write_index(self) -> None:
        """Write index.json until it says what is listed after it was written: of racing writers, the last is right."""
        while True:
            index = self._index_to_write()
            self.store.put(INDEX, json.dumps(index.to_json(), ensure_ascii=False).encode())
            if self._index_to_write() == index:
                return

    def _index_to_write(self) -> Index:
        """All models that are sound, and of the others what consumers were told last: none is taken from them."""
        sound, blocked = self._models()
        models = {name: entry for one in sound for name, entry in one.models.items()}
        written = self.written_index() if blocked else None
        kept = {name: written.models[name] for name in blocked if written and name in written.models}
        return Index(dict(sorted((models | kept).items())))

    def _releases(self, paths: Sequence[str]) -> list[Release]:
        records = self._records(paths, "versions")
        releases = self._parsed([path for path, _, _ in records], Release.parse)
        for (path, name, number), release in zip(records, releases, strict=True):
            if (release.name, release.version) != (name, number):
                raise RegistryError(f"{self.url}/{path}: the release calls itself {release}")
        return releases

    def _moves(self, paths: Sequence[str]) -> list[Move]:
        records = self._records(paths, "history")
        moves = self._parsed([path for path, _, _ in records], Move.parse)
        known: Counter[str] = Counter()
        for (path, name, number), move in zip(records, moves, strict=True):
            known[name] += 1
            if move.name != name:
                raise RegistryError(f"{self.url}/{path}: the move calls its model {move.name}")
            if number != known[name]:
                hint = "it was deleted or lost: restore it from a backup"
                raise RegistryError(f"{self.url}: the history of {name} has no record {known[name]}", hint=hint)
        return moves

    def _records(self, paths: Sequence[str], kind: str) -> list[tuple[str, str, int]]:
        """Path, model and number of the records of one kind, by model and number."""
        records = []
        for path in paths:
            if path.rpartition("/")[2].lower() in LITTER:
                continue
            if not (parts := RECORD.fullmatch(path)):
                hint = "only the factory may write below models/: move it elsewhere"
                raise RegistryError(f"{self.url}: {path!a} is no record of a registry", hint=hint)
            if parts[2] == kind:
                records.append((path, parts[1], int(parts[3])))
        return sorted(records, key=lambda record: record[1:])

    def _parsed(self, paths: Sequence[str], parse: Callable[[Any, str], Record]) -> list[Record]:
        self._fetch(paths)
        for path in paths:
            if isinstance(data := self._cached[path], bytes):
                where = f"{self.url}/{path}"
                self._cached[path] = parse(loads(data, where), where)
        return [self._cached[path] for path in paths]

    def _fetch(self, paths: Iterable[str]) -> None:
        """Read the bytes of records that are not known yet."""
        if new := [path for path in paths if path not in self._cached]:
            self._cached.update(zip(new, self.store.read_all(new, MAX_RECORD), strict=True))


def _path(name: str, kind: str, number: int) -> str:
    return f"models/{name}/{kind}/{number:06d}.json"


def _text(tree: dict[str, Any]) -> bytes:
    return (json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode()
