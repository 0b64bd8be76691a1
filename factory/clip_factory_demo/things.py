"""Things that are neither ball nor fruit: a wall clock and a mug."""

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

from clip_factory_demo.noise import Floats, length, mix, smoothstep
from clip_factory_demo.objects import color
from clip_factory_demo.solids import Solid, Surface

ROMAN = ["I", "II", "III", "IIII", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"]
"""A clockmaker's four is IIII."""


def _tube(points: Floats, axis: int, radius: float, half: float, rounding: float) -> Floats:
    """Distance (N,) to a cylinder about an axis (0 x, 1 y, 2 z) with rounded edges."""
    across = length(points[:, [i for i in range(3) if i != axis]]) - (radius - rounding)
    along = np.abs(points[:, axis]) - (half - rounding)
    outside = np.hypot(np.maximum(across, 0), np.maximum(along, 0))
    return (outside + np.minimum(np.maximum(across, along), 0) - rounding).astype(np.float32)


def _hand(draw: ImageDraw.ImageDraw, turn: float, length: float, width: int, ink: str) -> None:
    """One hand of the clock on a 512-pixel face; `turn` in whole turns from twelve."""
    x, y = np.sin(2 * np.pi * turn), -np.cos(2 * np.pi * turn)
    tail = 256 - x * 34, 256 - y * 34
    draw.line([tail, (256 + x * length, 256 + y * length)], fill=ink, width=width)


def clock_face(rng: Generator) -> Floats:
    """A dial as a linear RGB picture (512, 512, 3): numerals or marks, minute ticks, three hands at a random time."""
    paper, ink = [("#f7f5ee", "#15151a"), ("#efe6cf", "#2a1a10"), ("#fdfdfd", "#101010"), ("#20242c", "#f0f0ea")][
        rng.choice(4, p=[0.35, 0.2, 0.35, 0.1])
    ]
    image = Image.new("RGB", (512, 512), paper)
    draw = ImageDraw.Draw(image)
    font, roman = ImageFont.load_default(int(rng.integers(44, 60))), rng.random() < 0.25
    names = ROMAN if roman else [str(hour) for hour in range(1, 13)]
    for minute in range(60):
        x, y = np.sin(minute * np.pi / 30), -np.cos(minute * np.pi / 30)
        inner = 216 if minute % 5 == 0 else 226
        draw.line(
            [(256 + x * inner, 256 + y * inner), (256 + x * 238, 256 + y * 238)],
            fill=ink,
            width=7 if minute % 5 == 0 else 3,
        )
    for hour, name in enumerate(names, 1):
        x, y = np.sin(hour * np.pi / 6), -np.cos(hour * np.pi / 6)
        draw.text(
            (256 + x * 178, 256 + y * 178), name, fill=ink, font=font, anchor="mm", stroke_width=1, stroke_fill=ink
        )
    time = float(rng.uniform(0, 12))
    _hand(draw, time / 12, 118, 15, ink)
    _hand(draw, time % 1, 188, 10, ink)
    _hand(draw, float(rng.random()), 200, 4, "#b01818")
    draw.ellipse([244, 244, 268, 268], fill=ink)
    return (np.asarray(image, np.float32) / 255) ** 2.2


def wall_clock(rng: Generator) -> Solid:
    """An analog clock whose dial faces +z, under glass, in a raised rim."""
    face = clock_face(rng)
    rims = [
        (0.02, 0.02, 0.022),
        (0.62, 0.62, 0.64),
        (0.24, 0.10, 0.035),
        (0.80, 0.80, 0.78),
        (0.45, 0.03, 0.03),
        (0.05, 0.12, 0.30),
    ]
    rim, width = color(rng, rims[rng.integers(len(rims))], 0.15), float(rng.uniform(0.08, 0.15))

    def distance(points: Floats) -> Floats:
        body = _tube(points, 2, 1.0, 0.13, 0.05)
        well = _tube(points - np.float32([0, 0, 0.14]), 2, 1 - width, 0.07, 0.01)
        return np.maximum(body, -well)

    def paint(points: Floats) -> Surface:
        inside = 1 - width - 0.01
        spot = np.clip((points[:, :2] * np.float32([1, -1]) / inside + 1) * 256, 0, 511).astype(np.int64)
        on_dial = ((np.hypot(points[:, 0], points[:, 1]) < inside) & (points[:, 2] > 0)).astype(np.float32)
        return Surface(mix(rim, face[spot[:, 1], spot[:, 0]], on_dial), np.full(len(points), 0.7, np.float32))

    return Solid(distance, paint, bound=1.08)


def coffee_mug(rng: Generator) -> Solid:
    """A glazed mug with a handle, filled with coffee."""
    glazes = [
        (0.75, 0.75, 0.72),
        (0.05, 0.10, 0.32),
        (0.05, 0.05, 0.055),
        (0.08, 0.28, 0.30),
        (0.70, 0.52, 0.10),
        (0.80, 0.80, 0.80),
    ]
    glaze, inner = color(rng, glazes[rng.integers(len(glazes))], 0.15), np.float32([0.75, 0.74, 0.70])
    band, level = float(rng.uniform(-0.5, 0.9)), float(rng.uniform(0.30, 0.55))

    def distance(points: Floats) -> Floats:
        body = _tube(points, 1, 0.68, 0.78, 0.06)
        hollow = _tube(points - np.float32([0, 0.5 + level, 0]), 1, 0.60, 0.5, 0.02)
        loop = np.hypot(points[:, 0] - 0.68, points[:, 1] * 0.85) - np.float32(0.36)
        handle = np.hypot(loop, points[:, 2]) - np.float32(0.085)
        handle = np.where(points[:, 0] > 0.6, handle, np.maximum(handle, 0.6 - points[:, 0]))
        return np.minimum(np.maximum(body, -hollow), handle) * np.float32(0.9)

    def paint(points: Floats) -> Surface:
        within = smoothstep(0.64, 0.63, np.hypot(points[:, 0], points[:, 2])) * (points[:, 1] > level - 0.05)
        coffee = within * smoothstep(level + 0.03, level + 0.01, points[:, 1])
        stripe = smoothstep(0.10, 0.09, np.abs(points[:, 1] - band)) * (band < 0.5)
        albedo = mix(mix(mix(glaze, inner, stripe), inner, within), np.float32([0.05, 0.022, 0.008]), coffee)
        return Surface(albedo, np.full(len(points), 0.9, np.float32))

    return Solid(distance, paint, bound=1.2)
