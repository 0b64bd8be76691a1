"""Files of a registry behind a URL of fsspec: S3, Google Cloud Storage, Azure, SFTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from clip_factory.errors import RegistryError
from clip_factory.runtime.releases import transport

CONDITIONAL = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"}
"""Where fsspec's `mode="create"` is one conditional request, not a look followed by a write."""
RENAMING = {"sftp", "ssh"}
"""Where a rename never replaces a file (draft-ietf-secsh-filexfer-02, section 6.5)."""
PROBE = "exclusive"
PACKAGES = {
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
}
"""Where the extra `registry` does not bring what a scheme needs."""


@dataclass(frozen=True)
class FsspecStore:
    """A place in a file system of fsspec."""

    url: str
    _fs: Any = field(repr=False)
    _root: str = field(repr=False)
    _checked: list[bool] = field(default_factory=list, repr=False)

    @classmethod
    def open(cls, url: str) -> FsspecStore:
        """The store behind a URL.

        Raises:
            RegistryError: fsspec or what it needs for this scheme is missing, or it cannot create exclusively.
        """
        scheme = url.partition("://")[0]
        if scheme not in CONDITIONAL | RENAMING:
            raise RegistryError(
                f"{url}: {scheme}:// cannot create a file only if there is none, so a version could be lost",
                hint=f"use a folder, or one of {', '.join(sorted((CONDITIONAL | RENAMING) - {'memory'}))}",
            )
        try:
            from fsspec.core import url_to_fs

            options = transport.options_for(scheme)
            system, root = url_to_fs(url, **options)
        except ImportError as error:
            needed = " ".join(["'clip-factory[registry]'", *filter(None, [PACKAGES.get(scheme)])])
            raise RegistryError(f"{url}: {error}", hint=f"pip install {needed}") from None
        except Exception as error:  # each file system has its own
            raise RegistryError(f"{url}: cannot be reached ({type(error).__name__}: {error})") from None
        return cls(url, system, root.rstrip("/"))

    def find(self, folder: str) -> list[str]:
        """The paths of all files below a folder, sorted."""
        with self._errors(folder):
            self._fs.invalidate_cache()
            try:
                entries = self._fs.find(self._at(folder), detail=True)
            except FileNotFoundError:
                return []
        below = len(self._at("").lstrip("/"))
        # s3fs looks again at what it found empty, and names the folder itself if a file has come in between
        paths = [path.lstrip("/")[below:] for path, about in entries.items() if about["type"] == "file"]
        return sorted(path for path in paths if not path.rpartition("/")[2].startswith("."))

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        with self._errors(path):
            self._fs.invalidate_cache()
            return bool(self._fs.isfile(self._at(path)))

    def read(self, path: str, limit: int) -> bytes:
        """The bytes of a file."""
        return self.read_all([path], limit)[0]

    def read_all(self, paths: Sequence[str], limit: int) -> list[bytes]:
        """The bytes of many files, asked for all at once: one after the other, hundreds would take a minute."""
        if not paths:
            return []
        with self._errors(paths[0]):
            contents = self._fs.cat_ranges([self._at(path) for path in paths], 0, limit + 1, on_error="return")
        for path, data in zip(paths, contents, strict=True):
            with self._errors(path):
                if isinstance(data, Exception):
                    raise data
            if len(data) > limit:
                raise RegistryError(f"{self.url}/{path}: larger than {limit:,} bytes")
        return list(contents)

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one."""
        self._check_exclusive()
        return self._create(path, data)

    def put(self, path: str, data: bytes) -> None:
        """Write a file in the place of an earlier one."""
        with self._errors(path):
            if not self._renames:
                self._fs.pipe_file(self._at(path), data)
                return
            with self._temporary(path, data) as temporary:
                self._fs.ftp.posix_rename(temporary, self._at(path))

    def _create(self, path: str, data: bytes) -> bool:
        with self._errors(path):
            try:
                if not self._renames:
                    self._fs.pipe_file(self._at(path), data, mode="create")
                    return True
                with self._temporary(path, data) as temporary:
                    self._fs.ftp.rename(temporary, self._at(path))
                return True
            except FileExistsError:
                return False
            except OSError:  # SFTP says no more than `Failure`; S3 answers 409 where two write at the very same time
                if self.has(path):
                    return False
                raise

    def _check_exclusive(self) -> None:
        """Refuse a server that ignores the condition, as some that speak S3 do: it writes a file that is there."""
        if self._checked:
            return
        if self._create(PROBE, b"") and self._create(PROBE, b""):
            raise RegistryError(
                f"{self.url}: the server overwrites what it was asked only to create, so a version could be lost",
                hint="use a newer server (S3: one that knows If-None-Match), or a folder",
            )
        self._checked.append(True)

    @property
    def _renames(self) -> bool:
        return self.url.partition("://")[0] in RENAMING

    @contextmanager
    def _temporary(self, path: str, data: bytes) -> Iterator[str]:
        folder = self._at(path).rpartition("/")[0]
        temporary = f"{folder}/.{uuid.uuid4().hex}.tmp"
        with suppress(OSError):  # somebody else was quicker; if it is not that, the next line says so
            self._fs.makedirs(folder, exist_ok=True)
        self._fs.pipe_file(temporary, data)
        try:
            yield temporary
        finally:
            with suppress(OSError):
                self._fs.rm_file(temporary)

    def _at(self, path: str) -> str:
        if ".." in path.split("/"):
            raise RegistryError(f"{path!a}: no path inside a registry")
        return f"{self._root}/{path}"

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        where = f"{self.url}/{path}"
        try:
            yield
        except RegistryError:
            raise
        except FileNotFoundError:
            raise RegistryError(f"{where}: no such file", hint="check the address of the registry") from None
        except PermissionError as error:
            raise RegistryError(f"{where}: not allowed ({error})", hint="check your rights") from None
        except Exception as error:  # each file system has its own
            raise transport.UnreachableError(f"{where}: cannot be reached ({type(error).__name__}: {error})") from None
