"""Smooth random fields, the raw material of every texture here.

Fields are made by shaping white noise in the frequency domain (spectral synthesis: Saupe, in "The Science of
Fractal Images", 1988), so they tile without a seam and can be looked up at any coordinate.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]


@lru_cache(maxsize=16)
def field(dims: int, slope: float, seed: int, side: int) -> Floats:
    """A tileable random field of `side` samples per axis, mean 0 and standard deviation 1.

    `dims` is 2 or 3. `slope` is the fall of the amplitude spectrum with frequency: 0 is white, 1 is cloudy, 2 is
    smooth. Cached, because every picture looks the same fields up at different places.
    """
    white = np.random.default_rng(seed).standard_normal((side,) * dims)
    axes = np.meshgrid(*[np.fft.fftfreq(side) * side] * dims, indexing="ij")
    radius = np.sqrt(np.sum(np.square(axes), axis=0))
    radius.flat[0] = np.inf
    shaped = np.fft.ifftn(np.fft.fftn(white) / radius**slope).real
    return ((shaped - shaped.mean()) / shaped.std()).astype(np.float32)


def _corners(x: Floats, side: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Cell index, next cell index (both wrapped) and the fraction between them, for coordinates in samples."""
    low = np.floor(x)
    index = low.astype(np.int64) % side
    return index, (index + 1) % side, (x - low).astype(np.float32)


def noise2(x: Floats, y: Floats, slope: float = 1.0, seed: int = 1) -> Floats:
    """Bilinear look-up in a 2-D field of 256 x 256 samples; coordinates in samples, any shape; about N(0, 1)."""
    tile = field(2, slope, seed, 256)
    x0, x1, fx = _corners(x, 256)
    y0, y1, fy = _corners(y, 256)
    flat = tile.ravel()
    top = flat[y0 * 256 + x0] * (1 - fx) + flat[y0 * 256 + x1] * fx
    bottom = flat[y1 * 256 + x0] * (1 - fx) + flat[y1 * 256 + x1] * fx
    return top * (1 - fy) + bottom * fy


def noise3(points: Floats, scale: float, slope: float = 1.0, seed: int = 2) -> Floats:
    """Trilinear look-up in a 3-D field of 32 samples a side, at `points` (N, 3) times `scale`; (N,), about N(0, 1)."""
    flat = field(3, slope, seed, 32).ravel()
    cells = [_corners(points[:, axis] * scale, 32) for axis in range(3)]
    total = np.zeros(len(points), np.float32)
    for corner in range(8):
        index, weight = np.zeros(len(points), np.int64), np.ones(len(points), np.float32)
        for axis, (low, high, fraction) in enumerate(cells):
            upper = corner >> axis & 1
            index = index * 32 + (high if upper else low)
            weight = weight * (fraction if upper else 1 - fraction)
        total += flat[index] * weight
    return total


def dot(a: Floats, b: Floats) -> Floats:
    """Row by row product of (N, 3) and (N, 3) or (3,): (N,). Much faster than a sum over so short an axis."""
    return np.einsum("ij,ij->i", a, b) if b.ndim == 2 else a @ b


def length(vectors: Floats) -> Floats:
    """Euclidean length (N,) of vectors (N, 2 or 3)."""
    return np.sqrt(dot(vectors, vectors))


def smoothstep(low: float, high: float, x: Floats) -> Floats:
    """0 below `low`, 1 above `high`, a cubic between (with `low` > `high` it falls instead)."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def mix(a: Floats, b: Floats, weight: Floats) -> Floats:
    """Blend colors (..., 3) or (3,): `a` where `weight` (...) is 0, `b` where it is 1."""
    w = np.asarray(weight, np.float32)[..., None]
    return (a * (1 - w) + b * w).astype(np.float32)


def resize(pixels: Floats, size: tuple[int, int]) -> Floats:
    """Resample a float picture (H, W, C) to `size` = (width, height), antialiased."""
    planes = [Image.fromarray(np.ascontiguousarray(pixels[..., c])) for c in range(pixels.shape[2])]
    return np.stack([np.asarray(p.resize(size, Image.Resampling.BICUBIC)) for p in planes], axis=-1)


def blur(pixels: Floats, radius: float) -> Floats:
    """Blur a float picture (H, W, C) by about `radius` pixels: shrink, then enlarge smoothly."""
    if radius < 1:
        return pixels
    height, width = pixels.shape[:2]
    small = resize(pixels, (max(2, round(width / radius)), max(2, round(height / radius))))
    return np.maximum(resize(small, (width, height)), 0)
