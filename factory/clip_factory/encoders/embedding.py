"""Photos to vectors: threads decode ahead of the network, and every batch is stored before the next begins."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from clip_factory.encoders.open_clip import Teacher
from clip_factory.errors import ImageError, ImagesError
from clip_factory.memory import keep_memory
from clip_factory.runtime.preprocessing import read_rgb
from clip_factory.store import EmbeddingStore

BATCHES_AHEAD = 2
"""How many batches are decoded, or being decoded, while the network works on one."""


def embed(
    teacher: Teacher,
    files: Sequence[tuple[str, Path]],
    store: EmbeddingStore,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> int:
    """Put the vectors of all images into the store; those it holds already cost nothing.

    Args:
        teacher: What embeds.
        files: `(sha256, path)` of each image.
        store: Where vectors are kept.
        batch_size: Images a forward pass.
        progress: Called with (done, total) after each batch.

    Returns:
        How many images were embedded now.

    Raises:
        ImagesError: A file has changed or vanished since it was scanned.
    """
    known = store.known(teacher.key)
    missing = [(sha, path) for sha, path in files if sha not in known]
    if not missing:
        return 0
    keep_memory()
    done = 0
    progress(0, len(missing))
    with store.writer(teacher.key, teacher.about) as writer:
        for names, batch in _batches(teacher, missing, batch_size):
            writer.add(names, teacher.embed_images(batch))
            done += len(names)
            progress(done, len(missing))
    return done


def _batches(
    teacher: Teacher, files: Sequence[tuple[str, Path]], batch_size: int
) -> Iterator[tuple[list[str], torch.Tensor]]:
    chunks = [files[i : i + batch_size] for i in range(0, len(files), batch_size)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        queue: deque[list[Future[torch.Tensor]]] = deque()
        for ahead in range(len(chunks) + BATCHES_AHEAD):
            if ahead < len(chunks):
                queue.append([pool.submit(_load, teacher, path) for _, path in chunks[ahead]])
            if ahead >= BATCHES_AHEAD:
                names = [sha for sha, _ in chunks[ahead - BATCHES_AHEAD]]
                yield names, torch.stack([future.result() for future in queue.popleft()])


def _load(teacher: Teacher, path: Path) -> torch.Tensor:
    try:
        return teacher.preprocess(read_rgb(path, at_least=teacher.image_side))
    except ImageError as error:
        raise ImagesError(f"{error.what}: it has changed since it was scanned", hint="add --fresh") from None
