"""The region that a scenario names: its numbers as they are, its mask read and made small; and what it is of photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageChops, ImageOps

from clip_factory.errors import ImageError, ScenarioError
from clip_factory.runtime.preprocessing import read_rgb
from clip_factory.runtime.region import MAX_CELLS, MIN_PIXELS, Region
from clip_factory.scenario import RegionMask, Scenario

SEEN = 128
"""Mean brightness of a cell, of 255, from which it is seen."""


def scenario_region(scenario: Scenario) -> Region | None:
    """The part of each photo that a scenario asks about; None: the whole.

    Raises:
        ScenarioError: Its mask cannot be read, or leaves nothing to be seen.
    """
    if scenario.region is None:
        return None
    if isinstance(scenario.region, RegionMask):
        return read_mask(Path(scenario.region.mask))
    return Region.of_box(scenario.region)


def read_mask(path: Path) -> Region | None:
    """The region of a mask: white is seen, black is not, nor what is transparent.

    The picture is brought to at most 128 x 128 cells, each the mean of its pixels, and seen where that is at least
    half of white. These cells are the mask from then on, in every stage and in the model.

    Args:
        path: A picture of a whole photo's outline, of any size: it is stretched over photos.

    Returns:
        None where all is white.

    Raises:
        ScenarioError: The picture cannot be read, or has no white.
    """
    try:
        gray = _on_black(path, read_rgb(path).convert("L"))
    except ImageError as error:
        raise ScenarioError(
            f"region.mask: {error.what}", hint="check the path; it starts at the scenario file"
        ) from None
    size = (min(gray.width, MAX_CELLS), min(gray.height, MAX_CELLS))
    cells = np.asarray(gray.resize(size, Image.Resampling.BOX)) >= SEEN
    try:
        return Region.of_cells(cells)
    except ValueError:
        raise ScenarioError(
            f"region.mask: {path}: nothing in it is white",
            hint="paint white what the model is to look at, the rest black",
        ) from None


def _on_black(path: Path, on_white: Image.Image) -> Image.Image:
    """The mask's brightness where what is transparent in it lies on black, in place of the white of photos."""
    with Image.open(path) as picture:
        if not picture.has_transparency_data:
            return on_white
        opaque = ImageOps.exif_transpose(picture.convert("RGBA")).getchannel("A")
    return ImageChops.subtract(on_white, ImageChops.invert(opaque))


def small_regions(table: pa.Table, region: Region) -> int:
    """Of how many photos the region has fewer than `MIN_PIXELS` a side, by their width and height as stored.

    Args:
        table: images.parquet.
        region: The region.
    """
    used = table.filter(pc.is_null(table["reason"]))
    sizes = zip(used["width"].to_pylist(), used["height"].to_pylist(), strict=True)
    return sum(region.is_small(width, height) for width, height in sizes)


def warning(small: int, photos: int) -> str:
    """What a person must know of a region of few pixels."""
    return (
        f"warning: of {small:,} of {photos:,} photos the region is smaller than {MIN_PIXELS} pixels on a side: neither"
        " teacher nor student sees much in it; choose a larger region, or use larger photos"
    )
