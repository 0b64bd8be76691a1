"""Counts of the scores that a model gave, to be compared with those it gave when it was made.

A histogram forgets the photos: it holds 20 numbers, however many there were, and says nothing of any one of them.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_factory.runtime.atomic import write_bytes
from clip_factory.runtime.runtime_errors import FactoryError
from clip_factory.runtime.safe_text import shown

FORMAT = "clip-factory-scores/1"
BINS = 20
"""Equal bins on [0, 1], as in the model's own `score_histogram`; the last one holds 1 too."""
MAX_LINE = 100_000
Counts = NDArray[np.int64]


class ScoreHistogram:
    """How often a model gave which probability. Safe to feed from several threads.

    Args:
        sha256: Hex sha256 of the model's file: scores of different models are never added up.
        counts: `(20,)` whole numbers, 0 or more, to start from.

    Raises:
        FactoryError: The counts are none.
    """

    def __init__(self, sha256: str, counts: ArrayLike | None = None) -> None:
        self.sha256 = sha256
        self._counts = np.zeros(BINS, np.int64) if counts is None else check_counts(counts, "counts")
        self._lock = threading.Lock()

    @property
    def counts(self) -> Counts:
        """A copy of the `(20,)` counts."""
        with self._lock:
            return self._counts.copy()

    def add(self, probabilities: ArrayLike) -> None:
        """Count probabilities in [0, 1], of any shape.

        Raises:
            FactoryError: One is NaN or out of range; none is counted then.
        """
        values = np.asarray(probabilities, np.float64)
        if not ((values >= 0) & (values <= 1)).all():
            raise FactoryError("a score that is no probability: expected numbers in [0, 1]")
        more = np.histogram(values, BINS, (0, 1))[0]
        with self._lock:
            self._counts += more

    def merge(self, other: ScoreHistogram) -> None:
        """Add the counts of another histogram of the same model.

        Raises:
            FactoryError: It is of another model.
        """
        _same_model(self.sha256, other.sha256, "the other histogram")
        more = other.counts
        with self._lock:
            self._counts += more

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the histogram as a file of its own: one line of JSON, renamed into place."""
        write_bytes(Path(path), self._line())

    def append(self, path: str | os.PathLike[str]) -> None:
        """Add the histogram as one more line of a file; `read_scores` adds the lines up.

        Several processes may append to one file at once: each writes its line in one piece. A histogram without
        scores adds no line, but the file is made and checked.

        Raises:
            FactoryError: The file is there and is none of this model.
        """
        if os.path.exists(path) and os.path.getsize(path):
            with open(path, "rb") as file:
                line = file.readline(MAX_LINE).decode(errors="replace")
            _same_model(self.sha256, _parse_object(line, f"{os.fspath(path)}, line 1").get("sha256"), os.fspath(path))
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        try:
            if self.counts.any():
                os.write(handle, self._line())
        finally:
            os.close(handle)

    def _line(self) -> bytes:
        tree = {"format": FORMAT, "sha256": self.sha256, "counts": self.counts.tolist()}
        return (json.dumps(tree) + "\n").encode()


def check_counts(counts: Any, where: str) -> Counts:
    """Check a histogram that came from outside.

    Returns:
        A new int64 array `(20,)`.

    Raises:
        FactoryError: It is not 20 whole numbers from 0 to 10^15.
    """
    try:
        array = np.array(counts)
    except ValueError:  # ragged
        array = np.array(None)
    # counted as Python's numbers, so that none is rounded or wraps around
    if array.shape != (BINS,) or array.dtype.kind not in "iu" or not ((array >= 0) & (array <= 10**15)).all():
        raise FactoryError(f"{where}: expected {BINS} whole numbers, 0 or more")
    return array.astype(np.int64)


def read_scores(path: str | os.PathLike[str], sha256: str) -> ScoreHistogram:
    """Read what a model has answered since.

    Args:
        path: Histograms as `save` and `append` write them, or what `factory predict --format json` or `csv` prints;
            photos that could not be read have no score and are passed over.
        sha256: Hex sha256 of the model's file, which histograms must bear. Printed predictions bear none.

    Raises:
        FactoryError: The file is missing, is none of these, or holds histograms of another model; the message names
            the line.
    """
    name = os.fspath(path)
    histogram = ScoreHistogram(sha256)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.read(1)
            file.seek(0)
            read = _from_csv if first and first != "{" else _from_json
            for chunk in _chunks(read(file, name, histogram)):
                histogram.add(chunk)
    except UnicodeDecodeError:
        raise FactoryError(f"{name}: not UTF-8 text", hint="expected what `factory predict` wrote") from None
    except OSError as error:
        raise FactoryError(f"{name}: cannot be read ({error.strerror})", hint="check the path") from None
    return histogram


def _from_json(file: IO[str], name: str, into: ScoreHistogram) -> Iterator[float]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        tree = _parse_object(line, where)
        if "counts" in tree:
            _same_model(into.sha256, tree.get("sha256"), where)
            into.merge(ScoreHistogram(into.sha256, check_counts(tree["counts"], where)))
        elif "error" not in tree:
            yield _probability(tree.get("probability"), where)


def _from_csv(file: IO[str], name: str, into: ScoreHistogram) -> Iterator[float]:
    import csv  # only who reads scores needs it

    try:
        rows = csv.DictReader(file)
        if "probability" not in (rows.fieldnames or ()):
            hint = "expected a histogram, or what `factory predict --format csv` or `json` prints"
            raise FactoryError(f"{name}: no column `probability`", hint=hint)
        for row in rows:
            if row["probability"]:
                yield _probability(row["probability"], f"{name}, line {rows.line_num}")
    except csv.Error as error:
        raise FactoryError(f"{name}: not CSV ({error})") from None


def _parse_object(line: str, where: str) -> Mapping[str, Any]:
    try:
        tree = json.loads(line)
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise FactoryError(f"{where}: no JSON object", hint="expected a histogram, or a prediction as JSON")
    if "counts" in tree and tree.get("format") != FORMAT:
        raise FactoryError(f"{where}: `format` is {tree.get('format')!r}, expected {FORMAT!r}")
    return tree


def _probability(value: Any, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not 0 <= number <= 1:
        raise FactoryError(f"{where}: `probability` is {str(value)[:40]!r}, expected a number in [0, 1]")
    return number


def _same_model(expected: str, actual: Any, where: str) -> None:
    if actual != expected:
        origin = f"of the model {shown(actual[:12])}" if isinstance(actual, str) else "of no model"
        raise FactoryError(
            f"{where}: scores {origin}, not of {shown(expected[:12])}",
            hint="keep the scores of each model in its own file",
        )


def _chunks(values: Iterable[float], size: int = 65_536) -> Iterator[list[float]]:
    chunk: list[float] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
