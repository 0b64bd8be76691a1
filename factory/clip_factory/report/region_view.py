"""What a page says and shows of the region that a scenario asks about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clip_factory.errors import ImageError, ImagesError
from clip_factory.images.photo_paths import file_at
from clip_factory.images.region_picture import marked
from clip_factory.report.embedded_images import uri
from clip_factory.runtime.preprocessing import read_rgb
from clip_factory.runtime.region import Region

SIDE = 720
"""Longest side of the picture, in pixels."""


@dataclass(frozen=True)
class RegionView:
    """A region in words, and a whole photo in which it is marked."""

    says: str
    path: str
    """Of the photo; empty where none could be read."""
    uri: str
    """`data:` URI of a JPEG; empty where no photo could be read."""


def region_view(region: Region | None, root: Path, paths: Sequence[str]) -> RegionView | None:
    """The region, marked in the first of some photos that can be read; None where whole photos are asked about.

    Args:
        region: The region.
        root: Folder that the paths start from.
        paths: Of photos, as tables hold them.
    """
    if region is None:
        return None
    for path in paths:
        try:
            photo = read_rgb(file_at(root, path), min_side=SIDE)
        except (ImageError, ImagesError, OSError, ValueError):
            continue
        photo.thumbnail((SIDE, SIDE))
        return RegionView(region.says, path, uri(marked(photo, region)))
    return RegionView(region.says, "", "")
