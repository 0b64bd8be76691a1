"""An encoder for the runs of `make_review`: two words that part their photos, and all else that does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from support.make_run import TEACHER
from support.review_run import DIM


class SignEncoder:
    """`plus` lies where the yes photos of `make_review` are, `minus` opposite, all else far from both."""

    name, key, license, dim, image_size, logit_scale, logit_bias = "signs", TEACHER, "MIT", DIM, 32, 8.0, 0.0
    about: ClassVar[dict[str, object]] = {"name": "signs"}

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """One unit vector a text, float32 `(P, DIM)`."""
        vectors = np.zeros((len(texts), DIM), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[0 if "plus" in text or "minus" in text else 5] = -1.0 if "minus" in text else 1.0
        return vectors
