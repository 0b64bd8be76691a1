"""Search: the photos of a folder that lie nearest to words, to another photo, or to both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from clip_factory.encoders import Encoder
from clip_factory.errors import ImageError, ImagesError, ScenarioError
from clip_factory.runtime.preprocessing import read_rgb


@dataclass(frozen=True)
class Match:
    """One photo of the answer."""

    path: str
    """POSIX, below the folder."""
    score: float
    """Cosine similarity to what was asked, in [-1, 1]; comparable within one search only."""


@dataclass(frozen=True)
class Query:
    """What is looked for: words and photos that the answer is to be like, and those that it is not."""

    words: tuple[str, ...] = ()
    like: tuple[Path, ...] = ()
    minus: tuple[str, ...] = ()

    @property
    def says(self) -> str:
        """The query as one would say it."""
        wanted = [*self.words, *(f"like {path.name}" for path in self.like)]
        return " + ".join(wanted) + "".join(f" - {text}" for text in self.minus)

    def vector(self, encoder: Encoder) -> np.ndarray:
        """Its direction, float32 `(D,)`, L2-normalized: the sum of what is wanted, less what is not.

        Raises:
            ScenarioError: Nothing is looked for, or it takes away all of it.
            ImagesError: A photo cannot be read.
        """
        if not (self.words or self.like):
            raise ScenarioError("nothing is looked for", hint='such as: factory search photos/ "a red bicycle"')
        parts = [*encoder.embed_texts(self.words), *encoder.embed_images([_read(path) for path in self.like])]
        away = encoder.embed_texts(self.minus) if self.minus else np.zeros((1, len(parts[0])), np.float32)
        mean = np.sum(parts, axis=0) - away.sum(axis=0)
        length = float(np.linalg.norm(mean))
        if length < 1e-6:
            raise ScenarioError("what is taken away is all that is looked for", hint="use other words for --minus")
        return np.asarray(mean / length, np.float32)


def search(vectors: np.ndarray, paths: Sequence[str], query: Query, encoder: Encoder, most: int) -> list[Match]:
    """The `most` photos that lie nearest to a query, the nearest first.

    Args:
        vectors: float32 `(N, D)`, L2-normalized.
        paths: Of the N photos.
        query: What is looked for.
        encoder: What made the vectors.
        most: How many.
    """
    scores = vectors @ query.vector(encoder)
    best = np.argsort(-scores, kind="stable")[:most]
    return [Match(paths[i], float(scores[i])) for i in best.tolist()]


def _read(path: Path) -> Image.Image:
    try:
        return read_rgb(path)
    except ImageError as error:
        raise ImagesError(error.what, hint="name a photo that can be read: --like photo.jpg") from None
