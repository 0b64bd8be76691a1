"""What is answered for a video: a prediction for each sample of its time, and the spans of time that show yes."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from clip_factory.runtime.durations import milliseconds
from clip_factory.runtime.predictions import BATCH_SIZE, Prediction, checked_networks, prediction_at
from clip_factory.runtime.preprocessing import to_square
from clip_factory.runtime.runtime_errors import ImageError
from clip_factory.runtime.score_histogram import ScoreHistogram
from clip_factory.runtime.video_frames import DEFAULT_EVERY, sample_video

if TYPE_CHECKING:
    from clip_factory.runtime.model import Model
    from clip_factory.runtime.prefetch import Network
    from clip_factory.runtime.region import Region

View = tuple[int, "Region | None"]
"""The side of a square that a network asks for, and the region of the frame that is squashed to it."""
Squares = dict[View, np.ndarray]
"""A sample by what networks ask for: uint8 `(side, side, 3)`."""


@dataclass(frozen=True)
class Span:
    """A stretch of a video in which one sample after the other is answered yes."""

    path: str
    """Of the video."""
    start: float
    """Seconds: the time of the first sample."""
    end: float
    """Seconds: when the sample after the last one was due, or the video ends; where it could not be read on, the time
    of the last sample."""
    mean: float
    """Of the samples' probabilities, in [0, 1]."""
    max: float
    """The largest of them."""
    samples: int


@dataclass(frozen=True)
class VideoPrediction:
    """The answers for one video."""

    path: str
    seconds: float | None
    """How long it is; None if it cannot be read to its end."""
    predictions: list[Prediction]
    """One for each sample, in order of time; their paths are media fragments such as `gate3.mp4#t=12.000`."""
    spans: list[Span]
    error: str | None
    """Why it cannot be read, or not to its end; None if it can."""


@dataclass
class SpanJoiner:
    """Joins answers of yes that follow one another, video after video, as they come by."""

    every: float
    """Seconds from one sample to the next."""
    spans: list[Span] = field(default_factory=list)
    _open: list[Prediction] = field(default_factory=list)

    def add(self, prediction: Prediction) -> None:
        """The next sample of the video."""
        if prediction.label == "yes":
            self._open.append(prediction)
        elif self._open:
            self._close(self._last + self.every)

    def end(self, seconds: float | None) -> None:
        """The end of the video, whose length is None where it could not be read to its end."""
        if self._open:
            self._close(self._last if seconds is None else min(self._last + self.every, seconds))

    @property
    def _last(self) -> float:
        return self._open[-1].seconds or 0.0

    def _close(self, end: float) -> None:
        values = [one.probability for one in self._open if one.probability is not None]
        first = self._open[0].seconds or 0.0
        path = (self._open[0].path or "").rpartition("#")[0]
        self.spans.append(Span(path, first, round(end, 3), float(np.mean(values)), max(values), len(values)))
        self._open = []


def predict_video(
    model: Model,
    path: str | os.PathLike[str],
    *,
    every: str | float = DEFAULT_EVERY,
    threshold: float | None = None,
    scores: ScoreHistogram | None = None,
) -> VideoPrediction:
    """Answer for a video, all at once; arguments and errors as of `iter_predict_video`."""
    joiner = SpanJoiner(milliseconds(every) / 1000)
    predictions: list[Prediction] = []
    rows = iter_predict_video([model], path, every=every, threshold=threshold, scores=[scores])
    while True:
        try:
            (prediction,) = next(rows)
        except StopIteration as stop:
            joiner.end(stop.value)
            answered = [one for one in predictions if one.error is None]
            error = next((one.error for one in predictions if one.error is not None), None)
            return VideoPrediction(os.fspath(path), stop.value, answered, joiner.spans, error)
        predictions.append(prediction)
        if prediction.error is None:
            joiner.add(prediction)


def iter_predict_video(
    models: Sequence[Model],
    path: str | os.PathLike[str],
    *,
    every: str | float = DEFAULT_EVERY,
    threshold: float | None = None,
    scores: Sequence[ScoreHistogram | None] = (),
) -> Generator[tuple[Prediction, ...], None, float | None]:
    """Answer for a video with one or more models, as it is read; a batch of samples is in memory at once.

    Args:
        models: One or more.
        path: The video.
        every: From one sample to the next: `2s`, `500ms`, or a number of seconds. The first is at 0.
        threshold: Probability in [0, 1] from which every model's answer is yes, instead of its own.
        scores: For each model the histogram in which its probabilities are counted, or None; or nothing at all.

    Yields:
        For each sample one prediction a model, in the order of `models`. Where the video cannot be read, or not to its
        end, a last one has the error, and the path of the video.

    Returns:
        How long the video is, in seconds; None where it cannot be read to its end.

    Raises:
        FactoryError: An argument is out of range, or a histogram is of another model.
    """
    step = milliseconds(every)
    networks, thresholds = checked_networks(models, threshold, scores)
    return _answered(os.fspath(path), step, networks, thresholds)


def _answered(
    path: str, every: int, networks: Sequence[Network], thresholds: Sequence[float]
) -> Generator[tuple[Prediction, ...], None, float | None]:
    ending: list[float | ImageError] = []
    samples = _squares(path, every, {(one.size, one.region) for one in networks}, ending)
    while batch := list(islice(samples, BATCH_SIZE)):
        outputs = [
            one.run(np.stack([squares[one.size, one.region] for _, squares in batch])).tolist() for one in networks
        ]
        for (time, _), *answer in zip(batch, *outputs, strict=True):
            named, seconds = f"{path}#t={time / 1000:.3f}", time / 1000
            yield tuple(prediction_at(named, *pair, seconds) for pair in zip(answer, thresholds, strict=True))
    if isinstance(ending[0], ImageError):
        yield (Prediction(path, None, None, ending[0].what.removeprefix(f"{path}: ")),) * len(networks)
        return None
    return ending[0]


def _squares(
    path: str, every: int, views: set[View], ending: list[float | ImageError]
) -> Generator[tuple[int, Squares], None, None]:
    """Each sample with its time in milliseconds; then `ending` gets the seconds of the video, or what is wrong."""
    frames = sample_video(path, every)
    while True:
        try:
            time, image = next(frames)
        except StopIteration as stop:
            ending.append(round(float(stop.value), 3))
            return
        except ImageError as error:
            ending.append(error)
            return
        yield (
            time,
            {
                (side, region): to_square(image if region is None else region.crop(image), side)
                for side, region in views
            },
        )
