"""Where photos come from: a folder, an archive that is unpacked once, a URL that is downloaded once and checked."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import fsspec

from clip_factory import scenario
from clip_factory.errors import ImagesError
from clip_factory.run_folder import sha256_file
from clip_factory.runtime.atomic import atomic, atomic_folder
from clip_factory.runtime.preprocessing import EXTENSIONS

DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    EOFError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,
)
"""What the unpackers of the standard library raise on archives that are cut short, altered, or encrypted."""

MAX_FILE_BYTES = 1_000_000_000
"""Members of an archive that claim more are skipped: no photo is so large."""
_UNPORTABLE = re.compile(r'[\x01-\x1f"*<>?|]')
"""What names of files may not hold on Windows, nor in artifacts of a workflow: unpacked as %3F and the like."""


def locate(source: scenario.Images, store: Path) -> Path:
    """The folder that holds the images; archives and URLs are unpacked below `store`, once for each content.

    Raises:
        ImagesError: Nothing is named, nothing is there, or the bytes differ from the sha256 given.
    """
    if source.url is not None:
        return _unpacked(_downloaded(source.url, source.sha256 or "", store), store)
    if source.path is None:
        raise ImagesError("the scenario names no images", hint="add `images: {path: photos/}` or pass --images DIR")
    path = Path(source.path)
    if path.is_dir():
        return path
    if path.is_file():
        return _unpacked(path, store)
    raise ImagesError(f"{path}: no such folder or archive", hint="check `images.path`, or pass --images DIR")


def _downloaded(url: str, sha256: str, store: Path) -> Path:
    target = store / "downloads" / sha256
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic(target) as temporary:
            with fsspec.open(url, "rb") as remote, open(temporary, "wb") as local:
                shutil.copyfileobj(remote, local, 1 << 20)
            digest = sha256_file(temporary)
            if digest != sha256:
                raise ImagesError(f"{url}: sha256 is {digest}, not {sha256}", hint="the file has changed: check it")
    except ImagesError:
        raise
    except Exception as error:  # each file system behind fsspec has its own
        raise ImagesError(f"{url}: cannot be fetched ({error or type(error).__name__})") from None
    return target


def _unpacked(archive: Path, store: Path) -> Path:
    """Unpack the images of a zip or tar once; nothing can land outside the new folder."""
    target = store / "archives" / sha256_file(archive)
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_folder(target) as temporary:
            _unpack(archive, temporary)
    except DAMAGED as error:
        raise ImagesError(f"{archive}: damaged or encrypted archive ({error})") from None
    except OSError as error:
        if not target.is_dir():  # else another process was quicker, with the same content
            raise ImagesError(f"{archive}: cannot be unpacked ({error})", hint=f"is there room in {store}?") from None
    return target


def _unpack(archive: Path, folder: Path) -> None:
    for name, size, open_member in _members(archive):
        relative = PurePosixPath(_UNPORTABLE.sub(_escaped, name.replace("\\", "/")))
        inside = not relative.is_absolute() and ".." not in relative.parts and ":" not in name
        if inside and relative.suffix.lower() in EXTENSIONS and size <= MAX_FILE_BYTES:
            file = folder / relative
            file.parent.mkdir(parents=True, exist_ok=True)
            with open_member() as source, open(file, "wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)


def _escaped(sign: re.Match[str]) -> str:
    return f"%{ord(sign[0]):02X}"


def _members(archive: Path) -> Iterator[tuple[str, int, Callable[[], IO[bytes]]]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for info in bundle.infolist():
                if not info.is_dir():
                    yield info.filename, info.file_size, partial(bundle.open, info)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as bundle:
            for member in bundle:
                if member.isreg():
                    yield member.name, member.size, partial(_extract, bundle, member)
            _check_end(bundle)
    else:
        raise ImagesError(f"{archive}: neither a folder nor a zip or tar archive")


def _check_end(bundle: tarfile.TarFile) -> None:
    # tarfile takes a damaged header, or the end of a file cut short between members, for the end of the archive:
    # the photos behind it would be missing without a word. POSIX (pax, ustar) ends an archive with blocks of zeros.
    bundle.fileobj.seek(bundle.offset)
    if bundle.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"it breaks off at byte {bundle.offset:,}")


def _extract(bundle: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    opened = bundle.extractfile(member)
    if opened is None:
        raise tarfile.TarError(f"{member.name} has no content")
    return opened
