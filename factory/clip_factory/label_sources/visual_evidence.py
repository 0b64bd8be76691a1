"""What a label source can show for its answer about a photo: boxes, or the part of it that is marked."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from clip_factory.errors import RunError
from clip_factory.run_folder import EVIDENCE, RunFolder
from clip_factory.runtime.atomic import atomic

MASK_SIDE = 64
"""Most cells of a mask along a side."""
DIGITS = 5
"""Decimals that shares and scores are kept with."""
BOXES = pa.list_(
    pa.struct([("phrase", pa.string()), *((name, pa.float64()) for name in ("score", *"xy", "width", "height"))])
)
MASK = pa.struct([("phrase", pa.string()), ("share", pa.float64()), ("png", pa.binary())])
STORED = pa.struct([("boxes", BOXES), ("mask", MASK)])
"""How the evidence about one photo is kept."""


@dataclass(frozen=True)
class Box:
    """A part of a photo that a phrase describes; lengths are shares of the upright photo, from its top left corner."""

    phrase: str
    score: float
    """In [0, 1]."""
    x: float
    """The left edge."""
    y: float
    """The upper edge."""
    width: float
    height: float


@dataclass(frozen=True)
class Mask:
    """The part of a photo that counts as yes."""

    phrase: str
    """The phrase for yes that has the most of it."""
    share: float
    """Of the photo's area, in [0, 1]."""
    png: bytes
    """A gray PNG of up to `MASK_SIDE` cells a side that spans the photo: how much of each cell counts, 0 to 255."""

    @classmethod
    def of_pixels(cls, phrase: str, pixels: np.ndarray) -> Mask:
        """The mask of pixels that count: bool `(H, W)`, spanning the photo."""
        height, width = pixels.shape
        image = Image.fromarray(np.where(pixels, np.uint8(255), np.uint8(0)))
        cells = image.resize((min(width, MASK_SIDE), min(height, MASK_SIDE)), Image.Resampling.BOX)
        file = io.BytesIO()
        cells.save(file, "PNG", optimize=True)
        return cls(phrase, round(float(pixels.mean()), DIGITS), file.getvalue())

    def cells(self) -> np.ndarray:
        """How much of each cell counts: uint8 `(h, w)`."""
        with Image.open(io.BytesIO(self.png), formats=("PNG",)) as image:
            return np.asarray(image.convert("L"))


@dataclass(frozen=True)
class VisualEvidence:
    """What is shown for the answer about one photo; empty where nothing is seen."""

    boxes: tuple[Box, ...] = ()
    """The highest score first."""
    mask: Mask | None = None

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any] | None) -> VisualEvidence:
        """What was `STORED`, as plain values."""
        boxes, mask = (plain or {}).get("boxes") or (), (plain or {}).get("mask")
        return cls(tuple(Box(**box) for box in boxes), Mask(**mask) if mask else None)


def together(parts: Sequence[VisualEvidence]) -> VisualEvidence:
    """What several sources show for their answers about one photo: all their boxes, and the first mask."""
    boxes = sorted((box for part in parts for box in part.boxes), key=lambda box: -box.score)
    return VisualEvidence(tuple(boxes), next((part.mask for part in parts if part.mask), None))


def to_arrow(evidence: Sequence[VisualEvidence]) -> pa.Array:
    """As the store keeps it."""
    return pa.array([asdict(one) for one in evidence], STORED)


def write_evidence(run: RunFolder, sha256s: Sequence[str], evidence: Sequence[VisualEvidence]) -> None:
    """Write evidence.parquet, whole or not at all: a row a photo, with the columns sha256, boxes and mask."""
    boxes, mask = to_arrow(evidence).flatten()
    with atomic(run.file(EVIDENCE)) as temporary:
        pq.write_table(pa.table([pa.array(sha256s, pa.string()), boxes, mask], ["sha256", "boxes", "mask"]), temporary)


def read_evidence(run: RunFolder) -> dict[str, VisualEvidence]:
    """What evidence.parquet of a run holds, by sha256; empty where its label source shows nothing.

    Raises:
        RunError: The file is damaged.
    """
    if not run.file(EVIDENCE).is_file():
        return {}
    rows = run.table(EVIDENCE, "label", ["sha256", "boxes", "mask"]).to_pylist()
    try:
        return {row["sha256"]: VisualEvidence.of_plain(row) for row in rows}
    except (KeyError, TypeError) as error:
        path = run.file(EVIDENCE)
        raise RunError(
            f"{path}: damaged ({error})", hint=f"delete {path.name}, then: factory label {run.path}"
        ) from None
