"""A model file of the factory: load it, check it, predict with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import onnxruntime as ort
from PIL import Image

from clip_factory.runtime.model_checks import (
    check_graph,
    check_metadata,
    read_region,
    read_test_vectors,
    with_current_keys,
)
from clip_factory.runtime.model_file import check_integrity, first_line, open_session, read_metadata, read_model
from clip_factory.runtime.predictions import BATCH_SIZE, Images, Prediction, is_single, iter_predict_all
from clip_factory.runtime.preprocessing import ImageSource
from clip_factory.runtime.region import Region
from clip_factory.runtime.runtime_errors import FactoryError, ImageError, ModelError, RegistryError
from clip_factory.runtime.safe_text import plain
from clip_factory.runtime.score_histogram import ScoreHistogram
from clip_factory.runtime.video_frames import DEFAULT_EVERY

if TYPE_CHECKING:  # a model that lies in a file needs nothing that speaks to registries
    from clip_factory.runtime.releases.fetch import PublicKey
    from clip_factory.runtime.releases.release_record import Release
    from clip_factory.runtime.video_predictions import VideoPrediction

VERIFY_TOLERANCE = 1e-3
"""Largest difference between a stored probability and one computed here. Processors round differently, int8 most."""
MAX_QUESTION = 80
"""Characters of a question in a model's repr."""


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """One yes/no question, answered for images; made by `Model.load`, and safe to use from several threads."""

    name: str
    question: str
    threshold: float
    """Probability in [0, 1] from which the answer is yes."""
    image_size: int
    """Side in pixels of the square that the network sees."""
    region: Region | None
    """The part of each photo that it sees; None: the whole."""
    metadata: Mapping[str, str]
    """All metadata of the file, as strings; the structured ones are JSON. Cannot be changed. Keys that version 0.1.0
    wrote otherwise are there by today's name as well."""
    sha256: str
    """Hex sha256 of the file's bytes."""
    release: Release | None
    """What the registry says of it; None if it was loaded from a file."""
    _session: ort.InferenceSession
    _data: bytes
    _threads: int

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        registry: str | os.PathLike[str] | None = None,
        public_key: PublicKey | None = None,
        sha256: str | None = None,
        threads: int = 1,
    ) -> Model:
        """Load and check a model: a file, or a release of a registry.

            Model.load("forklift.onnx")
            Model.load("forklift@champion", registry="https://models.example.org", public_key="key.pem")

        Args:
            path: The ONNX file; with a registry, NAME, NAME@VERSION or NAME@ALIAS.
            registry: A folder, or a URL: file://, http(s)://, or any other through fsspec. What was fetched is kept
                in $FACTORY_CACHE, by default the user's cache folder; see `clip_factory.runtime.releases.fetch.fetch`.
            public_key: Refuse a release that the holder of this ed25519 key (PEM, or a path to it) has not signed.
            sha256: Hex hash that the file's bytes must have.
            threads: Threads for one run of the network. `predict` runs it in several threads at once, so that more
                than 1 is worth it only where single images are asked about on an idle machine.

        Raises:
            ModelError: The file is missing, not ONNX, has another hash, refers to other files, or is not a model of
                this factory: metadata, inputs or outputs are not as they should be.
            RegistryError: The registry lacks the release, cannot be reached, or holds something that was altered.
        """
        if threads < 1:
            raise FactoryError(f"threads {threads}: expected 1 or more")
        if registry is not None:
            from clip_factory.runtime.releases.fetch import fetch

            file = fetch(os.fspath(path), registry, public_key=public_key)
            model = cls._from_bytes(file.data, f"{file.release} of {registry}", sha256, threads, file.release)
            _check_release(model, file.release)
            return model
        if public_key is not None:
            raise RegistryError(f"{path}: a public key, and no registry to check", hint="a file alone has no signature")
        return cls._from_bytes(read_model(path), str(path), sha256, threads)

    @classmethod
    def _from_bytes(
        cls, data: bytes, path: str, sha256: str | None, threads: int, release: Release | None = None
    ) -> Model:
        actual = hashlib.sha256(data).hexdigest()
        if sha256 is not None and actual != sha256.lower():
            raise ModelError(f"{path}: sha256 is {actual}, not {sha256}", hint="the file was altered: fetch it again")
        try:
            session = open_session(data, threads)
            metadata = MappingProxyType(with_current_keys(read_metadata(session)))
            check_integrity(data, metadata)
            threshold, size = check_metadata(metadata)
            region = read_region(metadata)
            check_graph(session.get_inputs(), session.get_outputs(), size)
        except ModelError as error:
            raise ModelError(f"{path}: {plain(error.what, 400)}", hint=error.hint) from None
        name, question = metadata["name"], metadata["question"]
        return cls(name, question, threshold, size, region, metadata, actual, release, session, data, threads)

    @overload
    def predict(
        self,
        images: bytes | Image.Image,
        *,
        threshold: float | None = None,
        batch_size: int = BATCH_SIZE,
        workers: int | None = None,
        scores: ScoreHistogram | None = None,
    ) -> Prediction: ...
    @overload
    def predict(  # a path may be of a photo or of a folder, an array of one picture or of a batch
        self,
        images: str | os.PathLike[str] | np.ndarray,
        *,
        threshold: float | None = None,
        batch_size: int = BATCH_SIZE,
        workers: int | None = None,
        scores: ScoreHistogram | None = None,
    ) -> Any: ...
    @overload
    def predict(
        self,
        images: Iterable[ImageSource],
        *,
        threshold: float | None = None,
        batch_size: int = BATCH_SIZE,
        workers: int | None = None,
        scores: ScoreHistogram | None = None,
    ) -> list[Prediction]: ...
    def predict(
        self,
        images: Images,
        *,
        threshold: float | None = None,
        batch_size: int = BATCH_SIZE,
        workers: int | None = None,
        scores: ScoreHistogram | None = None,
    ) -> Prediction | list[Prediction]:
        """Answer for a picture, a folder, or many pictures; like `iter_predict`, all at once.

        Returns:
            For one picture one `Prediction`; for a folder, a list, an array `(N, H, W, 3)` or any other iterable a
            list, in order: of a folder its photos sorted by path. What cannot be read has an `error`, and raises none.
        """
        predictions = list(
            self.iter_predict(images, threshold=threshold, batch_size=batch_size, workers=workers, scores=scores)
        )
        return predictions[0] if is_single(images) else predictions

    def iter_predict(
        self,
        images: Images,
        *,
        threshold: float | None = None,
        batch_size: int = BATCH_SIZE,
        workers: int | None = None,
        scores: ScoreHistogram | None = None,
    ) -> Iterator[Prediction]:
        """Answer for any number of images, in order, while threads read and answer the next ones.

        Args:
            images: A folder (its photos, recursively, sorted by path), one picture, or any iterable of pictures:
                paths, bytes of files, PIL images, or uint8 arrays (H, W), (H, W, 3) or (H, W, 4), as `read_rgb` takes
                them; taken from the iterable up to `workers` + 1 batches before they are answered.
            threshold: Probability in [0, 1] from which the answer is yes, instead of the model's own.
            batch_size: Maximum of images a run of the network; the first runs are smaller.
            workers: Threads that read images and run the network; by default one for each processor. With 1, and for a
                single image, that is the caller's own.
            scores: A histogram of this model in which the probabilities are counted, also those of images that were
                answered ahead and never asked for; see `clip_factory.runtime.drift`.

        Yields:
            One prediction for each image; one that cannot be read gets an `error`, and the others go on.

        Raises:
            FactoryError: An argument is out of range, `scores` is of another model, or `images` is nothing that
                pictures could come from.
        """
        rows = iter_predict_all(
            [self], images, threshold=threshold, batch_size=batch_size, workers=workers, scores=[scores]
        )
        return _only_model(rows)

    def predict_video(
        self,
        path: str | os.PathLike[str],
        *,
        every: str | float = DEFAULT_EVERY,
        threshold: float | None = None,
        scores: ScoreHistogram | None = None,
    ) -> VideoPrediction:
        """Answer for a video, at 0, `every`, twice `every` and so on; needs PyAV (`clip-factory[video]`).

            for span in model.predict_video("gate3.mp4", every="1s").spans:
                print(span.start, span.end, span.mean)

        Args:
            path: The video.
            every: From one sample to the next: `2s`, `500ms`, or a number of seconds.
            threshold: Probability in [0, 1] from which the answer is yes, instead of the model's own.
            scores: A histogram of this model in which the probabilities are counted.

        Returns:
            The answers, the spans of yes, and an `error` where the video cannot be read to its end.

        Raises:
            FactoryError: An argument is out of range, or `scores` is of another model.
        """
        from clip_factory.runtime.video_predictions import predict_video

        return predict_video(self, path, every=every, threshold=threshold, scores=scores)

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        """Run the network on squares made by `load_square`, of the model's region.

        Args:
            batch: uint8 `(N, image_size, image_size, 3)`, RGB in [0, 255].

        Returns:
            float32 `(N,)`, calibrated probabilities of yes in [0, 1].

        Raises:
            ImageError: The batch has another type or shape.
            ModelError: The network fails, or what it gives is no probability.
        """
        size = self.image_size
        if batch.dtype != np.uint8 or batch.shape[1:] != (size, size, 3):
            raise ImageError(f"batch of {batch.dtype} {batch.shape}: expected uint8 (N, {size}, {size}, 3)")
        if len(batch) == 0:
            return np.empty(0, np.float32)
        try:
            (probability,) = self._session.run(["probability"], {"image": batch})
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelError(f"{plain(self.name)}: the network fails ({first_line(error)})") from None
        if probability.shape != (len(batch),) or not ((probability >= 0) & (probability <= 1)).all():
            raise ModelError(
                f"{plain(self.name)}: the network gives {probability.shape} values that are no probabilities"
            )
        return np.asarray(probability, np.float32)

    def verify(self) -> float:
        """Replay the test vectors stored in the file: does it answer here as it did when it was exported?

        Returns:
            The largest absolute difference of a probability.

        Raises:
            ModelError: It is over `VERIFY_TOLERANCE`, or the file holds no test vectors.
        """
        batch, expected = read_test_vectors(self.metadata, self.image_size)
        difference = float(np.abs(self.probabilities(batch) - expected).max())
        if not difference <= VERIFY_TOLERANCE:  # so that a stored NaN does not pass
            raise ModelError(
                f"{plain(self.name)}: answers differ by {difference:.4f} from those stored in the file (limit"
                f" {VERIFY_TOLERANCE})",
                hint="the file was altered, or onnxruntime runs it wrongly on this machine",
            )
        return difference

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[object, ...]]:
        """Pickled as the bytes of its file, which are loaded and checked again: it may go to other processes.

        A copy that a fork makes answers too, as long as `threads` is 1; a network's own threads do not survive a fork.
        """
        return _from_bytes, (self._data, self.name, self._threads, self.release)

    def __repr__(self) -> str:
        question = self.question if len(self.question) <= MAX_QUESTION else self.question[: MAX_QUESTION - 3] + "..."
        named = str(self.release or self.name)
        return f"Model({named!r}, {question!r}, {self.image_size} px, threshold {self.threshold:.3g})"


def _from_bytes(data: bytes, name: str, threads: int, release: Release | None) -> Model:
    return Model._from_bytes(data, name, None, threads, release)


def _only_model(rows: Generator[tuple[Prediction, ...], None, None]) -> Iterator[Prediction]:
    """The one prediction of each row; closed half-way, it ends the threads at once."""
    with closing(rows):
        for (one,) in rows:
            yield one


def _check_release(model: Model, release: Release) -> None:
    """Refuse a file that is not the model that the release describes, though its hash is right."""
    from clip_factory.runtime.releases.release_record import one_line

    for what, inside, recorded in (
        ("name", model.name, release.name),
        ("threshold", model.threshold, release.threshold),
        ("question", one_line(model.question), release.question),
    ):
        if inside != recorded:
            raise RegistryError(
                f"{release}: its file has {what} {inside!r}, the registry says {recorded!r}",
                hint="do not use it; ask who runs the registry",
            )
