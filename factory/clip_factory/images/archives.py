"""Archives of photos, unpacked: nothing lands outside, nothing grows without bound, nothing is lost unseen."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import re
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from clip_factory.errors import ImagesError
from clip_factory.images.left_out import LeftOut
from clip_factory.runtime.photo_files import MAX_FILE_BYTES, why_not_by_name

UNPACKING = 2
"""Counts the ways in which archives were unpacked: what an earlier one left is not used."""

DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    EOFError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,
    NotImplementedError,
)
"""What the unpackers of the standard library raise on archives that are cut short, altered, or encrypted."""

MAX_MEMBERS = 2_000_000
MAX_GROWTH = 200
"""Times the archive's own bytes that its members may take: uncompressed photos, BMP or TIFF, come to a few dozen."""
FREE_GROWTH = 1_000_000_000
"""Bytes that they may take beside that."""
MAX_SECONDS = 6 * 3600.0
CHUNK = 1 << 20
MAX_NAME_BYTES = 240
"""Of one part of a path; file systems stop at 255."""

_UNPORTABLE = re.compile(r'[\x01-\x1f":*<>?|]')
"""What names of files may not hold on Windows, nor in artifacts of a workflow: unpacked as %3F and the like."""
_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass
class Budget:
    """What may still be written, and until when."""

    left: int
    """Bytes."""
    members: int = field(default_factory=lambda: MAX_MEMBERS)
    deadline: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)

    def member(self) -> None:
        """Count a member.

        Raises:
            ImagesError: There are too many, or the time is up.
        """
        self.members -= 1
        if self.members < 0:
            raise ImagesError(f"more than {MAX_MEMBERS:,} members", hint="unpack the archive yourself, name its folder")
        if time.monotonic() > self.deadline:
            raise ImagesError(f"took over {MAX_SECONDS:.0f} s", hint="unpack the archive yourself, name its folder")

    def copy(self, source: IO[bytes], target: Path) -> bool:
        """Write a new file, counting what is written; false, and no file, where it is over `MAX_FILE_BYTES`.

        Raises:
            ImagesError: The budget is used up.
        """
        written = 0
        with open(target, "xb") as copy:
            while written <= MAX_FILE_BYTES and (chunk := source.read(CHUNK)):
                written += len(chunk)
                self.left -= len(chunk)
                if self.left < 0:
                    raise ImagesError("it unpacks to more bytes than photos would", hint="is it a decompression bomb?")
                copy.write(chunk)
        if written > MAX_FILE_BYTES:
            target.unlink()
        return written <= MAX_FILE_BYTES


@dataclass(frozen=True)
class Member:
    """A member of an archive."""

    name: str
    open: Callable[[], IO[bytes]]
    reason: str | None = None
    """Why it holds no bytes of its own."""


def unpack(archive: Path, folder: Path) -> list[LeftOut]:
    """Unpack the photos of a zip or tar archive into a new folder.

    Two members of one name, or of names that one folder cannot hold beside each other, become two files.

    Returns:
        The members that were not unpacked.

    Raises:
        ImagesError: It is no archive, or over a limit.
        Exception: One of `DAMAGED`, or an OSError of the disk.
    """
    budget = Budget(FREE_GROWTH + MAX_GROWTH * archive.stat().st_size)
    taken: set[str] = set()
    left_out = []
    for member in _members(archive):
        budget.member()
        if reason := _unpack_member(member, folder, taken, budget):
            left_out.append(LeftOut(member.name.encode(errors="backslashreplace").decode(), reason))
    return left_out


def _unpack_member(member: Member, folder: Path, taken: set[str], budget: Budget) -> str | None:
    """Unpack a photo; the reason where it is not one, or may not be."""
    name = member.name.replace("\\", "/")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or _DRIVE.match(name):
        return "its path leads out of the archive"
    if reason := member.reason or next(filter(None, map(why_not_by_name, path.parts[:-1])), None):
        return reason
    if reason := why_not_by_name(path.name, file=True):
        return reason
    file = folder / _free(PurePosixPath(*map(_portable, path.parts)), taken)
    file.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source:
        return None if budget.copy(source, file) else f"over the limit of {MAX_FILE_BYTES:,} bytes"


def _portable(part: str) -> str:
    """A part of a path that every file system takes; long names are cut and told apart by a hash."""
    part = _UNPORTABLE.sub(lambda sign: f"%{ord(sign[0]):02X}", part)
    whole = os.fsencode(part)
    if len(whole) <= MAX_NAME_BYTES:
        return part
    suffix = PurePosixPath(part).suffix[:16]
    return os.fsdecode(whole[: MAX_NAME_BYTES - 40]) + hashlib.sha256(whole).hexdigest()[:16] + suffix


def _free(path: PurePosixPath, taken: set[str]) -> PurePosixPath:
    """The path, with a number where it is taken in any letter case: some file systems take `A.jpg` for `a.jpg`."""
    for number in range(2, MAX_MEMBERS):
        if str(path).casefold() not in taken:
            break
        stem = path.stem if number == 2 else path.stem.removesuffix(f"~{number - 1}")
        path = path.with_name(f"{stem}~{number}{path.suffix}")
    taken.add(str(path).casefold())
    return path


def _members(archive: Path) -> Iterator[Member]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for info in bundle.infolist():
                if not info.is_dir():
                    yield Member(info.filename, partial(bundle.open, info))
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as bundle:
            for member in bundle:
                if not member.isdir():
                    yield _tar_member(bundle, member)
            _check_end(bundle)
    else:
        raise ImagesError(f"{archive}: neither a folder nor a zip or tar archive")


def _tar_member(bundle: tarfile.TarFile, member: tarfile.TarInfo) -> Member:
    extract = partial(_extract, bundle, member)
    if member.issparse():
        return Member(member.name, extract, "a sparse file, whose size is not that of its bytes")
    if not member.isreg():
        return Member(member.name, extract, "a link" if member.issym() or member.islnk() else "a device or pipe")
    return Member(member.name, extract)


def _extract(bundle: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    opened = bundle.extractfile(member)
    if opened is None:
        raise tarfile.TarError(f"{member.name} has no content")
    return opened


def _check_end(bundle: tarfile.TarFile) -> None:
    # tarfile takes a damaged header, or the end of a file cut short between members, for the end of the archive:
    # the photos behind it would be missing without a word. POSIX (pax, ustar) ends an archive with blocks of zeros.
    bundle.fileobj.seek(bundle.offset)
    if bundle.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"it breaks off at byte {bundle.offset:,}")
