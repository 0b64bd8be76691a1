"""A whole photo for people, with the region that is asked about marked in it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from clip_factory.runtime.region import Region

DIMMED = 0.4
"""Brightness of what lies outside of the region, as a share of its own."""
LINE = (255, 196, 0)
EDGE = (0, 0, 0)
"""The region's outline is a bright line between two dark ones: it shows on any photo."""
WIDTH = 250
"""The outline is one pixel wide for each so many of the photo's shorter side, and two at least: JPEG blurs colors."""


def marked(photo: Image.Image, region: Region) -> Image.Image:
    """The whole photo, dim where a model does not look, with a line around its region.

    Args:
        photo: Upright RGB; the outline is for its size as it is.
        region: The region.

    Returns:
        A new RGB image of the same size.
    """
    left, top, right, bottom = region.pixels(photo.width, photo.height)
    seen = np.zeros((photo.height, photo.width), bool)
    inside = True if region.mask is None else region.mask.stretched(right - left, bottom - top)
    seen[top:bottom, left:right] = inside
    pixels = np.asarray(photo)
    image = Image.fromarray(np.where(seen[:, :, None], pixels, (pixels * DIMMED).astype(np.uint8)))
    draw, width = ImageDraw.Draw(image), max(2, min(photo.size) // WIDTH)
    for start, color in ((0, EDGE), (width, LINE), (2 * width, EDGE)):
        box = (left - 2 * width + start, top - 2 * width + start, right + 2 * width - start, bottom + 2 * width - start)
        draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=color, width=width)
    return image
