"""Boxes and masks as they are laid over photos: lines that show on light and dark ones alike."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from clip_factory.label_sources.visual_evidence import Box, Mask, VisualEvidence

YES, NO = "#2fe0cb", "#ffa25a"
"""Colors of what speaks for yes and for no, bright enough beside the dark casing of each line."""
INSIDE, EDGE, CASING = (47, 224, 203, 90), (47, 224, 203, 255), (0, 0, 0, 150)
"""Color and opacity of the cells of a mask: within it, along its edge, and around it."""
NAMED = 3
"""Boxes of a photo whose phrase and score are written on it; more would hide the photo."""
LINE, LETTER = 15, 7
"""Height of such a line, and about the width of a letter, in pixels of the picture."""


@dataclass(frozen=True)
class DrawnBox:
    """One box, in pixels of the picture."""

    x: float
    y: float
    width: float
    height: float
    color: str
    text: str
    """Phrase and score; empty where it is not written."""
    text_x: float
    text_y: float
    """Where the line of text begins: over the box, or within it at the top of the picture."""


@dataclass(frozen=True)
class Overlay:
    """What is drawn over one picture."""

    width: int
    """Of the picture, in pixels."""
    height: int
    boxes: tuple[DrawnBox, ...]
    """In the order in which they are drawn: the best is on top."""
    mask: str
    """`data:` URI of a PNG that spans the picture; empty where there is none."""
    mask_text: str
    text: str
    """All of it in words."""


def overlay(evidence: VisualEvidence, size: tuple[int, int], positive: Collection[str]) -> Overlay | None:
    """What to draw for an answer; None where nothing is seen.

    Args:
        evidence: Of one photo.
        size: Width and height of the picture of it.
        positive: Phrases for yes.
    """
    if not evidence.boxes and evidence.mask is None:
        return None
    width, height = size
    drawn = [_drawn(box, size, box.phrase in positive, named=i < NAMED) for i, box in enumerate(evidence.boxes)]
    share = mask_words(evidence.mask) if evidence.mask else ""
    words = [*(f"{box.phrase} {box.score:.2f}" for box in evidence.boxes), *([share] if share else [])]
    mask = f"data:image/png;base64,{base64.b64encode(tinted(evidence.mask)).decode()}" if evidence.mask else ""
    return Overlay(width, height, tuple(reversed(drawn)), mask, share, ", ".join(words))


def drawn_evidence(evidence: VisualEvidence, positive: Collection[str]) -> dict[str, Any]:
    """The same as plain values, for a page that draws it itself: `boxes` with shares of the photo, `mask` in base64."""
    boxes = [asdict(box) | {"yes": box.phrase in positive} for box in evidence.boxes]
    mask = base64.b64encode(tinted(evidence.mask)).decode() if evidence.mask else ""
    return {"boxes": boxes, "mask": mask, "says": mask_words(evidence.mask) if evidence.mask else ""}


def mask_words(mask: Mask) -> str:
    """What a mask shows, and how much of it."""
    return f"{mask.phrase} {mask.share:.1%}"


def tinted(mask: Mask) -> bytes:
    """A PNG with transparency to be stretched over the photo: the mask in color, with an edge and its casing."""
    inside = mask.cells() >= 128
    if not inside.any():  # all of it is smaller than half a cell
        inside = mask.cells() > 0
    colors = np.zeros((*inside.shape, 4), np.uint8)
    colors[_grown(inside) & ~inside] = CASING
    colors[inside] = INSIDE
    colors[inside & _grown(~inside)] = EDGE
    file = io.BytesIO()
    Image.fromarray(colors).save(file, "PNG", optimize=True)
    return file.getvalue()


def _grown(cells: np.ndarray) -> np.ndarray:
    """Cells, and those beside one of them: bool `(h, w)`."""
    padded = np.pad(cells, 1)
    return np.asarray(cells | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:])


def _drawn(box: Box, size: tuple[int, int], yes: bool, *, named: bool) -> DrawnBox:
    width, height = size
    y, text = box.y * height, f"{box.phrase} {box.score:.2f}" if named else ""
    return DrawnBox(
        x=round(box.x * width, 1),
        y=round(y, 1),
        width=round(box.width * width, 1),
        height=round(box.height * height, 1),
        color=YES if yes else NO,
        text=text,
        text_x=round(max(0, min(box.x * width, width - LETTER * len(text))) + 3, 1),
        text_y=round(y - 4 if y >= LINE else y + LINE - 3, 1),
    )
