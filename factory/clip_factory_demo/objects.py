"""The balls: spheres that differ in their skins. Each maker takes a generator and returns an unplaced Solid."""

from functools import lru_cache

import numpy as np
from numpy.random import Generator

from clip_factory_demo.noise import Floats, length, mix, noise3, smoothstep
from clip_factory_demo.solids import Solid, Surface, unit


def color(rng: Generator, rgb: tuple[float, float, float], spread: float = 0.08) -> Floats:
    """A linear RGB color (3,) near `rgb`, each channel moved by a factor of about 1 +- `spread`."""
    return np.clip(np.array(rgb) * np.exp(rng.normal(0, spread, 3)), 0, 0.95).astype(np.float32)


def sphere(points: Floats) -> Floats:
    """Distance (N,) from points (N, 3) to the unit sphere."""
    return length(points) - np.float32(1)


@lru_cache(maxsize=1)
def _face_centers() -> tuple[Floats, Floats]:
    """Unit directions (32, 3) of a truncated icosahedron's faces, 12 pentagons first, and 1/distance of each (32,)."""
    ratio = (1 + 5**0.5) / 2
    base = [(0, a, b * ratio) for a in (-1, 1) for b in (-1, 1)]
    five = unit(np.array([np.roll(v, k) for v in base for k in range(3)]))
    near = five @ five.T > 0.4
    triples = [
        (i, j, k) for i in range(12) for j in range(i) for k in range(j) if near[i, j] and near[j, k] and near[i, k]
    ]
    six = unit(np.array([five[list(t)].sum(0) for t in triples]))
    return np.concatenate([five, six]), np.float32([1 / 2.327] * 12 + [1 / 2.267] * 20)


def _panels(points: Floats) -> tuple[Floats, Floats]:
    """For points (N, 3) on the ball: 1 where the panel is a pentagon (N,), and angular distance to the seam (N,)."""
    faces, weight = _face_centers()
    score = unit(points) @ (faces * weight[:, None]).T
    rows, best = np.arange(len(score)), score.argmax(axis=1)
    first = score[rows, best]
    score[rows, best] = -1
    return (best < 12).astype(np.float32), (first - score.max(axis=1)) * np.float32(3.4)


def soccer_ball(rng: Generator) -> Solid:
    """A football of black pentagons and white hexagons, with grooved seams and some dirt."""
    dark, white = color(rng, (0.012, 0.012, 0.014)), color(rng, (0.80, 0.80, 0.77), 0.03)
    dirt = float(rng.uniform(0, 0.35))

    def paint(points: Floats) -> Surface:
        black, seam = _panels(points)
        albedo = mix(white, dark, black) * (0.35 + 0.65 * smoothstep(0.0, 0.045, seam))[:, None]
        stain = smoothstep(0.2, 1.6, noise3(points + 3, 5)) * dirt
        return Surface(mix(albedo, np.float32([0.22, 0.16, 0.09]), stain), np.full(len(points), 0.45, np.float32))

    return Solid(sphere, paint, lambda p: 0.02 * smoothstep(0.0, 0.06, _panels(p)[1]))


def _tennis_seam(points: Floats) -> Floats:
    """Angular distance (N,) from points (N, 3) to a tennis ball's seam, a closed curve on the sphere."""
    t = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    curve = np.stack(
        [0.75 * np.cos(t) + 0.25 * np.cos(3 * t), 0.75 * np.sin(t) - 0.25 * np.sin(3 * t), 0.866 * np.sin(2 * t)], 1
    )
    return np.arccos(np.clip((unit(points) @ unit(curve).T).max(axis=1), -1, 1))


def tennis_ball(rng: Generator) -> Solid:
    """A tennis ball: optic yellow felt and a white seam."""
    felt, seam = color(rng, (0.56, 0.66, 0.06), 0.06), np.float32([0.78, 0.78, 0.70])

    def paint(points: Floats) -> Surface:
        fuzz = 1 + 0.10 * noise3(points, 38, 0.3) + 0.06 * noise3(points, 9)
        albedo = mix(felt, seam, smoothstep(0.085, 0.055, _tennis_seam(points))) * fuzz[:, None]
        return Surface(np.clip(albedo, 0, 0.95), np.zeros(len(points), np.float32))

    def relief(points: Floats) -> Floats:
        return 0.006 * noise3(points, 44, 0.3) + 0.03 * smoothstep(0.05, 0.10, _tennis_seam(points))

    return Solid(sphere, paint, relief, sheen=0.12)


def _basketball_seam(points: Floats) -> Floats:
    """Distance (N,) from points (N, 3) to the nearest of a basketball's seams."""
    x, _, z = unit(points).T
    bow = np.abs(np.abs(x) - 0.50 - 0.25 * z * z)
    return np.minimum(np.minimum(np.abs(z), np.abs(x)), bow)


def basketball(rng: Generator) -> Solid:
    """A basketball: pebbled orange-brown skin with wide black seams."""
    skin, line = color(rng, (0.55, 0.17, 0.045), 0.12), np.float32([0.012, 0.010, 0.010])

    def paint(points: Floats) -> Surface:
        worn = 1 + 0.08 * noise3(points, 4)
        albedo = mix(skin * worn[:, None], line, smoothstep(0.036, 0.024, _basketball_seam(points)))
        return Surface(np.clip(albedo, 0, 0.95), np.full(len(points), 0.25, np.float32))

    def relief(points: Floats) -> Floats:
        return 0.0022 * noise3(points, 60, 0.1) + 0.02 * smoothstep(0.01, 0.04, _basketball_seam(points))

    return Solid(sphere, paint, relief)


def golf_ball(rng: Generator) -> Solid:
    """A white golf ball with 336 dimples on a spiral lattice."""
    k = np.arange(336) + 0.5
    height, angle = 1 - k / 168, k * np.pi * (3 - 5**0.5)
    ring = np.sqrt(1 - height**2)
    dimples = np.stack([ring * np.cos(angle), height, ring * np.sin(angle)], 1).astype(np.float32)
    white = color(rng, (0.82, 0.82, 0.80), 0.02)

    def relief(points: Floats) -> Floats:
        away = np.arccos(np.clip((unit(points) @ dimples.T).max(axis=1), -1, 1))
        return 0.03 * smoothstep(0.02, 0.095, away)

    def paint(points: Floats) -> Surface:
        return Surface(np.tile(white, (len(points), 1)), np.full(len(points), 0.6, np.float32))

    return Solid(sphere, paint, relief)
