"""Photos against words with an exported encoder: no torch, and no training."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from PIL import Image

from clip_factory.runtime.onnx_encoder import OnnxEncoder
from clip_factory.runtime.predictions import Images, pictures
from clip_factory.runtime.prefetch import map_ahead, path_of, read_or_reason
from clip_factory.runtime.preprocessing import ImageSource, read_rgb
from clip_factory.runtime.runtime_errors import FactoryError, ImageError
from clip_factory.runtime.safe_text import is_unicode

TEMPLATES = ("a photo of a {}.",)


@dataclass(frozen=True)
class Classification:
    """The answer for one image, or why there is none."""

    path: str | None
    """The path that was given; None for bytes, PIL images and arrays."""
    label: str | None
    """The likeliest phrase; None if the image cannot be read."""
    probability: float | None
    """Its probability, in [0, 1]."""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    """Of each phrase, in the order asked; they sum to 1."""
    error: str | None = None
    """Why the image cannot be read; None if it can."""


class ZeroShot:
    """An encoder of a folder that `factory encoders export` wrote, safe to use from several threads.

    ZeroShot.load("clip/").classify("photos/", ["forklift", "pallet truck", "empty aisle"])

    The vectors of texts are kept, so that a phrase is embedded once.
    """

    def __init__(self, encoder: OnnxEncoder) -> None:
        """`encoder`: the loaded encoder; `load` makes one of a folder."""
        self.encoder = encoder
        self._texts: dict[str, np.ndarray] = {}

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None, low_memory: bool = False) -> ZeroShot:
        """Load and check an exported encoder.

        Args:
            path: The folder.
            threads: Photos that are read and embedded at once; by default one for each processor.
            low_memory: Hold one of the two towers at a time, run small batches, and return what is freed to the system:
                500 MB are enough for CLIP's ViT-B-32.

        Raises:
            ModelError: It is no exported encoder, or a file of it has been altered.
        """
        if threads is not None and threads < 1:
            raise FactoryError(f"threads {threads}: expected 1 or more")
        return cls(OnnxEncoder.load(path, threads=threads, low_memory=low_memory))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """P texts to float32 `(P, D)`, L2-normalized.

        Raises:
            FactoryError: One is no text, or the packages tokenizers and ftfy are not installed.
        """
        if broken := [text for text in texts if not isinstance(text, str) or not is_unicode(text)]:
            raise FactoryError(f"text {broken[0]!a}: expected text")
        if new := [text for text in dict.fromkeys(texts) if text not in self._texts]:
            self._texts.update(zip(new, self.encoder.embed_texts(new), strict=True))
        return np.stack([self._texts[text] for text in texts]) if texts else self.encoder.embed_texts([])

    def embed_images(self, images: Images) -> np.ndarray:
        """N images, as `Model.predict` takes them, to float32 `(N, D)`, L2-normalized.

        Raises:
            ImageError: One of them cannot be read; the message names it.
        """
        vectors = []
        for source, vector in self._embedded(images):
            if isinstance(vector, str):
                raise ImageError(f"{path_of(source) or type(source).__name__}: {vector}")
            vectors.append(vector)
        return np.stack(vectors) if vectors else self.encoder.embed_images([])

    def classify(
        self, images: Images, phrases: Sequence[str], *, templates: Sequence[str] = TEMPLATES
    ) -> list[Classification]:
        """Like `iter_classify`, all at once."""
        return list(self.iter_classify(images, phrases, templates=templates))

    def iter_classify(
        self, images: Images, phrases: Sequence[str], *, templates: Sequence[str] = TEMPLATES
    ) -> Iterator[Classification]:
        """Which phrase fits each image best, in order, while threads read and embed the next images.

        Args:
            images: A folder (its photos, recursively, sorted by path), one picture, or any iterable of pictures:
                paths, bytes of files, PIL images, or uint8 arrays.
            phrases: Two or more; the answer is one of them.
            templates: Sentences with one `{}` each; the mean of a phrase's vectors stands for it (Radford et al. 2021,
                arXiv:2103.00020, section 3.1.4).

        Yields:
            An answer for each image; one that cannot be read has an `error`, and raises none.

        Raises:
            FactoryError: There are fewer than two phrases, one is empty, or a template has no `{}`.
        """
        _check_words(phrases, templates)
        prompts = [template.replace("{}", phrase) for phrase in phrases for template in templates]
        texts = self.embed_texts(prompts).reshape(len(phrases), len(templates), -1).mean(axis=1)
        texts /= np.linalg.norm(texts, axis=1, keepdims=True)
        for source, vector in self._embedded(images):
            yield self._answer(path_of(source), vector, texts, phrases)

    def _answer(
        self, path: str | None, vector: np.ndarray | str, texts: np.ndarray, phrases: Sequence[str]
    ) -> Classification:
        if isinstance(vector, str):
            return Classification(path, None, None, error=vector)
        logits = self.encoder.logit_scale * (texts @ vector).astype(np.float64)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = int(shares.argmax())
        probabilities = dict(zip(phrases, shares.tolist(), strict=True))
        return Classification(path, phrases[best], float(shares[best]), probabilities)

    def _embedded(self, images: Images) -> Iterator[tuple[ImageSource, np.ndarray | str]]:
        """Each image with its vector, or the reason why there is none; a few batches ahead of whoever asks."""
        source = iter(pictures(images))
        chunks = iter(lambda: list(islice(source, self.encoder.images_a_run)), [])
        return map_ahead(self._embed, chunks, self.encoder.runs_at_once)

    def _embed(self, chunk: list[ImageSource]) -> list[tuple[ImageSource, np.ndarray | str]]:
        side = self.encoder.image_size
        read = [read_or_reason(source, lambda one: read_rgb(one, min_side=side)) for source in chunk]
        vectors = iter(self.encoder.embed_images([one for one in read if isinstance(one, Image.Image)]))
        return [
            (source, one if isinstance(one, str) else next(vectors)) for source, one in zip(chunk, read, strict=True)
        ]


def _check_words(phrases: Sequence[str], templates: Sequence[str]) -> None:
    several = isinstance(phrases, Sequence) and not isinstance(phrases, str)
    if not several or len(phrases) < 2 or len(set(phrases)) < len(phrases):
        raise FactoryError(f"phrases {phrases!r}: expected a list of two or more, each once", hint='["cat", "dog"]')
    if blank := [phrase for phrase in phrases if not isinstance(phrase, str) or not phrase.strip()]:
        raise FactoryError(f"phrase {blank[0]!r}: expected words", hint='such as ["cat", "dog"]')
    if isinstance(templates, str):
        raise FactoryError(f"templates {templates!r}: expected a list", hint=f"[{templates!r}]")
    for template in templates:
        if template.count("{}") != 1:
            raise FactoryError(f"template {template!r}: must hold {{}} exactly once", hint='such as "a photo of a {}."')
    if not templates:
        raise FactoryError("there are no templates", hint='such as ["a photo of a {}."]')
