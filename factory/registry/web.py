"""A registry that a web server shows: index.json and blobs, to read only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from factory.errors import RegistryError
from factory.registry.backend import Decide, Draft, Move
from factory.runtime import transport
from factory.runtime.address import root_of
from factory.runtime.fetch import MAX_INDEX
from factory.runtime.index import INDEX, Index, Release


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
