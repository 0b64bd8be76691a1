"""Images read and predicted by threads ahead of the caller, in order and with bounded memory."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import chain, count, islice, takewhile
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from clip_factory.runtime.preprocessing import ImageSource, load_square
from clip_factory.runtime.region import Region
from clip_factory.runtime.runtime_errors import ImageError

T = TypeVar("T")
R = TypeVar("R")


class Network(NamedTuple):
    """A network and what it sees of photos."""

    size: int
    """Side in pixels of its squares."""
    run: Callable[[np.ndarray], np.ndarray]
    """uint8 `(N, size, size, 3)` -> `(N,)`."""
    region: Region | None = None
    """The part of each photo that is squashed; None: the whole."""


Result = tuple[ImageSource, tuple[float, ...] | str]
"""An image and its probability by each network, or the reason why it cannot be read."""

_PIL_LOCK = threading.Lock()
"""A PIL image reads its file when it is first used, which two threads must not do at once."""


def predict_ahead(
    images: Iterable[ImageSource],
    networks: Sequence[Network],
    *,
    batch_size: int,
    workers: int,
) -> Generator[Result, None, None]:
    """Read images into squares and run networks on them, each batch in one thread from end to end.

    An image is decoded once for each size of square and each region, however many networks use it.

    The first batches are of one image and the later ones larger, so that a few large photos are spread over all
    threads, and the first answer does not wait for a whole batch to be read. A single image is answered in the
    caller's thread: on a busy machine, handing it to another takes longer than answering it.

    Args:
        images: Read from the iterable `workers + 1` batches before they are predicted.
        networks: Called from several threads at once.
        batch_size: Maximum of images a call of a network.
        workers: Threads; 1 is the caller's own.

    Yields:
        Each image with its probabilities or the reason why there are none, in order.
    """
    source = iter(images)
    chunks = takewhile(bool, (list(islice(source, min(batch_size, 1 + number // workers))) for number in count()))
    head = list(islice(chunks, 2))
    if len(head) < 2 or workers == 1:
        for chunk in chain(head, chunks):
            yield from _predict_chunk(chunk, networks)
        return
    yield from map_ahead(partial(_predict_chunk, networks=networks), chain(head, chunks), workers)


def map_ahead(work: Callable[[list[T]], list[R]], chunks: Iterable[list[T]], workers: int) -> Generator[R, None, None]:
    """The results of `work` on each chunk, in order, while threads work on those that come after.

    Args:
        work: Called in one of the threads.
        chunks: Read from the iterable `workers + 1` ahead.
        workers: Threads.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="predict")
    waiting: deque[Future[list[R]]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(work, chunk))
            if len(waiting) > workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def read_or_reason(source: ImageSource, read: Callable[[ImageSource], R]) -> R | str:
    """What `read` makes of an image, or why it cannot be read: without its name, which stands beside it."""
    try:
        with _PIL_LOCK if isinstance(source, Image.Image) else nullcontext():
            return read(source)
    except ImageError as error:
        return error.what.removeprefix(f"{path_of(source) or type(source).__name__}: ")


def path_of(source: ImageSource) -> str | None:
    """The path of an image that was given by its path."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


def _predict_chunk(chunk: list[ImageSource], networks: Sequence[Network]) -> list[Result]:
    views = {(network.size, network.region) for network in networks}
    squares = {view: [_square(source, *view) for source in chunk] for view in views}
    failed = [next((one for one in read if isinstance(one, str)), None) for read in zip(*squares.values(), strict=True)]
    readable = [place for place, reason in enumerate(failed) if reason is None]
    outputs = [_run(one.run, [squares[one.size, one.region][place] for place in readable]) for one in networks]
    probabilities = iter(zip(*outputs, strict=True))
    return [
        (source, next(probabilities) if reason is None else reason)
        for source, reason in zip(chunk, failed, strict=True)
    ]


def _run(network: Callable[[np.ndarray], np.ndarray], squares: list[np.ndarray | str]) -> list[float]:
    outputs: list[float] = network(np.stack(squares)).tolist() if squares else []
    return outputs


def _square(source: ImageSource, size: int, region: Region | None) -> np.ndarray | str:
    return read_or_reason(source, lambda one: load_square(one, size, region))
