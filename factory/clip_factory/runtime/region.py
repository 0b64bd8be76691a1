"""The part of each photo that a model sees, where a scenario names one: cut out the same way in every stage.

Coordinates are shares of the upright photo, so that one region serves photos of any size. This module imports nothing
else of the package.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

FILL = (128, 128, 128)
"""What stands in the place of pixels that a mask leaves out: the middle of the range, RGB."""
MAX_CELLS = 128
"""Most columns and most rows of a mask's cells over the whole photo."""
MIN_PIXELS = 32
"""A region of fewer pixels a side shows a model little: no student sees smaller squares."""
MIN_SHARE = 0.001
"""Least width and height of a region."""
ROUNDING = 1e-9
"""By how much `x + w` may exceed 1: decimal fractions have no exact sum."""


class Pixels(NamedTuple):
    """A region in one photo, in pixels; right and bottom are the first that do not belong to it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Mask:
    """Which parts of a region are seen: a grid of cells that is stretched over it."""

    columns: int
    rows: int
    bits: bytes
    """A bit a cell, row after row from the top left, the most significant first; 1: seen. The last byte ends in 0s."""

    @classmethod
    def of(cls, cells: np.ndarray) -> Mask:
        """Of bool `(rows, columns)`."""
        return cls(cells.shape[1], cells.shape[0], np.packbits(cells).tobytes())

    @property
    def cells(self) -> np.ndarray:
        """Bool `(rows, columns)`."""
        flat = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=self.columns * self.rows)
        return flat.reshape(self.rows, self.columns).astype(bool)

    def stretched(self, width: int, height: int) -> np.ndarray:
        """Bool `(height, width)`: each pixel has the value of the cell that its center lies in."""
        rows = (2 * np.arange(height) + 1) * self.rows // (2 * height)
        columns = (2 * np.arange(width) + 1) * self.columns // (2 * width)
        return self.cells[rows[:, None], columns[None, :]]


@dataclass(frozen=True)
class Region:
    """A box in a photo, and a mask within it where not all of the box is seen."""

    box: tuple[float, float, float, float]
    """Left edge, top edge, width and height, in shares of the upright photo's width and height."""
    mask: Mask | None = None

    @classmethod
    def of_cells(cls, cells: np.ndarray) -> Region | None:
        """The region of a mask over whole photos: the box around what is seen, and what in it is not.

        Args:
            cells: bool `(rows, columns)`, true where it is seen.

        Returns:
            None where all of a photo is seen.

        Raises:
            ValueError: Nothing is seen.
        """
        rows, columns = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
        if not len(rows):
            raise ValueError("nothing of a photo would be seen")
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        inside, (height, width) = cells[top:bottom, left:right], cells.shape
        box = (left / width, top / height, (right - left) / width, (bottom - top) / height)
        return cls.of_box(box) if inside.all() else cls(box, Mask.of(inside))

    @classmethod
    def of_box(cls, box: tuple[float, float, float, float]) -> Region | None:
        """The region of a box; None where that is the whole photo."""
        return None if box == (0, 0, 1, 1) else cls(box)

    @classmethod
    def parse(cls, tree: Any) -> Region:
        """The region that `to_json` gave.

        Raises:
            ValueError: It is none.
        """
        expected = {"box", "mask", "fill"} if isinstance(tree, dict) and "mask" in tree else {"box"}
        if not isinstance(tree, dict) or tree.keys() != expected:
            raise ValueError("a region has a box, and with a mask a fill")
        if (fault := box_fault(tree["box"])) is not None:
            raise ValueError(fault)
        x, y, width, height = map(float, tree["box"])
        if "mask" not in tree:
            return cls((x, y, width, height))
        if tree["fill"] != list(FILL):
            raise ValueError(f"fill {tree['fill']!r}, expected {list(FILL)}")
        return cls((x, y, width, height), _parse_mask(tree["mask"]))

    def to_json(self) -> dict[str, Any]:
        """As the metadata of models holds it: `box`; with a mask its cells in base64, and the color of the rest."""
        if self.mask is None:
            return {"box": list(self.box)}
        bits = base64.b64encode(self.mask.bits).decode("ascii")
        mask = {"columns": self.mask.columns, "rows": self.mask.rows, "bits": bits}
        return {"box": list(self.box), "mask": mask, "fill": list(FILL)}

    @property
    def key(self) -> str:
        """Tells regions apart: 12 hex digits, which change with whatever changes the pixels."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def says(self) -> str:
        """The region in words."""
        left, top, right, bottom = (f"{100 * edge:.3g}" for edge in self.edges)
        masked = "" if self.mask is None else f", of which a mask shows {100 * self.mask.cells.mean():.0f} %"
        return f"{left} to {right} % of the width, {top} to {bottom} % of the height{masked}"

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, in shares; sums of decimal fractions may be a trifle over 1."""
        x, y, width, height = self.box
        return x, y, x + width, y + height

    def pixels(self, width: int, height: int) -> Pixels:
        """Where the region lies in a photo of this size; edges are rounded, halves up, and it has a pixel at least."""
        (left, right), (top, bottom) = (
            _between(self.edges[axis], self.edges[axis + 2], side) for axis, side in enumerate((width, height))
        )
        return Pixels(left, top, right, bottom)

    def is_small(self, width: int, height: int) -> bool:
        """Whether the region has fewer than `MIN_PIXELS` a side in a photo of this size."""
        left, top, right, bottom = self.pixels(width, height)
        return min(right - left, bottom - top) < MIN_PIXELS

    def crop(self, image: Image.Image) -> Image.Image:
        """The region of an upright RGB image, as a new RGB image; what its mask leaves out has the color `FILL`."""
        part = image.crop(self.pixels(image.width, image.height))
        if self.mask is None:
            return part
        seen = self.mask.stretched(part.width, part.height)
        return Image.fromarray(np.where(seen[:, :, None], np.asarray(part), np.array(FILL, np.uint8)))

    def min_side(self, wanted: int) -> int:
        """The least side of a whole photo whose region has `wanted` pixels a side, whichever way the photo lies."""
        return math.ceil(wanted / min(self.box[2:]))


