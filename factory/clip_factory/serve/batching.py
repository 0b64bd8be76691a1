"""The thread that owns the encoder, and the bounded queue before it: photos of all clients in common batches.

Photos are told apart by the hash of their pixels. One that waits already, or that was embedded a while ago, is not
embedded again: an answer that was lost on its way costs nothing when it is asked for anew.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from clip_factory.memory import keep_memory

if TYPE_CHECKING:
    from clip_factory.encoders import Encoder
    from clip_factory.serve.metrics import Metrics

KEPT_BYTES = 64_000_000
"""Of vectors that are remembered: 41,000 photos of an encoder with 384 dimensions."""
MAX_BATCH_BYTES = 512_000_000
"""A batch is closed when its photos have more than this: large ones, a few at a time."""
MAX_CALLS = 64
"""Requests with texts that may wait."""
MAX_RETRY_AFTER = 30
"""Seconds."""


class FullError(Exception):
    """There is no room; try again after `seconds`."""

    def __init__(self, what: str, seconds: int) -> None:
        super().__init__(f"{what}; try again in {seconds} s")
        self.seconds = seconds


class StoppedError(Exception):
    """The server ends, and accepts nothing more."""


class EncoderFailedError(Exception):
    """The encoder itself has failed; says how."""


class Pixels(NamedTuple):
    """A photo that came over the wire."""

    digest: bytes
    """Hash of its size and its pixels."""
    image: Image.Image


class Ticket:
    """What one request waits for: the vectors of its N photos, float32 `(N, D)`, in `future`."""

    def __init__(self, count: int, dim: int) -> None:
        self.future: Future[np.ndarray] = Future()
        self._vectors = np.empty((count, dim), np.float32)
        self._missing = count

    def fill(self, row: int, outcome: np.ndarray | Exception) -> None:
        """Enter a vector, of which the last completes the ticket, or the reason why there is none."""
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
            return
        self._vectors[row] = outcome
        self._missing -= 1
        if not self._missing:
            self.future.set_result(self._vectors)


@dataclass(eq=False)
class _Waiting:
    """A photo in the queue or in the batch that is being embedded, and the rows of tickets that wait for it."""

    pixels: Pixels
    rows: list[tuple[Ticket, int]] = field(default_factory=list)


class Batcher:
    """Embeds what requests hand in, in batches; `work` is the one thread that calls the encoder."""

    def __init__(
        self,
        encoder: Encoder,
        metrics: Metrics,
        *,
        max_batch: int,
        max_wait: float,
        max_waiting: int,
        max_seconds: float,
    ) -> None:
        """An empty queue.

        Args:
            encoder: What embeds.
            metrics: What is counted.
            max_batch: Photos that the encoder is handed at once.
            max_wait: Seconds that a batch which is not full waits for more.
            max_waiting: Photos that may wait; those beyond are refused.
            max_seconds: No more wait than can be embedded in this time, at the pace of the last batch.
        """
        self.encoder, self.metrics = encoder, metrics
        self.max_batch, self.max_wait = max_batch, max_wait
        self.max_waiting, self.max_seconds = max_waiting, max_seconds
        self._queue: OrderedDict[bytes, _Waiting] = OrderedDict()
        self._running: dict[bytes, _Waiting] = {}
        self._calls: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._kept = _Kept(KEPT_BYTES // (4 * encoder.dim))
        self._changed = threading.Condition()
        self._stopped = False
        self._seconds_a_photo = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether it accepts work."""
        return not self._stopped

    @property
    def retry_after(self) -> int:
        """Seconds until half of what waits is done, as far as is known."""
        seconds = self._seconds_a_photo * len(self._queue) / 2
        return min(MAX_RETRY_AFTER, max(1, math.ceil(seconds)))

    def submit(self, photos: Sequence[Pixels]) -> Ticket:
        """Queue the photos of one request, all of them or none.

        Raises:
            FullError: There is no room for those that are new.
            StoppedError: The server ends.
        """
        ticket = Ticket(len(photos), self.encoder.dim)
        with self._changed:
            self._check_ready()
            kept = [self._kept.get(photo.digest) for photo in photos]
            missing = {photo.digest for photo, vector in zip(photos, kept, strict=True) if vector is None}
            new = missing - self._queue.keys() - self._running.keys()
            if new and self._is_full(len(new)):
                raise FullError(f"{len(self._queue)} photos wait already", self.retry_after)
            for row, (photo, vector) in enumerate(zip(photos, kept, strict=True)):
                if vector is not None:
                    ticket.fill(row, vector)
                else:
                    self._waiting(photo).rows.append((ticket, row))
            self.metrics.reused.inc(len(photos) - len(new))
            self._queue_changed()
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Nobody waits for a ticket any more: its photos leave the queue, but those that others wait for."""
        with self._changed:
            for digest, waiting in [*self._running.items(), *self._queue.items()]:
                waiting.rows = [row for row in waiting.rows if row[0] is not ticket]
                if not waiting.rows:
                    self._queue.pop(digest, None)
            self._queue_changed()

    def call(self, work: Callable[[], Any]) -> Future[Any]:
        """Have the encoder's thread do something else, such as embedding texts, before the next batch of photos.

        Raises:
            FullError: Too many such calls wait.
            StoppedError: The server ends.
        """
        future: Future[Any] = Future()
        with self._changed:
            self._check_ready()
            if len(self._calls) >= MAX_CALLS:
                raise FullError(f"{len(self._calls)} requests with texts wait already", self.retry_after)
            self._calls.append((work, future))
            self._queue_changed()
        return future

    def work(self) -> None:
        """Embed what comes, until `stop`; then finish what waits.

        On Linux it matters which thread this is: in all but the main one glibc has the kernel zero the memory of large
        tensors anew each time, whatever `keep_memory` says, which is a third of the offline teacher's time.
        """
        keep_memory()
        try:
            while (work := self._next()) is not None:
                calls, batch = work
                for one, future in calls:
                    _run(one, future)
                if batch:
                    self._embed(batch)
        finally:
            self.stop()

    def stop(self) -> None:
        """Accept nothing more; `work` ends once nobody waits."""
        with self._changed:
            self._stopped = True
            self._queue_changed()

    def _check_ready(self) -> None:
        if not self.is_ready:
            raise StoppedError("the server ends")

    def _is_full(self, new: int) -> bool:
        waiting = len(self._queue)
        late = self._seconds_a_photo * (waiting + new) > self.max_seconds
        return waiting + new > self.max_waiting or (waiting > 0 and late)

    def _waiting(self, photo: Pixels) -> _Waiting:
        """The photo's place in the batch that is being embedded, else in the queue."""
        return self._running.get(photo.digest) or self._queue.setdefault(photo.digest, _Waiting(photo))

    def _queue_changed(self) -> None:
        self.metrics.waiting.set(len(self._queue) + len(self._running))
        self._changed.notify_all()

    def _next(self) -> tuple[list[tuple[Callable[[], Any], Future[Any]]], list[_Waiting]] | None:
        """What the thread does next: calls that wait, and a batch of photos; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._calls or self._queue)
            if not self._calls and not self._queue:
                return None
            self._changed.wait_for(self._is_urgent, self.max_wait)
            size = 0
            while self._queue and len(self._running) < self.max_batch and size < MAX_BATCH_BYTES:
                digest, waiting = self._queue.popitem(last=False)
                self._running[digest] = waiting
                size += waiting.pixels.image.width * waiting.pixels.image.height * 3
            calls, self._calls = self._calls, []
            return calls, list(self._running.values())

    def _is_urgent(self) -> bool:
        return self._stopped or bool(self._calls) or len(self._queue) >= self.max_batch

    def _embed(self, batch: Sequence[_Waiting]) -> None:
        start = time.perf_counter()
        try:
            self._enter(batch, self._vectors(batch))
        except Exception:  # whatever a network raises: one photo, or their number, was too much for it
            for waiting in batch:
                self._enter([waiting], self._vector_or_error(waiting))
        seconds = time.perf_counter() - start
        self._seconds_a_photo = seconds / len(batch)
        self.metrics.batches.observe(len(batch))
        self.metrics.seconds.inc(seconds)

    def _vector_or_error(self, waiting: _Waiting) -> Sequence[np.ndarray | Exception]:
        """Of a photo by itself, so that no client's photo fails those of others."""
        try:
            return list(self._vectors([waiting]))
        except Exception as error:  # whatever a network raises
            return [EncoderFailedError(f"{type(error).__name__}: {error}")]

    def _vectors(self, batch: Sequence[_Waiting]) -> np.ndarray:
        vectors = self.encoder.embed_images([waiting.pixels.image for waiting in batch])
        vectors = checked_vectors(vectors, len(batch), self.encoder.dim)
        self.metrics.photos.inc(len(batch))
        return vectors

    def _enter(self, batch: Sequence[_Waiting], outcomes: Sequence[np.ndarray | Exception] | np.ndarray) -> None:
        """Hand the outcomes to those who wait, and remember the vectors."""
        with self._changed:
            for waiting, outcome in zip(batch, outcomes, strict=True):
                del self._running[waiting.pixels.digest]
                if not isinstance(outcome, Exception):
                    self._kept.add(waiting.pixels.digest, outcome)
                for ticket, row in waiting.rows:
                    ticket.fill(row, outcome)
            self._queue_changed()


class _Kept:
    """The vectors of the photos that were asked for last."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._vectors: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def get(self, digest: bytes) -> np.ndarray | None:
        vector = self._vectors.get(digest)
        if vector is not None:
            self._vectors.move_to_end(digest)
        return vector

    def add(self, digest: bytes, vector: np.ndarray) -> None:
        self._vectors[digest] = vector.copy()  # a row of a batch would keep all of it
        while len(self._vectors) > self.count:
            self._vectors.popitem(last=False)


def checked_vectors(vectors: np.ndarray, count: int, dim: int) -> np.ndarray:
    """The same as float32 `(count, dim)`.

    Raises:
        ValueError: They have another shape, or are not finite.
    """
    vectors = np.asarray(vectors, np.float32)
    if vectors.shape != (count, dim):
        raise ValueError(f"vectors {vectors.shape}, expected {(count, dim)}")
    if not np.isfinite(vectors).all():
        raise ValueError("vectors that are not finite")
    return vectors


def _run(work: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except Exception as error:  # whatever a network raises
        future.set_exception(EncoderFailedError(f"{type(error).__name__}: {error}"))
