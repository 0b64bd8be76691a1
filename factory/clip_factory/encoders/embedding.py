"""Photos to vectors: threads decode ahead of the network, and every batch is stored before the next begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from PIL import Image

from clip_factory.encoders.decode_ahead import decode_ahead
from clip_factory.encoders.encoder import Encoder
from clip_factory.errors import PluginError
from clip_factory.images.photo import Photo
from clip_factory.memory import keep_memory
from clip_factory.scale.executor import Executor, load_executor
from clip_factory.store import EmbeddingStore

BATCHES_AHEAD = 2
"""How many batches are decoded, or being decoded, while the network works on one."""
BATCHES_A_SHARD = 64
"""How many batches an executor hands out at a time."""
MAX_BATCH_BYTES = 512_000_000
"""A batch is cut short when its decoded photos take more than this: large PNG files, a few at a time."""


@dataclass(frozen=True)
class EmbedShard:
    """The work on one shard of photos: embed them and put their vectors into the store, batch after batch."""

    encoder: Encoder
    store: EmbeddingStore
    batch_size: int

    def __call__(self, photos: Sequence[Photo]) -> Iterator[int]:
        """Yields the number of photos of each batch once its vectors are on disk."""
        keep_memory()
        images = decode_ahead(photos, self.encoder.image_size, BATCHES_AHEAD * self.batch_size)
        done = 0
        with closing(images), self.store.writer(self.encoder.key, self.encoder.about) as writer:
            for batch in _batches(images, self.batch_size):
                names = [photo.sha256 for photo in photos[done : done + len(batch)]]
                writer.add(names, _checked(self.encoder.embed_images(batch), len(batch), self.encoder))
                done += len(batch)
                yield len(batch)


def embed(
    encoder: Encoder,
    photos: Sequence[Photo],
    store: EmbeddingStore,
    batch_size: int,
    progress: Callable[[int, int], None],
    executor: Executor | None = None,
) -> int:
    """Put the vectors of all images into the store; those it holds already cost nothing.

    Args:
        encoder: What embeds.
        photos: The photos.
        store: Where vectors are kept.
        batch_size: Images a forward pass.
        progress: Called with (done, total) after each batch.
        executor: What runs the work; by default the one that the environment names, else this process.

    Returns:
        How many images were embedded now.

    Raises:
        ImagesError: A file has changed or vanished since it was scanned.
        PluginError: The encoder's vectors are not what its `dim` promises.
    """
    known = store.known(encoder.key)
    missing = [photo for photo in photos if photo.sha256 not in known]
    if not missing:
        return 0
    done, size = 0, BATCHES_A_SHARD * batch_size
    shards = [missing[i : i + size] for i in range(0, len(missing), size)]
    progress(0, len(missing))
    for count in (executor or load_executor()).map(EmbedShard(encoder, store, batch_size), shards):
        done += count
        progress(done, len(missing))
    return done


def _batches(images: Iterator[Image.Image], size: int) -> Iterator[list[Image.Image]]:
    batch: list[Image.Image] = []
    taken = 0
    for image in images:
        batch.append(image)
        taken += image.width * image.height * 3
        if len(batch) == size or taken > MAX_BATCH_BYTES:
            yield batch
            batch, taken = [], 0
    if batch:
        yield batch


def _checked(vectors: np.ndarray, count: int, encoder: Encoder) -> np.ndarray:
    if vectors.shape != (count, encoder.dim):
        raise PluginError(f"encoder {encoder.name}: vectors {vectors.shape}, expected {(count, encoder.dim)}")
    return vectors
