"""Videos that tests write with PyAV, frame by frame at times of their own."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

MILLISECOND = Fraction(1, 1000)
WIDTH, HEIGHT = 64, 48


def write_video(
    path: Path,
    frames: Sequence[Image.Image],
    times: Sequence[int] | None = None,
    *,
    every: int = 200,
    turn: tuple[Any, ...] | None = None,
) -> Path:
    """Write frames, all of one size.

    Args:
        path: Its extension says the container.
        frames: What is shown.
        times: Milliseconds at which each frame begins; by default `every` apart.
        every: Milliseconds.
        turn: Degrees counterclockwise, flip left to right, flip top to bottom: what a player is to do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(1000, every))
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        stream.time_base = stream.codec_context.time_base = MILLISECOND
        if turn is not None:
            stream.set_display_rotation(*turn)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = times[number] if times else number * every, MILLISECOND
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_sound(path: Path, cover: bool = False) -> Path:
    """Write half a second of silence; with a cover, a picture that belongs to it, as albums have."""
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000)
        picture = container.add_stream("mjpeg", rate=1) if cover else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            container.mux(picture.encode(av.VideoFrame.from_image(Image.new("RGB", (WIDTH, HEIGHT)))))
            container.mux(picture.encode())
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    return path


def texture(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """A picture of soft patches, unlike that of any other seed."""
    patches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


def plain(color: str | tuple[int, int, int]) -> Image.Image:
    """A picture of one color."""
    return Image.new("RGB", (WIDTH, HEIGHT), color)
