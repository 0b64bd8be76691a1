"""The one atomic writer: a file or folder appears whole and under its name, or not at all.

Content goes to a temporary name beside the target, is flushed to the disk, and is renamed; then the folder is flushed
too, without which a power cut can take the new name back. A process that is killed leaves the earlier file as it was,
and at most a hidden file ending in `.tmp`. This module imports nothing else of the package.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What a file system without hard links answers."""

ABANDONED_SECONDS = 3600.0
"""A temporary file that was not written to for so long is of a process that is no more."""


@contextmanager
def atomic(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`, to be written by the caller; then put it in the place of `path`.

    Args:
        path: Its folder must exist; an earlier file is replaced, unless the block raises.
        sync: Flush file and folder to the disk. False is for caches whose readers notice what is not whole.

    Raises:
        OSError: Nothing was written, or it cannot be put in place; `path` is as it was.
    """
    with _temporary(path) as temporary:
        yield temporary
        if sync:
            _sync(temporary)
        os.replace(temporary, path)
    if sync:
        sync_folder(path.parent)


@contextmanager
def atomic_new(path: Path, *, sync: bool = True, need_links: bool = True) -> Iterator[Path]:
    """Like `atomic`, but never replace a file: of several writers at once, one succeeds.

    Args:
        path: Its folder must exist.
        sync: Flush file and folder to the disk.
        need_links: On a file system without hard links, which alone make this certain, raise; if False, look whether
            `path` is free and rename.

    Raises:
        FileExistsError: There is something at `path`.
        OSError: As of `atomic`; its `errno` is one of `NO_LINKS` where the file system has no hard links.
    """
    with _temporary(path) as temporary:
        yield temporary
        if sync:
            _sync(temporary)
        try:
            os.link(temporary, path)  # unlike a rename, it fails where there is a file
        except FileExistsError:
            raise
        except OSError:
            if need_links:
                raise
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            os.rename(temporary, path)
    if sync:
        sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside `path`, to be filled by the caller; then rename it to `path`.

    Its files are not flushed to the disk one by one.

    Args:
        path: Its parents are made.

    Raises:
        OSError: There is a file or a folder with content at `path`, or it cannot be written.
    """
    temporary = _name_beside(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a file, atomically."""
    with atomic(path, sync=sync) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 text, atomically; line ends stay as they are."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sweep(folder: Path) -> None:
    """Remove what killed writers have left in a folder: temporary files and folders that nothing has touched lately.

    A folder counts by what was written into it last; one that cannot be removed is left to the next sweep.
    """
    for left in folder.glob(".*.tmp") if folder.is_dir() else ():
        with suppress(OSError):
            touched = max(path.lstat().st_mtime for path in (left, *left.rglob("*")))
            if time.time() - touched < ABANDONED_SECONDS:
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()


def sync_folder(folder: Path) -> None:
    """Flush a folder's names to the disk, where the system allows it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folder, and one may have the right to write in a folder but not to list it
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # what some network file systems answer
            raise
    finally:
        os.close(descriptor)


def _sync(file: Path) -> None:
    # Windows flushes only what may be written; elsewhere a copy of a read-only photo is flushed as well.
    descriptor = os.open(file, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    temporary = _name_beside(path)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _name_beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:16]}.{uuid.uuid4().hex}.tmp")
