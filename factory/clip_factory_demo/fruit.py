"""The fruit: shapes given by their radius in every direction from a center, with skins, pores and stalks."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from clip_factory_demo.noise import Floats, length, mix, noise3, smoothstep
from clip_factory_demo.objects import color
from clip_factory_demo.solids import Solid, Surface


def _profile(degrees: Sequence[float], radii: Sequence[float]) -> Floats:
    """A smooth table of 256 radii over the angle from the top, 0 to 180 degrees, through the given knots."""
    table = np.interp(np.linspace(0, 180, 256), degrees, radii)
    padded = np.pad(table, 16, mode="reflect")
    window = np.hanning(33)
    return np.convolve(padded, window / window.sum(), mode="valid").astype(np.float32)


def _polar(points: Floats) -> tuple[Floats, Floats, Floats]:
    """Points (N, 3) as distance from the center, angle from the top [0, pi] and angle around the axis, each (N,)."""
    radius = length(points)
    down = np.arccos(np.clip(points[:, 1] / np.maximum(radius, 1e-6), -1, 1))
    return radius, down, np.arctan2(points[:, 2], points[:, 0])


def _radius_at(table: Floats, down: Floats) -> Floats:
    """Radius (N,) in the direction `down` radians from the top."""
    return np.interp(down, np.linspace(0, np.pi, len(table)), table).astype(np.float32)


def _stalk(points: Floats, foot: float, tip: tuple[float, float], width: float) -> Floats:
    """Distance (N,) to a round stalk from height `foot` on the axis to `tip` = (x, height)."""
    start, axis = np.float32([0, foot, 0]), np.float32([tip[0], tip[1] - foot, 0])
    along = np.clip((points - start) @ axis / (axis @ axis), 0, 1)
    return length(points - start - along[:, None] * axis) - np.float32(width)


def orange(rng: Generator) -> Solid:
    """An orange: nearly a sphere, pored, with a green-brown button at the stem."""
    skin, deep = color(rng, (0.80, 0.27, 0.012), 0.05), color(rng, (0.62, 0.14, 0.006), 0.05)
    flat, lumps = float(rng.uniform(0.90, 0.98)), float(rng.uniform(0.008, 0.02))
    waves = rng.normal(0, 3, (2, 3)).astype(np.float32)

    def distance(points: Floats) -> Floats:
        radius, down, _ = _polar(points / np.float32([1, flat, 1]))
        bumps = np.sin(points @ waves[0]) * np.sin(points @ waves[1])
        return (radius - 1 + 0.05 * np.exp(-((down / 0.22) ** 2)) - lumps * bumps) * np.float32(0.9)

    def paint(points: Floats) -> Surface:
        _, down, around = _polar(points)
        albedo = mix(skin, deep, smoothstep(-1.5, 2.0, noise3(points, 3)))
        albedo = albedo * (1 - 0.12 * smoothstep(0.4, 1.8, noise3(points, 48, 0.2)))[:, None]
        button = smoothstep(0.115, 0.085, down * (1 + 0.25 * np.cos(5 * around)))
        return Surface(mix(albedo, np.float32([0.16, 0.17, 0.05]), button), np.full(len(points), 0.42, np.float32))

    return Solid(distance, paint, lambda p: -0.005 * smoothstep(0.2, 1.8, noise3(p, 48, 0.2)), bound=1.08)


def granny_smith(rng: Generator) -> Solid:
    """A green apple: a dimple and a stalk above, pale speckles, sometimes a blush."""
    table = _profile(
        [0, 8, 20, 40, 65, 90, 120, 150, 168, 180], [0.52, 0.60, 0.80, 0.90, 0.92, 0.89, 0.84, 0.82, 0.78, 0.70]
    )
    skin, pale = color(rng, (0.34, 0.52, 0.045), 0.08), color(rng, (0.55, 0.66, 0.16), 0.06)
    tip = (float(rng.uniform(-0.22, 0.22)), 1.02)

    def distance(points: Floats) -> Floats:
        radius, down, around = _polar(points)
        ribs = 0.022 * np.cos(5 * around) * smoothstep(1.4, 3.0, down)
        body = (radius - _radius_at(table, down) - ribs) * np.float32(0.7)
        return np.minimum(body, _stalk(points, 0.5, tip, 0.035))

    def paint(points: Floats) -> Surface:
        _, down, _ = _polar(points)
        speckle = smoothstep(1.9, 2.5, noise3(points, 26, 0.3))
        albedo = mix(skin, pale, 0.8 * smoothstep(-0.5, 2.0, noise3(points * np.float32([1, 0.4, 1]), 5)))
        albedo = mix(albedo, np.float32([0.75, 0.78, 0.45]), speckle)
        albedo = mix(albedo, np.float32([0.25, 0.22, 0.06]), 0.7 * smoothstep(0.40, 0.12, down))
        wood = smoothstep(0.02, 0.005, _stalk(points, 0.5, tip, 0.035))
        return Surface(mix(albedo, np.float32([0.13, 0.075, 0.03]), wood), 0.75 - 0.7 * wood)

    return Solid(distance, paint, bound=1.1)
