"""The photos on which a run's model does worst, on one sheet: made where the photos are, shown in the comment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from automation import runs
from automation.command import outputs, program, say
from clip_factory.errors import FactoryError
from clip_factory.images.scenario_region import scenario_region
from clip_factory.report.embedded_images import GRAY, QUALITY, SIDE, tile
from clip_factory.report.plot_data import Indices, confident_mistakes
from clip_factory.report.run_data import LabeledPhotos
from clip_factory.runtime.region import Region

MAX_IMAGES, COLUMNS = 16, 4
GROUND = (246, 248, 250)
SUFFIX = ".worst.jpg"


def worst(labels: LabeledPhotos, threshold: float, max_images: int = MAX_IMAGES) -> Indices:
    """Test images by how badly they are answered: wrong ones, the surest first; then right ones, the least sure first.

    Args:
        labels: The labeled images.
        threshold: From here on the answer is yes.
        max_images: Largest number of images returned.

    Returns:
        Indices into the arrays of `labels`.
    """
    tested = np.where(labels.test, labels.student, np.nan)
    wrong = confident_mistakes(tested, labels.reference, threshold, len(tested))
    right = np.setdiff1d(np.flatnonzero(labels.test), wrong)
    room = np.where(tested[right] >= threshold, 1 - threshold, threshold)
    doubt = np.argsort(np.abs(tested[right] - threshold) / np.maximum(room, 1e-12), kind="stable")
    return np.concatenate([wrong, right[doubt]]).astype(np.intp)[:max_images]


def sheet(labels: LabeledPhotos, threshold: float, root: Path, region: Region | None = None) -> Image.Image | None:
    """The worst images as squares of `SIDE` pixels, four a row, with no words; None where nothing was tested."""
    chosen = worst(labels, threshold)
    if not len(chosen):
        return None
    rows = -(-len(chosen) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * SIDE, rows * SIDE), GROUND)
    for place, index in enumerate(chosen):
        image = tile(root, labels.path[int(index)], region=region) or Image.new("RGB", (SIDE, SIDE), GRAY)
        left, top = place % COLUMNS * SIDE, place // COLUMNS * SIDE
        page.paste(image, (left + (SIDE - image.width) // 2, top + (SIDE - image.height) // 2))
    return page


def main(
    folder: Annotated[Path, typer.Option("--runs", help="Folder with runs somewhere below.", metavar="DIR")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.worst.jpg.", metavar="DIR")],
) -> None:
    """Write the 16 photos on which each run's model does worst, as one picture: OUT/NAME.worst.jpg.

    Run it where the photos are; `pr_comment` then needs none. Prints pictures=N for $GITHUB_OUTPUT.

    Example:  python -m automation.worst_images --runs runs --out runs
    """
    made = 0
    for run in runs.newest(runs.find(folder)).values():
        if isinstance(run, FactoryError):
            say(run)
            continue
        page = sheet(run.labels, run.threshold, Path(run.scenario.images.path or "."), scenario_region(run.scenario))
        if page is not None:
            out.mkdir(parents=True, exist_ok=True)
            page.save(out / f"{run.name}{SUFFIX}", "JPEG", quality=QUALITY, optimize=True)
            made += 1
    outputs(pictures=str(made))


if __name__ == "__main__":
    program("worst_images", main)
