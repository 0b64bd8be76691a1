"""Chance decides a photograph: how many things, where, on what, in which light, from which side."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from clip_factory_demo.noise import Floats
from clip_factory_demo.scene import Camera, Light, Scene, dapple, develop, render
from clip_factory_demo.solids import Solid, lowest, turn, unit

from . import fruit, grounds, objects, things


@dataclass(frozen=True)
class Kind:
    """How one class of thing is usually photographed.

    `pose` is "any" (lies as it fell), "upright" (stands, turned) or "wall" (hangs).
    `grounds` and `backdrops` name makers of grounds.py; `most` is the largest number in one picture.
    """

    make: Callable[[Generator], Solid]
    pose: str
    grounds: tuple[str, ...]
    backdrops: tuple[str, ...]
    most: int = 1


INDOORS, OUTDOORS = ("room", "room", "foliage"), ("foliage", "sky", "foliage")
KINDS: dict[str, Kind] = {
    "orange": Kind(fruit.orange, "any", ("wood", "cloth", "stone", "wood"), INDOORS, 4),
    "granny smith": Kind(fruit.granny_smith, "upright", ("wood", "cloth", "stone"), INDOORS, 3),
    "soccer ball": Kind(objects.soccer_ball, "any", ("grass", "grass", "stone", "wood"), OUTDOORS),
    "tennis ball": Kind(objects.tennis_ball, "any", ("grass", "stone", "stone"), OUTDOORS, 3),
    "basketball": Kind(objects.basketball, "any", ("wood", "stone", "wood"), ("room", "sky", "foliage")),
    "golf ball": Kind(objects.golf_ball, "any", ("grass",), OUTDOORS),
    "wall clock": Kind(things.wall_clock, "wall", ("plaster",), ("room",)),
    "coffee mug": Kind(things.coffee_mug, "upright", ("wood", "cloth", "stone"), INDOORS),
}


FILL = (0.06, 0.42)
"""Share of the picture's height that a group takes: from far away, where a ball is a few pixels, to near."""


def _light(rng: Generator, upright: bool) -> Light:
    """A sun or a lamp from above or the side, towards the camera's half of the world more often than not."""
    around, height = rng.uniform(-2.2, 2.2), rng.uniform(0.45, 1.25)
    ahead = np.array([np.sin(around) * np.cos(height), np.sin(height), np.cos(around) * np.cos(height)])
    direction = unit(np.array([ahead[0], abs(ahead[1]) * 0.8, 1.2]) if upright else ahead)
    warm = rng.uniform(-0.10, 0.22)
    lamp = np.exp(np.array([warm, 0.0, -warm])) * rng.uniform(1.0, 1.7)
    sky = np.exp(np.array([-0.5, 0.0, 0.5]) * rng.uniform(-0.15, 0.25)) * rng.uniform(0.28, 0.6)
    return Light(direction, lamp.astype(np.float32), sky.astype(np.float32), float(rng.uniform(2.5, 9)))


def _posed(solid: Solid, pose: str, rng: Generator) -> Solid:
    """The solid turned as it would lie, stand or hang, resting at height 0."""
    yaw, free = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi, 2)
    if pose == "wall":
        return replace(solid, rotation=turn(0, 0, rng.normal(0, 0.05)), center=np.float32([0, 0, 0.13]))
    rotation = turn(yaw, free[0], free[1]) if pose == "any" else turn(yaw, rng.normal(0, 0.06), rng.normal(0, 0.06))
    turned = replace(solid, rotation=rotation)
    return replace(turned, center=np.float32([0, -lowest(turned), 0]))


def _group(kind: Kind, rng: Generator) -> tuple[Solid, ...]:
    """One thing, or several beside one another, nearest to the middle first."""
    count = int(rng.integers(1, kind.most + 1)) if rng.random() < 0.55 else 1
    spots, things_ = [np.zeros(2)], [_posed(kind.make(rng), kind.pose, rng)]
    while len(things_) < count:
        spot = spots[int(rng.integers(len(spots)))] + 2.15 * turn(rng.uniform(0, 2 * np.pi))[0, [0, 2]]
        if min(np.linalg.norm(spot - other) for other in spots) > 1.95:
            spots.append(spot)
            new = _posed(kind.make(rng), kind.pose, rng)
            things_.append(replace(new, center=new.center + np.float32([spot[0], 0, spot[1]])))
    return tuple(things_)


def _camera(solids: tuple[Solid, ...], kind: Kind, rng: Generator) -> Camera:
    """A camera that holds the group in the frame, off center, tilted a little."""
    middle = np.mean([s.center for s in solids], axis=0)
    spread = max(float(np.linalg.norm(s.center - middle)) for s in solids)
    focal = rng.uniform(1.3, 2.2)
    fill = rng.uniform(*FILL)
    away = 2 * focal * (1.0 + 0.5 * spread) / fill
    if kind.pose == "wall":
        yaw, pitch = rng.normal(0, 0.22), rng.normal(-0.05, 0.12)
    else:
        yaw, pitch = rng.uniform(-0.5, 0.5), rng.uniform(0.10, 0.75)
    offset = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    slack = (1 - fill) * away / focal * 0.32
    aim = middle + rng.uniform(-slack, slack, 3) * np.array([1, 0.7, 0])
    return Camera(
        (middle + offset * away).astype(np.float32), aim.astype(np.float32), focal, float(rng.normal(0, 0.05))
    )


def stage(name: str, rng: Generator) -> Scene:
    """A random scene that shows the class `name` of KINDS."""
    kind = KINDS[name]
    solids = _group(kind, rng)
    upright = kind.pose == "wall"
    texture = getattr(grounds, kind.grounds[rng.integers(len(kind.grounds))])(rng)
    backdrop: Floats = getattr(grounds, kind.backdrops[rng.integers(len(kind.backdrops))])(rng)
    light = _light(rng, upright)
    return Scene(solids, texture, backdrop, light, _camera(solids, kind, rng), upright, float(rng.uniform(2, 12)))


def _size(rng: Generator) -> tuple[int, int]:
    """Width and height in pixels of a random picture format."""
    return ((240, 240), (272, 204), (204, 272), (256, 192))[rng.integers(4)]


def photograph(name: str, rng: Generator) -> NDArray[np.uint8]:
    """A photo-like picture, sRGB uint8 (height, width, 3), long side 240 to 272 pixels, of one class of KINDS."""
    width, height = _size(rng)
    return develop(dapple(render(stage(name, rng), width, height), rng), rng)


def burst(name: str, rng: Generator, frames: int) -> list[NDArray[np.uint8]]:
    """The same scene, `frames` times within a second: the hand moved a little, the exposure is locked."""
    width, height = _size(rng)
    scene, locked = stage(name, rng), int(rng.integers(2**32))
    pictures = []
    for _ in range(frames):
        moved = (scene.camera.position + rng.normal(0, 0.01, 3)).astype(np.float32)
        shaken = replace(scene, camera=replace(scene.camera, position=moved))
        pictures.append(develop(render(shaken, width, height), np.random.default_rng(locked)))
    return pictures
