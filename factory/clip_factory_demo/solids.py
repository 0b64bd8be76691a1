"""Solids as signed distance functions, and how rays meet them (sphere tracing: Hart, The Visual Computer, 1996)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clip_factory_demo.noise import Floats, dot

Distance = Callable[[Floats], Floats]
"""Points (N, 3) in the solid's own frame -> distance to its surface (N,), negative inside."""


@dataclass(frozen=True)
class Surface:
    """What light meets at N points: linear RGB albedo (N, 3) in [0, 1] and gloss (N,) in [0, 1]."""

    albedo: Floats
    gloss: Floats


@dataclass(frozen=True)
class Solid:
    """A shape that fits the unit sphere of its own frame (y up), and its place in the world.

    `relief` is a height added for shading only: pores, seams and dimples bend the light but not the outline.
    `rotation` (3, 3) takes the own frame to the world; `size` is the world length of one own unit.
    """

    distance: Distance
    paint: Callable[[Floats], Surface]
    relief: Distance | None = None
    bound: float = 1.05
    sheen: float = 0.04
    rotation: Floats = field(default_factory=lambda: np.eye(3, dtype=np.float32))
    center: Floats = field(default_factory=lambda: np.zeros(3, np.float32))
    size: float = 1.0

    def local(self, points: Floats) -> Floats:
        """World points (N, 3) in the solid's own frame."""
        return ((points - self.center) @ self.rotation / self.size).astype(np.float32)

    def normals(self, points: Floats, step: float = 0.008) -> Floats:
        """World unit normals (N, 3) at own-frame points (N, 3), by differences at the corners of a tetrahedron."""
        total = np.zeros_like(points)
        for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
            offset = np.float32(corner)
            at = points + offset * np.float32(step)
            height = self.distance(at) - (self.relief(at) if self.relief else 0)
            total += offset * height[:, None]
        return unit(total @ self.rotation.T)


def unit(vectors: Floats) -> Floats:
    """Vectors (..., 3) scaled to length 1."""
    size = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))[..., None]
    return (vectors / np.maximum(size, 1e-9)).astype(np.float32)


def _enter(solid: Solid, origins: Floats, rays: Floats, slack: float) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Rays (own frame) that meet the bounding sphere enlarged by `slack`: their indices, entry and exit lengths."""
    along = -dot(origins, rays)
    gap = dot(origins, origins) - along * along
    half = np.maximum((solid.bound * slack) ** 2 - gap, 0)
    near, far = along - np.sqrt(half), along + np.sqrt(half)
    index = np.flatnonzero((half > 0) & (far > 0))
    return index, np.maximum(near[index], 0), far[index]


def trace(solid: Solid, origins: Floats, rays: Floats, steps: int = 56) -> Floats:
    """World length (N,) along each unit ray from `origins` (N, 3) or (1, 3) to the solid; inf where it misses."""
    start = np.broadcast_to(solid.local(origins), rays.shape)
    heading = (rays @ solid.rotation).astype(np.float32)
    hits = np.full(len(rays), np.inf, np.float32)
    index, t, far = _enter(solid, start, heading, 1.0)
    for _ in range(steps):
        if not len(index):
            break
        gap = solid.distance(start[index] + heading[index] * t[:, None])
        done = gap < 0.002
        hits[index[done]] = t[done] * solid.size
        t = t + gap * 0.85
        go = ~done & (t < far)
        index, t, far = index[go], t[go], far[go]
    return hits


def shadow(solid: Solid, points: Floats, light: Floats, softness: float, steps: int = 14) -> Floats:
    """Share of the light (N,) that reaches world points (N, 3) past the solid, for a light in unit direction `light`.

    The penumbra is estimated from the narrowest passage on the way, as `softness` times distance to the solid
    over distance travelled (the usual estimate for distance fields; larger is harder).
    """
    start = solid.local(points)
    heading = np.broadcast_to((light @ solid.rotation).astype(np.float32), start.shape)
    lit = np.ones(len(points), np.float32)
    index, t, far = _enter(solid, start, heading, 1.7)
    t = np.maximum(t, 0.03)
    for _ in range(steps):
        if not len(index):
            break
        gap = solid.distance(start[index] + heading[0] * t[:, None])
        lit[index] = np.minimum(lit[index], np.clip(0.5 + softness * gap / t, 0, 1))
        t = t + np.clip(gap, 0.05, 0.45)
        go = (t < far) & (lit[index] > 0)
        index, t, far = index[go], t[go], far[go]
    return lit * lit * (3 - 2 * lit)


def turn(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> Floats:
    """Rotation matrix (3, 3): roll about z, then pitch about x, then yaw about y; radians."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_y @ about_x @ about_z).astype(np.float32)


def lowest(solid: Solid) -> float:
    """Height of the solid's lowest point over its center (world units, negative): where it touches the table."""
    side = np.linspace(-1, 1, 21, dtype=np.float32) * solid.bound * solid.size
    x, z = (a.ravel() for a in np.meshgrid(side, side))
    below = np.stack([x, np.full_like(x, -2 * solid.bound * solid.size), z], axis=1) + solid.center
    hits = trace(solid, below, np.broadcast_to(np.float32([0, 1, 0]), below.shape))
    return float(hits.min()) - 2 * solid.bound * solid.size
