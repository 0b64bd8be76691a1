"""How the frames of videos are named: a folder like the video, and in it a file for each time."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from clip_factory.runtime.photo_files import is_video

_FRAME = re.compile(r"(\d{6})\.(\d{3})s\.jpg", re.ASCII)


def frame_name(time: int) -> str:
    """The name of the frame at a time in milliseconds: `000012.000s.jpg`; names sort as times do."""
    return f"{time // 1000:06d}.{time % 1000:03d}s.jpg"


def clip_of(path: str) -> str | None:
    """The video that a photo is a frame of, by the photo's path; None for other photos.

    Args:
        path: POSIX, below the folder of the photos: `yard/gate3.mp4/000012.000s.jpg`.
    """
    photo = PurePosixPath(path)
    return photo.parent.as_posix() if _FRAME.fullmatch(photo.name) and is_video(photo.parent.name) else None


def time_of(path: str) -> int:
    """Milliseconds from the first picture of the video to a frame, by the frame's path."""
    match = _FRAME.fullmatch(PurePosixPath(path).name)
    if match is None:
        raise ValueError(f"{path}: not the name of a frame")
    return int(match[1]) * 1000 + int(match[2])
