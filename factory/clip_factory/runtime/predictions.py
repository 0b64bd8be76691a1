"""What is answered for photos: one prediction each, for one model or for several that share the reading of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import numpy as np
from PIL import Image

from clip_factory.runtime.photo_files import find_images
from clip_factory.runtime.prefetch import Network, path_of, predict_ahead
from clip_factory.runtime.preprocessing import ImageSource
from clip_factory.runtime.processors import usable_cpus
from clip_factory.runtime.runtime_errors import FactoryError
from clip_factory.runtime.score_histogram import ScoreHistogram

if TYPE_CHECKING:
    from clip_factory.runtime.model import Model

BATCH_SIZE = 8
"""Images a run of the network. More take longer each: what lies between the layers leaves the processor's cache."""

UNSURE = 1 / 3
"""A yes is unsure in the lowest third of the way from the threshold up to 1, a no in the highest third of the way from
0 up to the threshold: a threshold near an end has a narrow band on that side, and each side keeps two sure thirds."""

Images: TypeAlias = "ImageSource | Iterable[ImageSource]"
"""A folder, one picture, or any number of pictures."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one image, or why there is none."""

    path: str | None
    """The path that was given; None for bytes, PIL images and arrays."""
    probability: float | None
    """Calibrated probability of yes, in [0, 1]; None if the image cannot be read."""
    label: Literal["yes", "no"] | None
    """`yes` if the probability reaches the threshold."""
    error: str | None
    """Why the image cannot be read; None if it can."""
    unsure: bool = False
    """Whether the probability is so near to the threshold that a person should look; see `is_unsure`."""
    seconds: float | None = None
    """Of what a video shows at a time: the seconds from its first picture; None for photos."""


def is_unsure(probability: float, threshold: float) -> bool:
    """Whether a probability is nearer to the threshold than `UNSURE` of the room on its side of it."""
    room = 1 - threshold if probability >= threshold else threshold
    return abs(probability - threshold) < UNSURE * room


def is_single(images: object) -> bool:
    """Whether `images` is one picture: a path that is no folder, the bytes of a file, a PIL image, or its array."""
    if isinstance(images, (str, os.PathLike)):
        return not os.path.isdir(images)
    if isinstance(images, np.ndarray):
        return images.ndim in (0, 2, 3)
    return isinstance(images, (bytes, bytearray, memoryview, Image.Image))


def pictures(images: object) -> Iterable[ImageSource]:
    """The pictures that `images` means: of a folder those that `find_images` finds, of one picture itself.

    A folder without photos stands for itself: reading it says what is wrong with it.

    Raises:
        FactoryError: It is nothing that pictures could come from.
    """
    if isinstance(images, (str, os.PathLike)):
        return (find_images(images) if os.path.isdir(images) else []) or [images]
    if is_single(images):
        return [cast(ImageSource, images)]
    if not isinstance(images, Iterable):
        hint = "give a folder, a picture (path, bytes, PIL image, array), or a list of pictures"
        raise FactoryError(f"images is of type {type(images).__name__}", hint=hint)
    return cast(Iterable[ImageSource], images)


def iter_predict_all(
    models: Sequence[Model],
    images: Images,
    *,
    threshold: float | None = None,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    scores: Sequence[ScoreHistogram | None] = (),
) -> Generator[tuple[Prediction, ...], None, None]:
    """Answer with several models at once; each photo is decoded once for all that see it alike: size and region.

    Args:
        models: One or more.
        images: As `Model.iter_predict` takes them.
        threshold: Probability in [0, 1] from which every model's answer is yes, instead of its own.
        batch_size: Maximum of images a run of a network; the first runs are smaller.
        workers: Threads that read images and run the networks; by default one for each processor.
        scores: For each model the histogram in which its probabilities are counted, or None; or nothing at all.

    Yields:
        For each image one prediction a model, in the order of `models`, the very ones that it gives alone. An image
        that cannot be read has an error in all of them.

    Raises:
        FactoryError: An argument is out of range, or a histogram is of another model.
    """
    workers = usable_cpus() if workers is None else workers
    if batch_size < 1 or workers < 1:
        raise FactoryError(f"batch_size {batch_size}, workers {workers}: expected 1 or more")
    networks, thresholds = checked_networks(models, threshold, scores)
    return _stream(pictures(images), networks, thresholds, batch_size, workers)


def checked_networks(
    models: Sequence[Model], threshold: float | None, scores: Sequence[ScoreHistogram | None]
) -> tuple[list[Network], list[float]]:
    """For each model its network, which counts what it answers, and the probability from which its answer is yes.

    Raises:
        FactoryError: An argument is out of range, there is no model, or a histogram is of another one.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise FactoryError(f"threshold {threshold}: expected a number in [0, 1]")
    if not models:
        raise FactoryError("no model to ask", hint="give one or more")
    counted = list(scores) or [None] * len(models)
    for model, histogram in zip(models, counted, strict=True):
        if histogram is not None and histogram.sha256 != model.sha256:
            raise FactoryError("scores is the histogram of another model", hint="ScoreHistogram(model.sha256)")
    networks = [Network(m.image_size, _counted(m, hist), m.region) for m, hist in zip(models, counted, strict=True)]
    return networks, [model.threshold if threshold is None else threshold for model in models]


def _counted(model: Model, histogram: ScoreHistogram | None) -> Callable[[np.ndarray], np.ndarray]:
    def run(batch: np.ndarray) -> np.ndarray:
        values = model.probabilities(batch)
        if histogram is not None:
            histogram.add(values)
        return values

    return run


def _stream(
    images: Iterable[ImageSource],
    networks: Sequence[Network],
    thresholds: Sequence[float],
    batch_size: int,
    workers: int,
) -> Generator[tuple[Prediction, ...], None, None]:
    with closing(predict_ahead(images, networks, batch_size=batch_size, workers=workers)) as results:
        for source, answer in results:
            path = path_of(source)
            if isinstance(answer, str):
                yield (Prediction(path, None, None, answer),) * len(thresholds)
            else:
                yield tuple(prediction_at(path, *pair) for pair in zip(answer, thresholds, strict=True))


def prediction_at(path: str | None, probability: float, threshold: float, seconds: float | None = None) -> Prediction:
    """The answer that a probability of yes in [0, 1] means."""
    label: Literal["yes", "no"] = "yes" if probability >= threshold else "no"
    return Prediction(path, probability, label, None, is_unsure(probability, threshold), seconds)
