"""Photos by the names that tables give them: other slashes, letter cases, Unicode forms, longer or shorter paths."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from pathlib import PurePosixPath


class PhotoNames:
    """Finds a photo by what a table calls it.

    A path that is exactly one of the folder's is that photo. Else letter case and Unicode form (a file system may
    write é in two ways, Unicode TR 15) are put aside; then leading folders, first of the name (`/home/me/a/b.jpg` for
    `a/b.jpg`), then of the photos (`b.jpg` for `a/b.jpg`). The first way that leads anywhere counts.
    """

    def __init__(self, sha256_by_path: Mapping[str, str]) -> None:
        """The photos' sha256 by their paths below the root of the images."""
        self._exact = sha256_by_path

    def is_exact(self, name: str) -> bool:
        """Whether the folder has a photo of this very path, letter case and slashes aside."""
        return name in self._exact or _folded(_posix(name)) in self._folded_paths

    def find(self, name: str) -> set[str]:
        """The sha256 of the photos that a name may mean: none, one, or several that it does not tell apart."""
        for path in (name, _posix(name)):  # a backslash may be part of a name, or an escape in it
            if path in self._exact:
                return {self._exact[path]}
        parts = _folded(_posix(name)).split("/")
        for first in range(len(parts)):
            if alike := self._folded_paths.get("/".join(parts[first:])):
                return alike
        return self._endings.get("/".join(parts).lstrip("/"), set())

    @cached_property
    def _folded_paths(self) -> dict[str, set[str]]:
        folded: dict[str, set[str]] = defaultdict(set)
        for path, sha256 in self._exact.items():
            folded[_folded(path)].add(sha256)
        return dict(folded)

    @cached_property
    def _endings(self) -> dict[str, set[str]]:
        """Every ending of a path that begins with a whole part of it."""
        endings: dict[str, set[str]] = defaultdict(set)
        for path, sha256s in self._folded_paths.items():
            parts = path.split("/")
            for first in range(1, len(parts)):
                endings["/".join(parts[first:])] |= sha256s
        return dict(endings)


def _posix(name: str) -> str:
    return PurePosixPath(name.strip().replace("\\", "/")).as_posix()


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
