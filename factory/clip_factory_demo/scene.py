"""One photograph: a camera, a sun or lamp, a plane with things on it, and what a lens and a sensor do to the light."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from clip_factory_demo.grounds import Texture
from clip_factory_demo.noise import Floats, blur, dot, length, mix, noise2, resize
from clip_factory_demo.solids import Solid, shadow, trace, unit

OVERSAMPLE = 1.25
"""Rays per output pixel, along each axis: smooth edges at about half more than the cost of one ray a pixel."""


@dataclass(frozen=True)
class Light:
    """A distant light: unit `direction` (3,) towards it, linear RGB `color` (3,), `sky` (3,) and a penumbra."""

    direction: Floats
    color: Floats
    sky: Floats
    softness: float


@dataclass(frozen=True)
class Camera:
    """A pinhole at `position` (3,) looking at `target` (3,); `focal` in image heights, `roll` in radians."""

    position: Floats
    target: Floats
    focal: float
    roll: float = 0.0

    def rays(self, width: int, height: int) -> Floats:
        """Unit directions (height * width, 3), row by row."""
        ahead = unit(self.target - self.position)
        right = unit(np.cross(ahead, np.float32([0.0, 1.0, 0.001])))
        up = np.cross(right, ahead)
        right, up = (
            right * np.cos(self.roll) + up * np.sin(self.roll),
            up * np.cos(self.roll) - right * np.sin(self.roll),
        )
        x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / height
        y = (height / 2 - np.arange(height, dtype=np.float32) - 0.5) / height
        flat = x[None, :, None] * right + y[:, None, None] * up + self.focal * ahead
        return unit(flat).reshape(-1, 3)


@dataclass(frozen=True)
class Scene:
    """What is photographed. The plane passes the origin: the floor (y up) or, with `upright`, a wall facing +z."""

    solids: tuple[Solid, ...]
    texture: Texture
    backdrop: Floats
    light: Light
    camera: Camera
    upright: bool = False
    blur: float = 0.0


def _environment(rays: Floats, light: Light) -> Floats:
    """Light (N, 3) that mirrors would show along unit `rays`: sky above, dark below, a bright window to one side."""
    up = np.clip(0.5 + 0.5 * rays[:, 1], 0, 1) ** 1.5
    side = unit(light.direction + np.float32([0.35, 0.2, 0.3]))
    window = np.clip((rays @ side - 0.90) * 18, 0, 1)
    return light.sky * up[:, None] * 0.8 + light.color * window[:, None] * 0.6


def _lit(points: Floats, normals: Floats, scene: Scene, skip: int = -1) -> tuple[Floats, Floats]:
    """Direct light reaching points (N,) after shadows and the share of sky left open (N,); `skip` casts nothing."""
    direct, open_sky = np.ones(len(points), np.float32), np.ones(len(points), np.float32)
    for number, solid in enumerate(scene.solids):
        if number == skip:
            continue
        away = length(points - solid.center) / np.float32(solid.size)
        near = np.flatnonzero(away < 7)  # the lowest light throws its shadow so many radii
        direct[near] *= shadow(solid, points[near], scene.light.direction, scene.light.softness)
        close = np.flatnonzero(away < 3)
        gap = np.maximum(solid.distance(solid.local(points[close])), 0)
        open_sky[close] *= 1 - 0.65 * np.exp(-3.2 * gap)
    facing = normals @ scene.light.direction
    return direct * np.clip(facing, 0, None), open_sky


def _plane(scene: Scene, rays: Floats) -> tuple[Floats, Floats]:
    """Light (N, 3) from the plane along each ray and its distance (N,), inf where the backdrop shows."""
    axis, normal = (2, np.float32([0, 0, 1])) if scene.upright else (1, np.float32([0, 1, 0]))
    eye, light = scene.camera.position, scene.light
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(rays[:, axis] < -0.01, -eye[axis] / rays[:, axis], np.inf).astype(np.float32)
    reach[reach > 60] = np.inf
    hit = np.flatnonzero(np.isfinite(reach))
    points = eye + rays[hit] * reach[hit, None]
    albedo = scene.texture(points[:, 0], points[:, 1] if scene.upright else points[:, 2])
    direct, open_sky = _lit(points, np.broadcast_to(normal, points.shape), scene)
    pixels = np.zeros_like(rays)
    pixels[hit] = albedo * (light.color * direct[:, None] + light.sky * open_sky[:, None])
    return pixels, reach


def _shade(scene: Scene, number: int, rays: Floats, reach: Floats) -> Floats:
    """Light (N, 3) leaving solid `number` towards the eye: diffuse with a soft edge, Fresnel reflection, highlight."""
    solid, light = scene.solids[number], scene.light
    points = scene.camera.position + rays * reach[:, None]
    own = solid.local(points)
    normals, surface = solid.normals(own), solid.paint(own)
    direct, open_sky = _lit(points, normals, scene, skip=number)
    wrap = np.clip((normals @ light.direction + 0.15) / 1.15, 0, None)
    lamp = light.color * (np.sqrt(direct * wrap) if len(scene.solids) > 1 else wrap)[:, None]
    up = normals[:, 2 if scene.upright else 1]
    sky = light.sky * (open_sky * (0.65 + 0.35 * up))[:, None]
    floor = scene.texture(np.zeros(1, np.float32), np.zeros(1, np.float32))[0] * (0.25 * light.color + 0.2 * light.sky)
    bounce = floor * (0.5 - 0.5 * up)[:, None]
    facing = np.clip(-dot(normals, rays), 0, 1)
    fresnel = 0.04 + 0.6 * (1 - facing) ** 5
    mirror = rays + 2 * facing[:, None] * normals
    half = np.clip(dot(normals, unit(light.direction - rays)), 0, 1)
    spot = half ** (10 + 140 * surface.gloss**2) * surface.gloss
    out = surface.albedo * (lamp + sky + bounce) + (surface.gloss * fresnel)[:, None] * _environment(mirror, light)
    rim = solid.sheen * (1 - facing) ** 2
    return out + light.color * (0.6 * spot * (direct > 0))[:, None] + surface.albedo * light.sky * rim[:, None]


def _focus(pixels: Floats, depth: Floats, focus: float, strength: float) -> Floats:
    """Blur (H, W, 3) by distance from the focal plane; `depth` (H, W); the thin lens blurs as |1/focus - 1/depth|."""
    amount = strength * np.abs(1 - focus / np.maximum(depth, 1e-3))
    soft, softer = blur(pixels, 3), blur(pixels, 9)
    out = mix(pixels, soft, np.clip(amount / 3, 0, 1))
    return mix(out, softer, np.clip((amount - 3) / 6, 0, 1))


def render(scene: Scene, width: int, height: int) -> Floats:
    """The light of the scene on the film, linear RGB (height, width, 3), not yet exposed."""
    wide, high = round(width * OVERSAMPLE), round(height * OVERSAMPLE)
    rays, eye = scene.camera.rays(wide, high), scene.camera.position
    pixels, reach = _plane(scene, rays)
    far = ~np.isfinite(reach)
    pixels[far] = resize(scene.backdrop, (wide, high)).reshape(-1, 3)[far]
    focus = float(np.linalg.norm(scene.solids[0].center - eye)) if scene.solids else 8.0
    depth = np.where(far, 60, reach).reshape(high, wide)
    pixels = _focus(pixels.reshape(high, wide, 3), depth, focus, scene.blur).reshape(-1, 3)
    nearest = np.full(len(rays), np.inf, np.float32)
    for number, solid in enumerate(scene.solids):
        distance = trace(solid, eye[None], rays)
        seen = np.flatnonzero(distance < nearest)
        nearest[seen] = distance[seen]
        pixels[seen] = _shade(scene, number, rays[seen], distance[seen])
    return np.maximum(resize(pixels.reshape(high, wide, 3), (width, height)), 0)


def develop(film: Floats, rng: Generator) -> NDArray[np.uint8]:
    """Film light (H, W, 3) to an sRGB picture uint8: exposure, white balance, vignette, noise, a film-like curve."""
    height, width = film.shape[:2]
    bright = max(float(np.percentile(film.mean(axis=2), 85)), 0.02)
    exposure = 0.52 * bright**-0.65 * np.exp(rng.normal(0, 0.16))
    warmth = rng.normal(0, 0.07)
    light = film * np.float32(np.clip(exposure, 0.4, 3.0)) * np.exp(np.float32([warmth, 0, -warmth]))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    falloff = 1 - rng.uniform(0.05, 0.22) * (x * x + y * y) / 2
    light = light * falloff[..., None].astype(np.float32)
    grain = rng.standard_normal(film.shape, np.float32) * float(rng.uniform(0.004, 0.02)) * np.sqrt(light + 0.02)
    light = np.clip(light + grain, 0, None)
    curve = light * (1 + light / 6) / (1 + light * 0.62)
    return (np.clip(curve, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)


def dapple(film: Floats, rng: Generator) -> Floats:
    """Uneven light over the film (H, W, 3), as under leaves or near a window."""
    y, x = np.mgrid[0 : film.shape[0], 0 : film.shape[1]].astype(np.float32) / film.shape[0]
    spots = noise2(x * 6 + rng.uniform(0, 256), y * 6 + rng.uniform(0, 256), 1.8)
    return film * np.exp(rng.uniform(0, 0.22) * spots)[..., None].astype(np.float32)
