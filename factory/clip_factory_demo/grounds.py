"""What lies under and behind the things: textured planes and blurred distances, all in linear RGB."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from clip_factory_demo.noise import Floats, blur, mix, noise2, resize, smoothstep
from clip_factory_demo.objects import color

Texture = Callable[[Floats, Floats], Floats]
"""Plane coordinates u, v (N,), about one unit to a thing's radius -> albedo (N, 3)."""


def wood(rng: Generator) -> Texture:
    """Planks with grain along u and dark gaps between."""
    tones = [(0.42, 0.22, 0.09), (0.25, 0.115, 0.05), (0.55, 0.37, 0.20), (0.30, 0.24, 0.18)]
    tone, width, shift = (
        color(rng, tones[rng.integers(4)], 0.1),
        float(rng.uniform(1.2, 3.5)),
        rng.uniform(0, 256, 2).astype(np.float32),
    )

    def texture(u: Floats, v: Floats) -> Floats:
        plank = np.floor(v / width)
        along, across = u * 2 + plank * 37 + shift[0], v * 22 + plank * 91 + shift[1]
        grain = 0.20 * noise2(along * 0.6, across, 0.6) + 0.14 * noise2(along, across * 0.3, 1.2)
        gap = np.abs(v / width - plank - 0.5)
        shade = (1 + grain + 0.12 * np.sin(plank * 12.9)) * (1 - 0.75 * smoothstep(0.488, 0.496, gap))
        return np.clip(tone * shade[:, None], 0.004, 0.9)

    return texture


def grass(rng: Generator) -> Texture:
    """A lawn: blades as streaks at two leans over dark gaps, with drier patches."""
    blade, dry, shift = (
        color(rng, (0.10, 0.24, 0.03), 0.15),
        color(rng, (0.30, 0.30, 0.09), 0.1),
        rng.uniform(0, 256, 2).astype(np.float32),
    )

    def texture(u: Floats, v: Floats) -> Floats:
        a = noise2(u * 42 + v * 9 + shift[0], v * 10, 0.2)
        b = noise2(u * 36 - v * 14, v * 9 + shift[1], 0.2, seed=3)
        height = np.maximum(a, b)
        patch = noise2(u * 1.5 + shift[1], v * 1.5 + shift[0], 1.2)
        tone = mix(blade, dry, smoothstep(-0.2, 2.2, patch + 0.4 * height))
        return np.clip(tone * (0.30 + 0.75 * smoothstep(-0.9, 1.6, height))[:, None], 0.003, 0.9)

    return texture


def cloth(rng: Generator) -> Texture:
    """A table cloth: gingham, stripes or plain linen, with weave and gentle folds."""
    shades = [(0.50, 0.05, 0.05), (0.06, 0.13, 0.40), (0.07, 0.27, 0.12), (0.45, 0.40, 0.30), (0.30, 0.10, 0.26)]
    dye, kind, pitch = color(rng, shades[rng.integers(5)], 0.15), int(rng.integers(3)), float(rng.uniform(0.5, 1.1))
    lean, shift = float(rng.uniform(0, np.pi)), float(rng.uniform(0, 256))

    cosine, sine = float(np.cos(lean)), float(np.sin(lean))

    def texture(u: Floats, v: Floats) -> Floats:
        x, y = u * cosine - v * sine, u * sine + v * cosine
        across = smoothstep(-0.06, 0.06, np.sin(np.pi * x / pitch))
        along = smoothstep(-0.06, 0.06, np.sin(np.pi * y / pitch))
        cover = [0.5 * (across + along), across, np.full_like(x, 0.85)][kind]
        thread = 1 + 0.09 * noise2(x * 30, y * 3, 0.2) + 0.09 * noise2(x * 3, y * 30, 0.2, seed=3)
        fold = 1 + 0.10 * noise2(u * 1.2 + shift, v * 1.2, 2.0)
        return np.clip(mix(np.float32([0.74, 0.72, 0.66]), dye, cover) * (thread * fold)[:, None], 0.004, 0.9)

    return texture


def stone(rng: Generator) -> Texture:
    """Concrete, asphalt, marble or sand: grains over stains, sometimes veined."""
    tones = [(0.36, 0.35, 0.33), (0.10, 0.10, 0.105), (0.66, 0.65, 0.63), (0.50, 0.40, 0.26)]
    kind = int(rng.integers(4))
    tone, grain, shift = (
        color(rng, tones[kind], 0.08),
        [0.12, 0.35, 0.03, 0.14][kind],
        rng.uniform(0, 256, 2).astype(np.float32),
    )

    def texture(u: Floats, v: Floats) -> Floats:
        stain = noise2(u * 3 + shift[0], v * 3 + shift[1], 1.1)
        shade = 1 + 0.10 * stain + grain * noise2(u * 36, v * 36 + shift[0], 0.2)
        if kind == 2:
            vein = np.abs(noise2(u * 2.5 + shift[1], v * 5, 1.5) + 0.3 * stain)
            shade = shade * (1 - 0.35 * smoothstep(0.16, 0.0, vein))
        return np.clip(tone * shade[:, None], 0.004, 0.9)

    return texture


