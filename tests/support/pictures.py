"""Rendered pictures of discs and bars, which a small network can learn in seconds."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from clip_factory.runtime.preprocessing import load_square


def draw_shape(shape: str, seed: int, size: int = 72) -> Image.Image:
    """A disc or a bar in a random place and color on a noisy ground."""
    random = np.random.default_rng([seed, len(shape)])
    ground = random.normal(random.integers(60, 200, 3), 18, (size, size, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(ground)
    draw = ImageDraw.Draw(image)
    x, y, r = (int(v) for v in random.integers((20, 20, 10), (size - 20, size - 20, 18)))
    color = tuple(random.integers(0, 255, 3).tolist())
    if shape == "disc":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=color)
    else:
        draw.rectangle((x - r, y - 4, x + r, y + 4), fill=color)
    return image


def discs_and_bars(count: int, size: int, first: int = 0) -> np.ndarray:
    """Discs and bars by turns, from a number on, as a student sees them: uint8 `(count, size, size, 3)`."""
    pictures = [draw_shape(("disc", "bar")[number % 2], number) for number in range(first, first + count)]
    return np.stack([load_square(picture, size) for picture in pictures])
