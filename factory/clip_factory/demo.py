"""The demo's pictures, rendered where the user asks for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clip_factory.errors import RunError
from clip_factory.progress import bar
from clip_factory_demo.render import render_set

SAMPLES = 12
"""How many pictures the demo shows predictions for."""


@dataclass(frozen=True)
class DemoSet:
    """What the demo has rendered."""

    scenario: Path
    truth: Path
    """CSV in the form that `--gold` takes."""
    samples: list[Path]


def make(folder: Path, count: int) -> DemoSet:
    """Render `count` pictures below `folder`, unless they are there already, beside their scenario.yaml.

    Raises:
        RunError: The folder holds somebody's own files.
    """
    images, truth = folder / "images", folder / "truth.csv"
    scenario = folder / "scenario.yaml"
    if not scenario.is_file():  # written last
        try:
            with bar("rendering") as progress:
                render_set(folder, count, progress=progress)
        except FileExistsError as error:
            raise RunError(str(error), hint="name another: factory demo --out DIR") from None
    pictures = sorted(images.iterdir())
    return DemoSet(scenario, truth, pictures[:: max(1, len(pictures) // SAMPLES)][:SAMPLES])
