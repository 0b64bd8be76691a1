"""The seam between the factory and its dual encoders: images and texts to vectors of one space, numpy at the border."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from clip_factory.errors import ModelError, TeacherError
from clip_factory.loader_table import LoaderTable
from clip_factory.scenario import Teacher

GROUP = "clip_factory.encoders"
"""Entry points of this group add encoders by name; each is called with the scenario's `Teacher`."""


class Encoder(Protocol):
    """A dual encoder (CLIP, SigLIP and the like). One thread at a time calls it.

    It may also have `unknown_words(text) -> list[str]`: the words of a text for which its tokenizer has nothing but the
    sign for the unknown. A phrase of such words alone is refused, since it would mean the same as any other.
    """

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def key(self) -> str:
        """Names its vectors in the store; changes with whatever changes them: weights, architecture, preprocessing."""

    @property
    def license(self) -> str:
        """Of the weights, in words."""

    @property
    def dim(self) -> int:
        """D, the length of a vector."""

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that the image tower sees; JPEG files may be decoded at a few times this."""

    @property
    def logit_scale(self) -> float:
        """What cosine similarities are multiplied by before the softmax or the sigmoid."""

    @property
    def logit_bias(self) -> float:
        """What is added to the scaled similarities: 0 for CLIP, learned by SigLIP."""

    @property
    def about(self) -> dict[str, object]:
        """What reports, cards and files say of it: `name`, `key`, `license` and `dim` at least; JSON values."""

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """N upright RGB images of any size to float32 `(N, D)`, L2-normalized; the preprocessing is inside."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """P texts to float32 `(P, D)`, L2-normalized."""


EncoderLoader = Callable[[Teacher], Encoder]


def _open_clip(teacher: Teacher) -> Encoder:
    from clip_factory.encoders.open_clip import load_open_clip

    return load_open_clip(teacher)


def _offline(teacher: Teacher) -> Encoder:
    from clip_factory.encoders.open_clip import load_offline

    return load_offline()


def _onnx(teacher: Teacher) -> Encoder:
    from clip_factory.runtime.onnx_encoder import OnnxEncoder

    try:
        return OnnxEncoder.load(Path(teacher.model.partition(":")[2]).expanduser())
    except ModelError as error:
        raise TeacherError(f"teacher {teacher.model}: {error.what}", hint=error.hint) from None


def _http(teacher: Teacher) -> Encoder:
    from clip_factory.encoders.http_encoder import connect

    return connect(teacher)


LOADERS: LoaderTable[EncoderLoader] = LoaderTable(
    GROUP,
    {
        "offline": _offline,
        "hf-hub": _open_clip,
        "local-dir": _open_clip,
        "onnx": _onnx,
        "http": _http,
        "https": _http,
    },
)
"""By the model's name, or by what stands before its colon. Any other name is open_clip's."""


def load_encoder(teacher: Teacher) -> Encoder:
    """Load the encoder that a scenario names; `auto` must have been resolved.

    Raises:
        TeacherError: The model or its weights are unknown, cannot be had, or have been altered.
        PluginError: Another package's encoder cannot be imported.
    """
    if teacher.engine == "onnx":
        from clip_factory.encoders.faster_engine import load_exported

        return load_exported(teacher)
    loader = LOADERS.find(teacher.model.partition(":")[0])
    return (loader or _open_clip)(teacher)
