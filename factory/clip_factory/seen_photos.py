"""Which photos shaped a model, as its release carries them: so that it is judged by photos that it has never seen."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from clip_factory.errors import RegistryError
from clip_factory.images.scan import DHASH_BITS, PHASH_BITS
from clip_factory.labels import Labels
from clip_factory.run_folder import IMAGES, SPLITS, RunFolder
from clip_factory.runtime.atomic import write_text

COLUMNS = ("sha256", "split", "phash", "dhash")
ROWS_AT_ONCE = 500


@dataclass(frozen=True, eq=False)
class SeenPhotos:
    """The photos that a model was trained on or its threshold placed by; arrays of length M."""

    sha256: frozenset[str]
    phash: np.ndarray
    """uint64, perceptual hashes."""
    dhash: np.ndarray
    """uint64, difference hashes."""

    @classmethod
    def parse(cls, data: bytes, where: str) -> SeenPhotos:
        """Of the content of a release's splits.csv.

        Raises:
            RegistryError: It is not what `write_splits` writes.
        """
        try:
            reader = csv.DictReader(io.StringIO(data.decode("ascii")))
            rows = [row for row in reader if row["split"] in ("train", "val")]
            hashed = [row for row in rows if row["phash"]]
            phash, dhash = (np.array([int(row[name], 16) for row in hashed], np.uint64) for name in ("phash", "dhash"))
            return cls(frozenset(row["sha256"] for row in rows), phash, dhash)
        except (ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
            raise RegistryError(f"{where}: not a table of splits ({error})", hint="do not use it") from None

    def includes(self, labels: Labels, images: pa.Table) -> np.ndarray:
        """Which of N photos are among these, or look like one of them; bool `(N,)`.

        Args:
            labels: The N photos.
            images: The images.parquet that they come from.
        """
        hashes = _hashes(images)
        known = np.array([sha256 in self.sha256 for sha256 in labels.sha256], bool)
        wanted = [(row, hashes[sha]) for row, sha in enumerate(labels.sha256) if sha in hashes and not known[row]]
        for start in range(0, len(wanted), ROWS_AT_ONCE):
            part = wanted[start : start + ROWS_AT_ONCE]
            phash, dhash = (np.array([int(pair[i], 16) for _, pair in part], np.uint64) for i in (0, 1))
            near = np.bitwise_count(phash[:, None] ^ self.phash[None]) <= PHASH_BITS
            near &= np.bitwise_count(dhash[:, None] ^ self.dhash[None]) <= DHASH_BITS
            known[[row for row, _ in part]] = near.any(axis=1)
        return known


def write_splits(run: RunFolder) -> None:
    """Write splits.csv: each photo's sha256, split, and the hashes by which look-alikes are told."""
    labels, hashes = Labels.of_run(run), _hashes(run.table(IMAGES, "scan"))
    lines = [",".join(COLUMNS)]
    for sha256, split in zip(labels.sha256, labels.split, strict=True):
        lines.append(",".join((sha256, split, *hashes.get(sha256, ("", "")))))
    write_text(run.file(SPLITS), "\n".join(lines) + "\n")


def _hashes(images: pa.Table) -> dict[str, tuple[str, str]]:
    """Perceptual and difference hash by sha256; none of an images.parquet that names none."""
    return dict(_hash_rows(images)) if {"phash", "dhash"} <= set(images.column_names) else {}


def _hash_rows(images: pa.Table) -> Iterator[tuple[str, tuple[str, str]]]:
    for sha256, phash, dhash in zip(*(images[name].to_pylist() for name in ("sha256", "phash", "dhash")), strict=True):
        if phash and dhash:
            yield sha256, (phash, dhash)