def plaster(rng: Generator) -> Texture:
    """An indoor wall: paint with a faint roughness, or striped paper, or bricks."""
    paints = [
        (0.70, 0.68, 0.62),
        (0.38, 0.50, 0.56),
        (0.62, 0.52, 0.34),
        (0.42, 0.52, 0.38),
        (0.55, 0.30, 0.24),
        (0.75, 0.75, 0.75),
    ]
    tone, kind = color(rng, paints[rng.integers(6)], 0.12), int(rng.choice(3, p=[0.6, 0.15, 0.25]))
    clay, shift = color(rng, (0.34, 0.12, 0.07), 0.15), float(rng.uniform(0, 256))

    def texture(u: Floats, v: Floats) -> Floats:
        rough = 1 + 0.03 * noise2(u * 25 + shift, v * 25, 0.4) + 0.05 * noise2(u, v + shift, 1.8)
        if kind == 0:
            return np.clip(tone * rough[:, None], 0, 0.9)
        if kind == 1:
            return np.clip(tone * (rough * (0.88 + 0.12 * smoothstep(-0.1, 0.1, np.sin(u * 9))))[:, None], 0, 0.9)
        row = np.floor(v * 2.6)
        column = np.floor(u * 1.05 + 0.5 * (row % 2))
        edge = np.maximum(
            np.abs(v * 2.6 - row - 0.5) * 1.0, (np.abs(u * 1.05 + 0.5 * (row % 2) - column - 0.5) - 0.5) * 2.4 + 0.5
        )
        tint = 1 + 0.22 * np.sin(row * 7.7 + column * 12.1) + 0.16 * noise2(u * 20, v * 20, 0.6)
        brick = clay * (tint * rough)[:, None]
        return np.clip(mix(brick, np.float32([0.45, 0.43, 0.40]), smoothstep(0.43, 0.47, edge)), 0.004, 0.9)

    return texture


def sky(rng: Generator) -> Floats:
    """A bright sky (48, 64, 3), darker upward, with clouds."""
    y, x = np.mgrid[0:48, 0:64].astype(np.float32)
    zenith, horizon = color(rng, (0.16, 0.32, 0.75), 0.15), color(rng, (0.75, 0.82, 0.95), 0.06)
    cloud = smoothstep(0.2, 1.8, noise2(x * 0.6 + rng.uniform(0, 256), y * 1.2 + rng.uniform(0, 256), 1.7))
    return mix(mix(zenith, horizon, (y / 47) ** 1.5), np.float32([1.1, 1.1, 1.1]), 0.8 * cloud)


def foliage(rng: Generator) -> Floats:
    """Trees far out of focus (48, 64, 3): green blotches and pale gaps."""
    y, x = np.mgrid[0:48, 0:64].astype(np.float32)
    mass = noise2(x * 1.4 + rng.uniform(0, 256), y * 1.4 + rng.uniform(0, 256), 1.1)
    tone = mix(color(rng, (0.02, 0.05, 0.012), 0.2), color(rng, (0.16, 0.28, 0.05), 0.2), smoothstep(-1.5, 1.5, mass))
    return mix(tone, np.float32([0.8, 0.9, 0.85]), 0.7 * smoothstep(1.2, 2.6, mass + (24 - y) / 30))


def room(rng: Generator) -> Floats:
    """A room far out of focus (48, 64, 3): a wall, furniture as blocks, a lamp or a window."""
    scene = np.tile(color(rng, (0.38, 0.33, 0.27), 0.35), (48, 64, 1))
    for _ in range(int(rng.integers(3, 8))):
        left, top = int(rng.integers(-8, 60)), int(rng.integers(0, 40))
        width, height = int(rng.integers(5, 24)), int(rng.integers(10, 48))
        gray = float(rng.uniform(0.03, 0.5))
        scene[top : top + height, max(left, 0) : left + width] = color(rng, (gray, gray * 0.9, gray * 0.75), 0.2)
    if rng.random() < 0.6:
        left = int(rng.integers(0, 50))
        scene[0 : int(rng.integers(10, 30)), left : left + int(rng.integers(6, 16))] = color(rng, (1.5, 1.4, 1.2), 0.15)
    return blur(resize(scene.astype(np.float32), (64, 48)), float(rng.uniform(3, 6)))
