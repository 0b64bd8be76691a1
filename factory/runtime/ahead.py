"""Images read by threads ahead of whoever uses them, in order and with bounded memory."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
from PIL import Image

from factory.runtime.errors import ImageError
from factory.runtime.images import ImageSource, load_square

_PIL_LOCK = threading.Lock()
"""A PIL image reads its file when it is first used, which two threads must not do at once."""


def usable_cpus() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def squares(
    images: Iterable[ImageSource], size: int, *, ahead: int, workers: int
) -> Generator[tuple[ImageSource, np.ndarray | str], None, None]:
    """Read images into squares for the network, `workers` at a time and at most `ahead` before they are asked for.

    Yields:
        Each source, in order, with its uint8 `(size, size, 3)`, or with the reason why it cannot be read.
    """
    waiting: deque[tuple[ImageSource, Future[np.ndarray | str]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for image in images:
            waiting.append((image, pool.submit(_square, image, size)))
            if len(waiting) >= ahead:
                source, future = waiting.popleft()
                yield source, future.result()
        while waiting:
            source, future = waiting.popleft()
            yield source, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def path_of(source: ImageSource) -> str | None:
    """The path of an image that was given by its path."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


def _square(source: ImageSource, size: int) -> np.ndarray | str:
    try:
        with _PIL_LOCK if isinstance(source, Image.Image) else nullcontext():
            return load_square(source, size)
    except ImageError as error:
        return error.what.removeprefix(f"{path_of(source) or type(source).__name__}: ")
