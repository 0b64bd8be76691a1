"""Photos as small pictures inside the page."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from clip_factory.errors import ImageError, ImagesError
from clip_factory.images.photo import Photo, read_photo_rgb
from clip_factory.images.photo_paths import file_at
from clip_factory.report.evidence_overlay import Overlay, overlay
from clip_factory.report.plot_data import Indices
from clip_factory.report.run_data import LabeledPhotos
from clip_factory.runtime.preprocessing import read_rgb
from clip_factory.runtime.processors import usable_cpus
from clip_factory.runtime.region import Region

SIDE = 192
"""Longest side of a picture, in pixels: sharp at the 160 or so that the page gives it."""
QUALITY = 80
GRAY = (150, 150, 150)


@dataclass(frozen=True)
class Picture:
    """One photo with what is known about it."""

    uri: str
    """`data:` URI of a JPEG."""
    missing: bool
    """Whether the photo could not be read, so that the picture is a gray tile."""
    path: str
    split: str
    teacher: float
    """The teacher's probability of yes, in [0, 1]."""
    student: float | None
    """The student's; None where it was not asked."""
    gold: bool | None
    """A person's label."""
    truth: bool
    """What counts as right: gold, else the teacher's answer."""
    overlay: Overlay | None = None
    """What the label source shows for its answer; None where there is nothing."""


def pictures(labels: LabeledPhotos, chosen: Indices, root: Path, region: Region | None) -> list[Picture]:
    """The chosen images, in order, read in threads.

    Args:
        labels: The labeled images.
        chosen: Indices into them.
        root: Folder that their paths start from.
        region: The part of each that is shown; None: the whole.
    """
    with ThreadPoolExecutor(usable_cpus()) as pool:
        images = list(pool.map(lambda i: tile(root, labels.path[i], labels.sha256[i], region), chosen))
    return [_picture(labels, int(i), image) for i, image in zip(chosen, images, strict=True)]


def _picture(labels: LabeledPhotos, i: int, image: Image.Image | None) -> Picture:
    evidence = labels.evidence.get(labels.sha256[i]) if image else None
    return Picture(
        uri=uri(image or Image.new("RGB", (SIDE, SIDE), GRAY)),
        missing=image is None,
        path=labels.path[i],
        split=str(labels.split[i]),
        teacher=float(labels.teacher[i]),
        student=float(labels.student[i]) if labels.asked[i] else None,
        gold=bool(labels.gold[i]) if labels.labeled[i] else None,
        truth=bool(labels.reference[i]),
        overlay=overlay(evidence, image.size, labels.evidence_positive) if image and evidence else None,
    )


def tile(root: Path, path: str, sha256: str | None = None, region: Region | None = None) -> Image.Image | None:
    """The photo or its region, made small; None where it cannot be read, is another now, or its path leaves the folder.

    Args:
        root: The folder that the path starts from.
        path: Of the photo, as tables hold it.
        sha256: Of the photo that was labeled; None where any will do.
        region: The part of it that is shown; None: the whole.
    """
    try:
        file = file_at(root, path)
        if sha256 is None:
            image = read_rgb(file, min_side=SIDE, region=region)
        else:
            image = read_photo_rgb(Photo(sha256, file, region), min_side=SIDE)
    except (ImageError, ImagesError, OSError, ValueError):
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image


def uri(image: Image.Image) -> str:
    """The picture as a JPEG in a `data:` URI, which a page can hold."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")
