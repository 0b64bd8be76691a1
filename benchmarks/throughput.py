"""Is the network ever starved? Embedding photos from disk against embedding pictures in memory, in one run.

    python benchmarks/throughput.py PHOTOS --count 512 --rounds 4

Each round does both on the same number of images, one after the other, so that a noisy machine slows both alike.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from clip_factory import encoders as teacher
from clip_factory import scenario
from clip_factory.images.photo import Photo
from clip_factory.runtime import find_images


def main() -> None:
    """Parse, measure, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--teacher", default="offline")
    parser.add_argument("--count", type=int, default=512, help="images a round")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    model = teacher.load_encoder(scenario.Teacher(model=options.teacher))
    files = [Photo.of(path) for path in find_images(options.photos)[: options.count * options.rounds]]
    chunks = [files[i : i + options.count] for i in range(0, len(files), options.count)]
    bare = pipeline = 0.0
    forward(model, options.batch_size, options.batch_size)  # warm up
    for number, chunk in enumerate(chunks, start=1):
        bare += forward(model, len(chunk), options.batch_size)
        pipeline += embed(model, chunk, options.batch_size)
        images = sum(map(len, chunks[:number]))
        rates = f"pipeline {images / pipeline:.1f}/s, in memory {images / bare:.1f}/s"
        print(f"round {number}: {rates}, ratio {bare / pipeline:.3f}")


def forward(model: teacher.Encoder, count: int, batch_size: int) -> float:
    """Seconds that the encoder takes over `count` pictures of its own size, decoded already."""
    pixels = np.random.default_rng(0).integers(0, 256, (batch_size, model.image_size, model.image_size, 3), np.uint8)
    batch = [Image.fromarray(one) for one in pixels]
    start = time.perf_counter()
    for first in range(0, count, batch_size):
        model.embed_images(batch[: min(batch_size, count - first)])
    return time.perf_counter() - start


def embed(model: teacher.Encoder, files: list[Photo], batch_size: int) -> float:
    """Seconds of reading, decoding, embedding and storing."""
    with tempfile.TemporaryDirectory() as store:
        start = time.perf_counter()
        teacher.embed(model, files, teacher.EmbeddingStore(Path(store)), batch_size, lambda done, total: None)
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
