"""Releases on GitHub: the files are assets of a release NAME-v3, the books a branch `clip-factory` of two small files.

To publish: upload the files to a draft that nobody sees, publish it under a tag that nobody has, then enter it in the
books by a commit whose parent must still be the branch's head. From that commit on the version exists; a process killed
before it leaves at most a GitHub release that the books do not know, and a number that is not used. A move of an alias
is such a commit too. A copy of index.json is an asset of the release `registry-index`, for consumers that need neither
token nor API: https://github.com/OWNER/REPO/releases/download/registry-index is a registry that the runtime reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Decide, Draft, Move
from clip_factory.registry.backends import commit_files as ledger
from clip_factory.registry.backends.commit_files import HISTORY, MAX_BYTES, Ledger
from clip_factory.registry.backends.file_registry import MAX_RECORD, PINNED
from clip_factory.registry.backends.github_api import Posting, Repository
from clip_factory.runtime.releases.release_index import INDEX, Index, Release

INDEX_TAG = "registry-index"
INDEX_TEXT = "The registry's table of contents, for consumers. Written by clip-factory: do not edit."
LAYOUT = "../{name}-v{version}/{file}"
"""From the address of the `registry-index` release to the files of another."""


@dataclass(frozen=True)
class GitHubRegistry:
    """The registry in one repository: github://OWNER/REPO, with `?api=ADDRESS` for a GitHub Enterprise server."""

    url: str
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def index(self) -> Index:
        """All releases and where the aliases stand now."""
        return self._branch().load()[1].index()

    def history(self, name: str) -> Sequence[Move]:
        """All moves of a model's aliases, oldest first."""
        return self._branch().load()[1].history(name)

    def publish(self, draft: Draft) -> Release:
        """Keep a release; the module says in which order."""
        branch = self._branch()
        release = self._entered(branch, draft)
        self._show(branch)
        return release

    def _entered(self, branch: _Branch, draft: Draft) -> Release:
        posting, version = None, 0
        for _ in ledger.tries(self.url, self.sleep):
            head, books = branch.load()
            if (found := books.among(draft)) is not None:
                if posting is not None:  # somebody entered the same bytes while these were uploaded
                    branch.repository.discard(posting, f"{draft.name}-v{version}")
                return found
            posting = posting or _upload(branch.repository, draft)
            if version in (0, *(one.version for one in books.of(draft.name))):
                version = _claim(branch.repository, posting, draft.name, books.next_version(draft.name))
            release = draft.seal(version)
            if branch.save(books.with_release(release), head, f"{release}"):
                return release
        raise AssertionError("`tries` ends with an error")

    def move(self, name: str, decide: Decide) -> Move | None:
        """Append a move of an alias: one commit on the branch."""
        branch = self._branch()
        move = ledger.append(branch, name, decide, self.sleep)
        self._show(branch)
        return move

    def read(self, release: Release, file: str) -> bytes:
        """The bytes of one file of a release; at most as many as the release says."""
        repository = self._branch().repository
        assets = repository.assets(f"{release.name}-v{release.version}")
        if assets is None or file not in assets:
            hint = "somebody deleted it on GitHub: publish the run again"
            raise RegistryError(f"{self.url}: {release} has lost its file {file}", hint=hint)
        return repository.download(assets[file], release.files[file].size)

    def pinned_key(self) -> bytes | None:
        """The content of signer.pem on the branch."""
        repository = self._branch().repository
        head = repository.head()
        return None if head is None else repository.read(PINNED, head, MAX_RECORD)

    def _branch(self) -> _Branch:
        parts = urlsplit(self.url)
        api = parse_qs(parts.query).get("api", [None])[0]
        return _Branch(self.url, Repository.open(f"{parts.netloc}{parts.path}".rstrip("/"), api, self.sleep))

    def _show(self, branch: _Branch) -> None:
        """Bring the consumers' copy of the index up to date, also where others write at the same time."""
        for _ in ledger.tries(self.url, self.sleep):
            head, books = branch.load()
            data = books.files()[INDEX].encode()
            if head is None or (
                branch.repository.replace(INDEX_TAG, INDEX, data, INDEX_TEXT) and branch.repository.head() == head
            ):
                return


@dataclass(frozen=True)
class _Branch:
    """The books, on the branch that a commit moves on only from the head that was read."""

    where: str
    repository: Repository

    def load(self) -> tuple[str | None, Ledger]:
        head = self.repository.head()
        if head is None:
            return None, Ledger(layout=LAYOUT)
        index, history = (self.repository.read(path, head, MAX_BYTES) for path in (INDEX, HISTORY))
        return head, Ledger.parse(index, history, self.where, LAYOUT)

    def save(self, books: Ledger, head: str | None, message: str) -> bool:
        return self.repository.commit(books.files(), head, message)


def _upload(repository: Repository, draft: Draft) -> Posting:
    card = draft.files.get("card.md", b"").decode(errors="replace")
    text = card.split("---\n", 2)[-1].strip() or draft.question  # without the front matter
    posting = repository.draft(f"{draft.name}: {draft.question}"[:200], text)
    try:
        for file, data in draft.files.items():
            repository.upload(posting, file, data)
    except RegistryError:
        with suppress(RegistryError):
            repository.discard(posting)
        raise
    return posting


def _claim(repository: Repository, posting: Posting, name: str, version: int) -> int:
    """Publish a draft under the first tag from `version` on that no other release has."""
    while not repository.publish(posting, f"{name}-v{version}", f"{name} {version}"):
        version += 1
    return version
