"""Releases on GitHub: the files are assets of a release NAME-v3, the catalog two small files on a branch.

To publish: upload the files to a draft that nobody sees, publish it under a tag that nobody has, then add it to the
catalog by a commit whose parent must still be the head of the branch `clip-factory`. From that commit on the version
exists; a process killed before it leaves at most a GitHub release that the catalog does not know, and a number that is
not used. A move of an alias is such a commit too. A copy of index.json is an asset of the release `registry-index`, for
consumers that need neither token nor API: https://github.com/OWNER/REPO/releases/download/registry-index is a registry
that the runtime reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import MAX_RECORD, PINNED_KEY, Decide, Draft, Move
from clip_factory.registry.backends.catalog import HISTORY, MAX_BYTES, Catalog, append
from clip_factory.registry.backends.github_client import GitHubRelease, Repository
from clip_factory.registry.backends.retries import ConflictError, until_committed
from clip_factory.runtime.releases.release_index import INDEX, Index
from clip_factory.runtime.releases.release_record import Release

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
        release = self._publish(branch, draft)
        self._update_copy(branch)
        return release

    def _publish(self, branch: _Branch, draft: Draft) -> Release:
        uploaded: GitHubRelease | None = None
        version = 0

        def attempt() -> Release:
            nonlocal uploaded, version
            head, catalog = branch.load()
            if (existing := catalog.find(draft)) is not None:
                if uploaded is not None:  # somebody published the same bytes while these were uploaded
                    branch.repository.delete_release(uploaded, f"{draft.name}-v{version}")
                return existing
            uploaded = uploaded or _upload(branch.repository, draft)
            if version in (0, *(one.version for one in catalog.versions(draft.name))):
                version = _publish_tag(branch.repository, uploaded, draft.name, catalog.next_version(draft.name))
            release = draft.to_release(version)
            branch.save(catalog.with_release(release), head, f"{release}")
            return release

        return until_committed(self.url, self.sleep, attempt)

    def move(self, name: str, decide: Decide) -> Move | None:
        """Append a move of an alias: one commit on the branch."""
        branch = self._branch()
        move = append(branch, name, decide, self.sleep)
        self._update_copy(branch)
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
        return None if head is None else repository.read(PINNED_KEY, head, MAX_RECORD)

    def _branch(self) -> _Branch:
        parts = urlsplit(self.url)
        api = parse_qs(parts.query).get("api", [None])[0]
        return _Branch(self.url, Repository.open(f"{parts.netloc}{parts.path}".rstrip("/"), api, self.sleep))

    def _update_copy(self, branch: _Branch) -> None:
        """Bring the consumers' copy of the index up to date, also where others write at the same time."""

        def attempt() -> None:
            head, catalog = branch.load()
            if head is None:
                return
            branch.repository.replace_asset(INDEX_TAG, INDEX, catalog.files()[INDEX].encode(), INDEX_TEXT)
            if branch.repository.head() != head:
                raise ConflictError

        until_committed(self.url, self.sleep, attempt)


@dataclass(frozen=True)
class _Branch:
    """The catalog, on a branch that a commit moves on only from the head that was read."""

    where: str
    repository: Repository

    def load(self) -> tuple[str | None, Catalog]:
        head = self.repository.head()
        if head is None:
            return None, Catalog(layout=LAYOUT)
        index, history = (self.repository.read(path, head, MAX_BYTES) for path in (INDEX, HISTORY))
        return head, Catalog.parse(index, history, self.where, LAYOUT)

    def save(self, catalog: Catalog, head: str | None, message: str) -> None:
        self.repository.commit(catalog.files(), head, message)


def _upload(repository: Repository, draft: Draft) -> GitHubRelease:
    card = draft.files.get("card.md", b"").decode(errors="replace")
    text = card.split("---\n", 2)[-1].strip() or draft.question  # without the front matter
    release = repository.create_draft(f"{draft.name}: {draft.question}"[:200], text)
    try:
        for file, data in draft.files.items():
            repository.upload(release, file, data)
    except RegistryError:
        with suppress(RegistryError):
            repository.delete_release(release)
        raise
    return release


def _publish_tag(repository: Repository, release: GitHubRelease, name: str, version: int) -> int:
    """Publish a draft under the first tag from `version` on that no other release has."""
    while not repository.publish(release, f"{name}-v{version}", f"{name} {version}"):
        version += 1
    return version
