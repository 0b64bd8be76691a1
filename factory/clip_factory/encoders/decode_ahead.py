"""Photos decoded by threads ahead of whoever uses them, in order and in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Condition

from PIL import Image

from clip_factory.errors import ImageError, ImagesError
from clip_factory.runtime.preprocessing import read_rgb

MAX_WAITING_BYTES = 512_000_000
"""Decoded photos that wait take no more than this, and one photo a thread."""


def decode_ahead(paths: Sequence[Path], side: int, ahead: int) -> Generator[Image.Image]:
    """The photos in order, while threads decode those that come after.

    Args:
        paths: N image files.
        side: Pixels that the reader of the photos needs of each side; see `read_rgb`.
        ahead: How many photos may wait.

    Yields:
        N upright RGB images.

    Raises:
        ImagesError: A file has changed or vanished since it was scanned.
    """
    waiting, pool = _Waiting(), ThreadPoolExecutor(os.cpu_count())
    queue: deque[Future[Image.Image]] = deque()
    try:
        for i in range(len(paths) + ahead):
            if i < len(paths):
                queue.append(pool.submit(_decode, paths[i], side, i, waiting))
            if i >= ahead:
                image = queue.popleft().result()
                waiting.remove(image)
                yield image
    finally:
        waiting.stop()
        pool.shutdown(cancel_futures=True)


class _Waiting:
    """The bytes of decoded photos that wait. A thread starts on a photo when there is room, or when it is the next."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.bytes, self.next, self.stopped = 0, 0, False

    def wait_for_room(self, index: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.stopped or self.bytes < MAX_WAITING_BYTES or index <= self.next)

    def add(self, image: Image.Image) -> None:
        with self.changed:
            self.bytes += _bytes(image)

    def remove(self, image: Image.Image) -> None:
        with self.changed:
            self.bytes, self.next = self.bytes - _bytes(image), self.next + 1
            self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()


def _decode(path: Path, side: int, index: int, waiting: _Waiting) -> Image.Image:
    waiting.wait_for_room(index)
    try:
        image = read_rgb(path, min_side=side)
    except ImageError as error:
        raise ImagesError(f"{error.what}: it has changed since it was scanned", hint="add --fresh") from None
    waiting.add(image)
    return image


def _bytes(image: Image.Image) -> int:
    return image.width * image.height * 3
