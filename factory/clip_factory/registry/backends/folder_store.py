"""Files of a registry in a folder: written under a temporary name, flushed to disk, and put in place by one call."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clip_factory.errors import RegistryError
from clip_factory.registry.backend import PINNED_KEY, RegistryNotFoundError
from clip_factory.runtime.atomic import NO_LINKS, atomic_new, write_bytes
from clip_factory.runtime.photo_files import LITTER
from clip_factory.runtime.releases import transport
from clip_factory.runtime.releases.release_index import INDEX

PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class FolderStore:
    """A folder that is shared by any number of processes, or of machines where the file system allows it."""

    root: Path

    @classmethod
    def open(cls, root: str) -> FolderStore:
        """The store in a folder, which need not be there yet.

        Raises:
            RegistryError: There is something else in its place.
        """
        if os.path.lexists(root) and not os.path.isdir(root):
            raise RegistryError(f"{root}: not a folder", hint="name the folder of the registry")
        return cls(Path(root))

    def find(self, folder: str) -> list[str]:
        """The paths of all files below a folder, sorted."""
        paths: list[str] = []
        for place, folders, files in os.walk(self._at(folder), onerror=_raise_read_error):
            folders.sort()  # a move is listed before the version that it names, though both may be new
            below = Path(place).relative_to(self.root).as_posix()
            for name in folders + files:
                if os.path.islink(os.path.join(place, name)):
                    raise _link_error(f"{place}/{name}")
            paths += [f"{below}/{name}" for name in files if not name.startswith(".")]
        return sorted(paths)

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return self._at(path).is_file()

    def read(self, path: str, limit: int) -> bytes:
        """The bytes of a file."""
        self._at(path)
        return transport.read(str(self.root), path, limit)

    def read_all(self, paths: Sequence[str], limit: int) -> list[bytes]:
        """The bytes of many files."""
        return [self.read(path, limit) for path in paths]

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one: a hard link to a finished temporary file, which fails where there is."""
        target = self._at(path)
        if target.exists():
            return False
        with _write_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with atomic_new(target) as temporary:
                    temporary.write_bytes(data)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                raise RegistryError(
                    f"{self.root}: this file system has no hard links, without which two publishers could overwrite"
                    " each other",
                    hint="keep the registry on another disk, or on S3 or the like",
                ) from None
        return True

    def put(self, path: str, data: bytes) -> None:
        """Write a file in the place of an earlier one."""
        target = self._at(path)
        with _write_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(target, data)

    def _at(self, path: str) -> Path:
        """The place of a file; no part of the way below the root may lead elsewhere."""
        place = self.root
        for part in path.split("/"):
            if not PART.fullmatch(part):
                raise RegistryError(f"{path!a}: no path inside a registry", hint="names are small letters and digits")
            place = place / part
            if place.is_symlink():
                raise _link_error(place)
        return place


def check_registry_folder(root: str) -> None:
    """Check that a folder holds a registry, or nothing yet.

    Raises:
        RegistryNotFoundError: There is no such folder.
        RegistryError: It holds other things alone.
    """
    hint = "check --registry; factory publish makes one"
    if not os.path.isdir(root):
        raise RegistryNotFoundError(f"{root}: there is no such folder", hint=hint)
    names = {name for name in os.listdir(root) if not name.startswith(".") and name.lower() not in LITTER}
    if names and not names & {INDEX, PINNED_KEY, "blobs", "models"}:  # blobs alone: a publisher was killed
        raise RegistryError(f"{root}: this folder holds other things, and no registry", hint=hint)


def _link_error(place: Path | str) -> RegistryError:
    hint = "put the file itself there; the registry's own folder may be a link, nothing in it"
    return RegistryError(f"{place}: a symbolic link in a registry could lead out of it", hint=hint)


@contextmanager
def _write_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "check its rights and the space left"
        raise RegistryError(f"{target}: cannot be written ({error.strerror})", hint=hint) from None


def _raise_read_error(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise RegistryError(f"{error.filename}: cannot be read ({error.strerror})", hint="check its rights") from None
