"""One photo as the stages hand it on, and the only way in which they read it: the very bytes that were scanned."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from clip_factory.errors import ImageError, ImagesError
from clip_factory.run_folder import sha256_file
from clip_factory.runtime.photo_files import read_file
from clip_factory.runtime.preprocessing import load_square, read_rgb
from clip_factory.runtime.processors import usable_cpus
from clip_factory.runtime.region import Region

MEMORY_BYTES = 2_000_000_000
"""Decoded photos beyond this live in a memory-mapped file instead of memory."""
CHANGED = "run the same command again: the folder is looked through anew"


class Photo(NamedTuple):
    """A photo that was scanned."""

    sha256: str
    """Hex, of the file's bytes."""
    path: Path
    region: Region | None = None
    """The part of it that is looked at; None: the whole."""

    @classmethod
    def of(cls, path: Path) -> Photo:
        """A file as it is now."""
        return cls(sha256_file(path), path)


def read_photo(photo: Photo) -> bytes:
    """The bytes of the file, if they are those that were scanned.

    Raises:
        ImagesError: The file has changed since, is gone, or cannot be read; the message names it.
    """
    try:
        data = read_file(photo.path)
    except ImageError as error:
        raise ImagesError(f"{error.what}: it was there when the photos were scanned", hint=CHANGED) from None
    if hashlib.sha256(data).hexdigest() != photo.sha256:
        raise ImagesError(f"{photo.path}: it has changed since it was scanned", hint=CHANGED)
    return data


def read_photo_rgb(photo: Photo, *, min_side: int | None = None) -> Image.Image:
    """The photo's region, decoded by `read_rgb`.

    Raises:
        ImagesError: As of `read_photo`, or it cannot be decoded.
    """
    data = read_photo(photo)
    try:
        return read_rgb(data, min_side=min_side, region=photo.region)
    except ImageError as error:
        raise _undecodable(photo, error) from None


def read_squares(photos: Sequence[Photo], size: int, scratch: Path | None = None) -> np.ndarray:
    """Decode photos once, through the preprocessing that the student's file is run with.

    Args:
        photos: N photos.
        size: Side S in pixels.
        scratch: Where a memory-mapped file may be made when the result exceeds `MEMORY_BYTES`.

    Returns:
        uint8 `(N, S, S, 3)`.

    Raises:
        ImagesError: A photo has changed since it was scanned, or cannot be read.
    """
    shape = (len(photos), size, size, 3)
    if scratch is not None and int(np.prod(shape)) > MEMORY_BYTES:
        scratch.parent.mkdir(exist_ok=True)
        images: np.ndarray = np.lib.format.open_memmap(scratch, "w+", np.uint8, shape)
    else:
        images = np.empty(shape, np.uint8)

    def read(index: int) -> None:
        try:
            images[index] = load_square(read_photo(photos[index]), size, photos[index].region)
        except ImageError as error:
            raise _undecodable(photos[index], error) from None

    with ThreadPoolExecutor(usable_cpus()) as pool:
        for _ in pool.map(read, range(len(photos))):
            pass
    return images


def _undecodable(photo: Photo, error: ImageError) -> ImagesError:
    reason = error.what.partition(": ")[2]  # what was read were bytes: it names no file
    return ImagesError(f"{photo.path}: {reason}: it could be read when it was scanned", hint=CHANGED)
