"""Releases on the Hugging Face Hub: one repository a model, one commit a release.

The commit brings the files of the release at the root (card.md as README.md, which the Hub shows with its evaluation
results) and by their hashes under blobs/, with the catalog that names them, index.json and history.json. It is made
only if nobody committed in between (`parent_commit`), so a version exists whole or not at all. Then it is tagged v3,
for people and other tools (`revision="v3"`). A move of an alias is a commit too. The runtime reads such a repository as
it is, if it is public: https://huggingface.co/OWNER/NAME/resolve/main is the address of a registry.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import MAX_RECORD, PINNED_KEY, Decide, Draft, Move
from clip_factory.registry.backends.catalog import HISTORY, MAX_BYTES, Catalog, append
from clip_factory.registry.backends.hub_client import Hub
from clip_factory.registry.backends.retries import until_committed
from clip_factory.runtime.releases.release_index import INDEX, Entry, Index
from clip_factory.runtime.releases.release_record import Release

README = "README.md"
SHOWN = {"card.md": README}
"""Files that have another name at the root of the repository."""
ADDRESS = re.compile(r"hf://([\w.-]+)(?:/([\w.-]+))?/?")


@dataclass(frozen=True)
class HubRegistry:
    """The models of one owner, hf://OWNER, or one of them, hf://OWNER/NAME. HF_ENDPOINT may name another Hub."""

    url: str
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        if not ADDRESS.fullmatch(self.url):
            raise RegistryError(f"{self.url}: no address of the Hub", hint="expected hf://OWNER or hf://OWNER/NAME")

    def index(self) -> Index:
        """All releases and where the aliases stand now.

        With hf://OWNER, of the repositories that the Hub lists under the tag `clip-factory`: a new one takes a while.
        """
        models: dict[str, Entry] = {}
        for slug in self._slugs():
            head, catalog = self._repo(slug).load()
            if head is None:
                hint = "check the name; if it is private, set HF_TOKEN to a token that may read it"
                raise RegistryError(f"hf://{slug}: no such repository, or it is hidden", hint=hint)
            models.update(catalog.index().models)
        return Index(models)

    def history(self, name: str) -> Sequence[Move]:
        """All moves of a model's aliases, oldest first."""
        return self._of(name).load()[1].history(name)

    def publish(self, draft: Draft) -> Release:
        """Keep a release: one commit, then its tag. A repository that must be made is private."""
        repo = self._of(draft.name)

        def attempt() -> Release:
            head, catalog = repo.load()
            _check_alone(repo.where, catalog, draft.name)
            existing = catalog.find(draft)
            if existing is not None:
                return existing
            if head is None:
                repo.hub.create(repo.slug)
                head, catalog = repo.load()
            release = draft.to_release(repo.free_version(catalog, draft.name))
            repo.save(catalog.with_release(release), head, _title(release), _files(draft, release))
            return release

        release = until_committed(repo.where, self.sleep, attempt)
        repo.tag(release)
        return release

    def move(self, name: str, decide: Decide) -> Move | None:
        """Append a move of an alias: one commit."""
        return append(self._of(name), name, decide, self.sleep)

    def read(self, release: Release, file: str) -> bytes:
        """The bytes of one file of a release; at most as many as the release says."""
        repo = self._of(release.name)
        entry = release.files[file]
        data = repo.hub.read(repo.slug, _blob(entry.sha256), "main", entry.size)
        if data is None:
            raise RegistryError(f"{repo.where}: {release} has lost its file {file}", hint="publish the run again")
        return data

    def pinned_key(self) -> bytes | None:
        """The content of signer.pem at the root of the repository; of all repositories of an owner, the same.

        Raises:
            RegistryError: The repositories of the owner do not agree.
        """
        hub, slugs = self._hub(), self._slugs()
        keys = {hub.read(slug, PINNED_KEY, "main", MAX_RECORD) for slug in slugs}
        if len(keys) > 1:
            hint = "name one of them: hf://OWNER/NAME"
            raise RegistryError(f"{self.url}: {', '.join(slugs)} ask for different signatures", hint=hint)
        return next(iter(keys), None)

    def _slugs(self) -> list[str]:
        owner, name = self._address()
        return [f"{owner}/{name}"] if name else self._hub().models(owner)

    def _address(self) -> tuple[str, str | None]:
        match = ADDRESS.fullmatch(self.url)
        assert match is not None  # noqa: S101 - checked when it was made
        return match[1], match[2]

    def _hub(self) -> Hub:
        return Hub(self.sleep)

    def _repo(self, slug: str) -> _Repo:
        return _Repo(f"hf://{slug}", slug, self._hub())

    def _of(self, name: str) -> _Repo:
        owner, repo = self._address()
        return self._repo(f"{owner}/{repo or name}")


@dataclass(frozen=True)
class _Repo:
    """One repository and the catalog in it."""

    where: str
    slug: str
    """OWNER/NAME."""
    hub: Hub

    def load(self) -> tuple[str | None, Catalog]:
        heads = self.hub.heads(self.slug)
        if heads is None:
            return None, Catalog()
        index, history = (self.hub.read(self.slug, path, heads[0], MAX_BYTES) for path in (INDEX, HISTORY))
        return heads[0], Catalog.parse(index, history, self.where)

    def save(self, catalog: Catalog, head: str | None, message: str, more: Mapping[str, bytes] | None = None) -> None:
        if head is None:
            raise RegistryError(f"{self.where}: no such repository", hint="publish a run first")
        files = {path: text.encode() for path, text in catalog.files().items()}
        self.hub.commit(self.slug, {**(more or {}), **files}, head, message)

    def free_version(self, catalog: Catalog, name: str) -> int:
        """A number that neither a release has nor a tag."""
        heads = self.hub.heads(self.slug)
        tagged = [int(tag[1:]) for tag in (heads[1] if heads else ()) if re.fullmatch(r"v[1-9][0-9]{0,8}", tag)]
        return max([catalog.next_version(name) - 1, *tagged]) + 1

    def tag(self, release: Release) -> None:
        """Tag the commit of a release, if it has no tag yet."""
        heads, tag = self.hub.heads(self.slug), f"v{release.version}"
        if heads is not None and tag not in heads[1] and (commit := self.hub.titled(self.slug, _title(release))):
            self.hub.tag(self.slug, tag, commit)


def _check_alone(where: str, catalog: Catalog, name: str) -> None:
    others = sorted({release.name for release in catalog.releases} - {name})
    if others:
        raise RegistryError(f"{where} keeps {', '.join(others)}, not {name}", hint="a repository holds one model")


def _title(release: Release) -> str:
    return f"Version {release.version} of {release.name}"


def _files(draft: Draft, release: Release) -> dict[str, bytes]:
    shown = {SHOWN.get(file, file): data for file, data in draft.files.items()}
    return shown | {_blob(release.files[file].sha256): data for file, data in draft.files.items()}


def _blob(sha256: str) -> str:
    return f"blobs/{sha256[:2]}/{sha256}"
