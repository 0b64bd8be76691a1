"""A registry that a web server shows: index.json and blobs, to read only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import Decide, Draft, Move
from clip_factory.runtime.releases import transport
from clip_factory.runtime.releases.fetch import MAX_INDEX
from clip_factory.runtime.releases.location import root_of
from clip_factory.runtime.releases.release_index import INDEX, Index
from clip_factory.runtime.releases.release_record import Release


@dataclass(frozen=True)
class WebRegistry:
    """The back-end for http(s)://, which is how most consumers see a registry."""

    url: str

    def index(self) -> Index:
        """What index.json says."""
        return Index.parse(transport.read(self._root, INDEX, MAX_INDEX), f"{self._root}/{INDEX}")

    def history(self, name: str) -> Sequence[Move]:
        """None: the index says where the aliases stand, not how they came there."""
        return ()

    def publish(self, draft: Draft) -> NoReturn:
        """Refused."""
        raise self._read_only()

    def move(self, name: str, decide: Decide) -> NoReturn:
        """Refused."""
        raise self._read_only()

    def read(self, release: Release, file: str) -> bytes:
        """The bytes of one file of a release."""
        return transport.read(self._root, Index({}, self._layout).location(release, file), release.files[file].size)

    def pinned_key(self) -> None:
        """None: it would come from the very server that is to be checked."""

    @cached_property
    def _layout(self) -> str:
        return self.index().layout

    @property
    def _root(self) -> str:
        return root_of(self.url)

    def _read_only(self) -> RegistryError:
        return RegistryError(f"{self.url}: the web is for reading", hint="write to the folder that the server shows")
