"""A registry that is nothing but files: in a folder, or in any file system of fsspec that can create exclusively.

    models/NAME/versions/000003.json    one release; creating it is the commit
    models/NAME/history/000007.json     one move of an alias; the aliases are the replay of the moves
    blobs/ab/ab12...                    the content of the releases' files, by its sha256
    index.json                          what consumers read: derived from the above, never the truth
    signer.pem                          optional: the public key that every release must be signed with

Blobs are written first and the record last, and a record is created only if nobody else has created it: so publishers
race without a lock, and one that is killed leaves the registry as it was before or as it is after.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Decide, Draft, Move, make_index
from clip_factory.runtime.releases.json_fields import loads
from clip_factory.runtime.releases.release_index import INDEX, MAX_FILE, SLUG, Index, Release

PINNED = "signer.pem"
RECORD = re.compile(rf"models/({SLUG.pattern})/(versions|history)/(\d{{6,9}})\.json")
MAX_RECORD = 1_000_000
"""Bytes of one record or key."""

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
class FilesRegistry:
    """The back-end for folders and for fsspec; see `clip_factory.registry.backend.Registry`."""

    url: str
    store: Store
    _seen: dict[str, Any] = field(default_factory=dict, repr=False)
    """Records that were read, by path: they never change."""

    def index(self) -> Index:
        """All releases, and the aliases as the replay of the moves."""
        paths = self.store.find("models")  # sorted: of a model, the moves come before the versions that they name
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

    def publish(self, draft: Draft) -> Release:
        """Keep a draft's files, then its record under the next number, unless these bytes are there already."""
        for entry, data in zip(draft.entries.values(), draft.files.values(), strict=True):
            self._keep(entry.sha256, data)
        release = self._commit(draft)
        self._refresh()
        return release

    def move(self, name: str, decide: Decide) -> Move | None:
        """Create the next record of a model's history."""
        move = self._append(name, decide)
        self._refresh()
        return move

    def read(self, release: Release, file: str) -> bytes:
        """The bytes of one file of a release."""
        return self.store.read(Index({}).location(release, file), release.files[file].size)

    def pinned_key(self) -> bytes | None:
        """The content of signer.pem."""
        return self.store.read(PINNED, MAX_RECORD) if self.store.has(PINNED) else None

    def written_index(self) -> Index:
        """What index.json says, which is what consumers go by."""
        return Index.parse(self.store.read(INDEX, MAX_FILE), f"{self.url}/{INDEX}")

    def _commit(self, draft: Draft) -> Release:
        while True:
            own = self._releases(self.store.find(f"models/{draft.name}/versions"))
            if found := draft.among(own):
                return found
            release = draft.seal(max((one.version for one in own), default=0) + 1)
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

    def _keep(self, sha256: str, data: bytes) -> None:
        path = f"blobs/{sha256[:2]}/{sha256}"
        if self.store.create(path, data):
            return
        if hashlib.sha256(self.store.read(path, MAX_FILE)).hexdigest() != sha256:
            self.store.put(path, data)  # damaged since it was published: these are the right bytes

    def _refresh(self) -> None:
        """Write index.json until it says what is listed after it was written: of racing writers, the last is right."""
        while True:
            index = self.index()
            self.store.put(INDEX, json.dumps(index.to_json(), ensure_ascii=False).encode())
            if self.index() == index:
                return

    def _releases(self, paths: Sequence[str]) -> list[Release]:
        records = self._records(paths, "versions")
        found = self._parsed([path for path, _, _ in records], Release.parse)
        for (path, name, number), release in zip(records, found, strict=True):
            if (release.name, release.version) != (name, number):
                raise RegistryError(f"{self.url}/{path}: the release calls itself {release}")
        return found

    def _moves(self, paths: Sequence[str]) -> list[Move]:
        records = self._records(paths, "history")
        found = self._parsed([path for path, _, _ in records], Move.parse)
        known: Counter[str] = Counter()
        for (path, name, number), move in zip(records, found, strict=True):
            known[name] += 1
            if move.name != name:
                raise RegistryError(f"{self.url}/{path}: the move calls its model {move.name}")
            if number != known[name]:
                hint = "it was deleted or lost: restore it from a backup"
                raise RegistryError(f"{self.url}: the history of {name} has no record {known[name]}", hint=hint)
        return found

    def _records(self, paths: Sequence[str], kind: str) -> list[tuple[str, str, int]]:
        """Path, model and number of the records of one kind, by model and number."""
        found = []
        for path in paths:
            if not (parts := RECORD.fullmatch(path)):
                hint = "only the factory may write below models/: move it elsewhere"
                raise RegistryError(f"{self.url}: {path!a} is no record of a registry", hint=hint)
            if parts[2] == kind:
                found.append((path, parts[1], int(parts[3])))
        return sorted(found, key=lambda one: one[1:])

    def _parsed(self, paths: Sequence[str], parse: Callable[[Any, str], Record]) -> list[Record]:
        new = [path for path in paths if path not in self._seen]
        for path, data in zip(new, self.store.read_all(new, MAX_RECORD), strict=True):
            where = f"{self.url}/{path}"
            self._seen[path] = parse(loads(data, where), where)
        return [self._seen[path] for path in paths]


def open_files(address: str) -> FilesRegistry:
    """The registry in a folder, or behind a URL of fsspec.

    Raises:
        RegistryError: The address is wrong, fsspec is missing or lacks the scheme, or what is behind it cannot create
            a file exclusively.
    """
    from clip_factory.registry.backends.folder import FolderStore
    from clip_factory.registry.backends.fsspec_files import RemoteStore
    from clip_factory.runtime.releases.location import root_of

    root = root_of(address)
    return FilesRegistry(root, RemoteStore.open(root) if "://" in root else FolderStore.open(root))


def _path(name: str, kind: str, number: int) -> str:
    return f"models/{name}/{kind}/{number:06d}.json"


def _text(tree: dict[str, Any]) -> bytes:
    return (json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode()
