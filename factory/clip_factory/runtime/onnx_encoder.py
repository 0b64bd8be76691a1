"""An exported encoder: photos and texts to vectors with onnxruntime, NumPy, Pillow and tokenizers."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import onnxruntime as ort
from PIL import Image

from clip_factory.runtime.allocator import return_memory
from clip_factory.runtime.encoder_folder import IMAGE, TEXT, TOKENIZER, EncoderFolder, open_tower, read_encoder_folder
from clip_factory.runtime.image_steps import to_pixels
from clip_factory.runtime.processors import usable_cpus
from clip_factory.runtime.runtime_errors import ModelError
from clip_factory.runtime.text_tokens import TextTokens

IMAGES_A_RUN = 8
"""More take longer each: what lies between the layers leaves the processor's cache."""
IMAGES_A_SMALL_RUN = 4
TEXTS_A_RUN = 32
T = TypeVar("T")


class OnnxEncoder:
    """A dual encoder of a folder, with the same vectors as in torch; safe to use from several threads."""

    def __init__(self, folder: EncoderFolder, *, threads: int | None = None, low_memory: bool = False) -> None:
        """Nothing is loaded before it is used.

        Args:
            folder: As `read_encoder_folder` gives it.
            threads: Photos that are prepared and embedded at once; by default one for each processor.
            low_memory: Hold one tower at a time, run one small batch at a time, and return what is freed to the system.
        """
        self.folder = folder
        self.name, self.license, self.key, self.dim = folder.name, folder.license, folder.key, folder.dim
        self.image_size = max(folder.size)
        self.logit_scale, self.logit_bias = folder.logit_scale, folder.logit_bias
        self.images_a_run = IMAGES_A_SMALL_RUN if low_memory else IMAGES_A_RUN
        self.runs_at_once = 1 if low_memory else threads or usable_cpus()
        self._threads = threads or usable_cpus()
        self._low_memory = low_memory
        self._text_tower: ort.InferenceSession | None = None
        self._pool = ThreadPoolExecutor(self.runs_at_once, thread_name_prefix="embed")

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None, low_memory: bool = False) -> OnnxEncoder:
        """The encoder of a folder.

        Raises:
            ModelError: It is none, or a file of it has been altered.
        """
        return cls(read_encoder_folder(path), threads=threads, low_memory=low_memory)

    @property
    def about(self) -> dict[str, object]:
        """Name, key, license, length of the vectors, and what computes them."""
        engine = f"onnxruntime, {self.folder.precision}"
        return {"name": self.name, "key": self.key, "license": self.license, "dim": self.dim, "engine": engine}

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """N RGB images to float32 `(N, D)`, L2-normalized; each thread prepares and embeds a few."""
        if not images:
            return np.empty((0, self.dim), np.float32)
        tower = self._image_tower  # loaded here: several threads would load it several times
        parts = self._pool.map(functools.partial(self._embed, tower), _parts(images, self.images_a_run))
        return np.concatenate(list(parts))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """P texts to float32 `(P, D)`, L2-normalized."""
        if not texts:
            return np.empty((0, self.dim), np.float32)
        tower = self._text_tower or open_tower(self.folder.path / TEXT, self._threads, keep_memory=not self._low_memory)
        parts = [self._run(tower, "tokens", self._tokens(part)) for part in _parts(texts, TEXTS_A_RUN)]
        self._text_tower = None if self._low_memory else tower
        if self._low_memory:
            del tower
            return_memory()
        return np.concatenate(parts)

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that hold something for which the tokenizer has only the sign for the unknown."""
        return self._tokens.unknown_words(text)

    @property
    def context_length(self) -> int:
        """How many tokens the text tower sees at most, the signs for start and end included."""
        return self._tokens.context_length

    def token_count(self, text: str) -> int:
        """How many tokens a text has, seen or not, the signs for start and end included."""
        return self._tokens.token_count(text)

    def is_truncated(self, text: str) -> bool:
        """Whether the network does not see the end of a text."""
        return self.token_count(text) > self.context_length

    def fidelity(self) -> dict[str, float]:
        """Least cosine of `image` and `text` vectors to those that torch made of the folder's test vectors."""
        stored = self.folder.test_vectors()
        images = self.embed_images([Image.fromarray(picture) for picture in stored["pictures"]])
        texts = self.embed_texts([str(text) for text in stored["texts"]])
        pairs = {"image": (images, stored["image_vectors"]), "text": (texts, stored["text_vectors"])}
        return {name: float((here * there).sum(axis=1).min()) for name, (here, there) in pairs.items()}

    @functools.cached_property
    def _image_tower(self) -> ort.InferenceSession:
        # one thread a run: the pool's threads run side by side and need not wait for each other between layers
        threads = self._threads if self._low_memory else 1
        return open_tower(self.folder.path / IMAGE, threads, keep_memory=not self._low_memory)

    @functools.cached_property
    def _tokens(self) -> TextTokens:
        return TextTokens((self.folder.path / TOKENIZER).read_bytes(), self.folder.text)

    def _embed(self, tower: ort.InferenceSession, images: Sequence[Image.Image]) -> np.ndarray:
        pixels = np.stack([to_pixels(image, self.folder.steps) for image in images])
        return self._run(tower, "pixels", pixels)

    def _run(self, tower: ort.InferenceSession, name: str, inputs: np.ndarray) -> np.ndarray:
        (vectors,) = tower.run(["vectors"], {name: inputs})
        if vectors.shape != (len(inputs), self.dim) or not np.isfinite(vectors).all():
            what = f"vectors {vectors.shape}, expected {len(inputs), self.dim} finite numbers"
            raise ModelError(f"{self.folder.path}: {what}", hint="export the encoder again")
        return np.asarray(vectors, np.float32)


def _parts(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
