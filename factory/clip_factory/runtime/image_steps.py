"""What an encoder does to a photo before its network sees it, as a list of steps, with Pillow alone.

The steps are torchvision's, by their effect on PIL images: a resized photo is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from clip_factory.runtime.runtime_errors import ModelError

MAX_ASPECT = 8
"""Times its shorter side that an image may be long before it is cropped to its middle."""
MAX_SIDE = 10_000
"""Pixels that a step may ask for."""
RESIZE_SHORTER, RESIZE, CENTER_CROP = "resize_shorter", "resize", "center_crop"
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")

Step = Mapping[str, Any]
"""`{"resize_shorter": pixels, "filter": name}`, `{"resize": [width, height], "filter": name}` or
`{"center_crop": [width, height]}`."""


def to_pixels(image: Image.Image, steps: Sequence[Step]) -> np.ndarray:
    """What the network sees of one RGB image: uint8 `(H, W, 3)`.

    A long image is cropped to its middle before it is resized, where only that is seen: the shorter side of
    1 x 60,000 pixels, resized to 224, makes the longer one millions.
    """
    if sees_the_middle(steps):
        image = middle(image)
    for step in steps:
        image = _applied(image, step)
    return np.asarray(image)


def check_steps(steps: Any) -> tuple[int, int]:
    """Width and height in pixels of what comes out of steps that a file names.

    Raises:
        ModelError: They are no steps, or their result has no fixed size.
    """
    size: tuple[int, int] | None = None
    for step in steps if isinstance(steps, list) else [None]:
        size = _size_after(size, step)
    if size is None:
        raise ModelError("its preprocessing ends with no fixed size", hint="export the encoder again")
    return size


def sees_the_middle(steps: Sequence[Step]) -> bool:
    """Whether the shorter side is resized and the middle kept, so that no more is seen of a long image."""
    return len(steps) > 1 and RESIZE_SHORTER in steps[0] and CENTER_CROP in steps[1]


def middle(image: Image.Image) -> Image.Image:
    """The middle of a long image, `MAX_ASPECT` times as long as it is wide; any other as it is."""
    side = MAX_ASPECT * min(image.size)
    if max(image.size) <= side:
        return image
    left, top = (max(0, (length - side) // 2) for length in image.size)
    return image.crop((left, top, min(image.width, left + side), min(image.height, top + side)))


def _applied(image: Image.Image, step: Step) -> Image.Image:
    if RESIZE_SHORTER in step:
        return _resized(image, _shorter_side(image.size, step[RESIZE_SHORTER]), step["filter"])
    if RESIZE in step:
        return _resized(image, tuple(step[RESIZE]), step["filter"])
    width, height = step[CENTER_CROP]
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _resized(image: Image.Image, size: tuple[int, ...], name: str) -> Image.Image:
    return image if image.size == size else image.resize((size[0], size[1]), Image.Resampling[name.upper()])


def _shorter_side(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """The size of an image whose shorter side is made `pixels` long; the longer one is rounded down."""
    longer = int(pixels * max(size) / min(size))
    return (pixels, longer) if size[0] <= size[1] else (longer, pixels)


def _size_after(size: tuple[int, int] | None, step: Any) -> tuple[int, int] | None:
    """The size of any image after a step; None where it depends on the image."""
    kinds = [kind for kind in (RESIZE_SHORTER, RESIZE, CENTER_CROP) if isinstance(step, dict) and kind in step]
    sides: Any = step[kinds[0]] if len(kinds) == 1 else None
    pixels: list[int] = sides if isinstance(sides, list) else [sides]
    right = all(isinstance(one, int) and 0 < one <= MAX_SIDE for one in pixels)
    if not right or len(pixels) != (1 if kinds == [RESIZE_SHORTER] else 2):
        raise ModelError(f"its preprocessing has a step that is not known: {str(step)[:100]}", hint="export it again")
    if kinds != [CENTER_CROP] and step.get("filter") not in FILTERS:
        raise ModelError(f"its preprocessing resizes with {str(step.get('filter'))[:100]}", hint="export it again")
    return None if kinds == [RESIZE_SHORTER] else (pixels[0], pixels[1])
