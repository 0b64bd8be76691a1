"""Frames of a camera that never moves: what happens in a door is asked, and the rest of the photo says the opposite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from support.axis_encoder import AxisEncoder

SIZE = (200, 140)
DOOR = (0.4, 0.3, 0.25, 0.5)
"""Left, top, width and height, in shares."""
RED, GREEN, GRAY = (214, 40, 44), (40, 160, 60), (120, 120, 120)


def door_encoder() -> AxisEncoder:
    """Photos by their mean color, words by red and green."""
    return AxisEncoder("red", "green", scale=30.0)


def door_frame(number: int) -> Image.Image:
    """A red disc in the door in every second frame, else a green one; on the wall large things of the other color."""
    random, yes = np.random.default_rng(number), number % 2 == 0
    image = Image.new("RGB", SIZE, GRAY)
    draw = ImageDraw.Draw(image)
    wall = [int(value) for value in random.integers(30, 60, 4)]
    draw.rectangle((0, 0, wall[0], SIZE[1]), fill=GREEN if yes else RED)
    draw.rectangle((SIZE[0] - wall[1], 0, *SIZE), fill=GREEN if yes else RED)
    left, top, width, height = (round(share * side) for share, side in zip(DOOR, SIZE * 2, strict=True))
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=GRAY)
    radius = int(random.integers(10, 18))
    x, y = left + int(random.integers(18, width - 18)), top + int(random.integers(18, height - 18))
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=RED if yes else GREEN)
    grain = random.normal(0, 16, (SIZE[1], SIZE[0], 3))
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def save_frames(folder: Path, count: int) -> None:
    """PNG files `frame000.png` and so on, and `gold.csv` with the truth of all of them beside the folder."""
    folder.mkdir(parents=True)
    rows = ["path,label"]
    for number in range(count):
        door_frame(number).save(folder / f"frame{number:03}.png")
        rows.append(f"frame{number:03}.png,{'no' if number % 2 else 'yes'}")
    (folder.parent / "gold.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