def _between(start: float, end: float, side: int) -> tuple[int, int]:
    """Two edges in shares of a side, as pixels."""
    first = min(math.floor(start * side + 0.5), side - 1)
    return first, min(max(math.floor(end * side + 0.5), first + 1), side)


def box_fault(box: Any) -> str | None:
    """Why something is no box `[x, y, w, h]` in shares of a photo; None where it is one."""
    numbers = isinstance(box, (list, tuple)) and all(
        isinstance(one, (int, float)) and not isinstance(one, bool) for one in box
    )
    if not numbers or len(box) != 4:
        return "must be four numbers [x, y, w, h]: left edge, top edge, width, height"
    x, y, width, height = box
    if not all(0 <= one <= 1 for one in box):
        return "must be shares of the photo's width and height, from 0 to 1, and not pixels"
    if min(width, height) < MIN_SHARE:
        return f"needs a width and a height of at least {MIN_SHARE}"
    if x + width > 1 + ROUNDING or y + height > 1 + ROUNDING:
        return "reaches beyond the photo: x + w and y + h must be at most 1"
    return None


def _parse_mask(tree: Any) -> Mask:
    if not isinstance(tree, dict) or tree.keys() != {"columns", "rows", "bits"}:
        raise ValueError("a mask has columns, rows and bits")
    columns, rows = tree["columns"], tree["rows"]
    if not all(type(one) is int and 1 <= one <= MAX_CELLS for one in (columns, rows)):
        raise ValueError(f"a mask has 1 to {MAX_CELLS} columns and rows")
    bits = base64.b64decode(tree["bits"], validate=True) if isinstance(tree["bits"], str) else b""
    if len(bits) != -(-columns * rows // 8):
        raise ValueError("a mask has a bit for each cell")
    mask = Mask(columns, rows, bits)
    if Mask.of(mask.cells) != mask:
        raise ValueError("the bits of a mask end in zeros")
    return mask
