"""Photos decoded by threads ahead of whoever uses them, in order and in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition

from PIL import Image

from clip_factory.images.photo import Photo, read_photo_rgb
from clip_factory.runtime.processors import usable_cpus

MAX_WAITING_BYTES = 512_000_000
"""Decoded photos that wait take no more than this, and one photo a thread."""


def decode_ahead(photos: Sequence[Photo], side: int, ahead: int) -> Generator[Image.Image]:
    """The photos in order, while threads decode those that come after.

    Args:
        photos: N photos.
        side: Pixels that the reader of the photos needs of each side; see `read_rgb`.
        ahead: How many photos may wait.

    Yields:
        N upright RGB images.

    Raises:
        ImagesError: A file has changed or vanished since it was scanned.
    """
    waiting, pool = _Waiting(), ThreadPoolExecutor(usable_cpus())
    queue: deque[Future[Image.Image]] = deque()
    try:
        for i in range(len(photos) + ahead):
            if i < len(photos):
                queue.append(pool.submit(_decode, photos[i], side, i, waiting))
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


def _decode(photo: Photo, side: int, index: int, waiting: _Waiting) -> Image.Image:
    waiting.wait_for_room(index)
    image = read_photo_rgb(photo, min_side=side)
    waiting.add(image)
    return image


def _bytes(image: Image.Image) -> int:
    return image.width * image.height * 3
