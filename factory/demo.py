"""The demo's pictures, rendered where the user asks for them."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from factory.errors import RunError
from factory.progress import bar

PLACES = (Path(__file__).parent / "datasets" / "demo", Path(__file__).parent.parent / "datasets" / "demo")
"""Where the renderer lies: in the installed package, in a checkout."""

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
        RunError: The renderer is not installed, or the folder holds somebody's own files.
    """
    renderer = _renderer()
    images, truth = folder / "images", folder / "truth.csv"
    scenario = folder / "scenario.yaml"
    if not scenario.is_file():  # written last
        try:
            with bar("rendering") as progress:
                renderer.render_set(folder, count, progress=progress)
        except FileExistsError as error:
            raise RunError(str(error), hint="name another: factory demo --out DIR") from None
    pictures = sorted(images.iterdir())
    return DemoSet(scenario, truth, pictures[:: max(1, len(pictures) // SAMPLES)][:SAMPLES])


def _renderer() -> ModuleType:
    """The package datasets/demo, by its path: another installed package may be called `datasets`."""
    for place in PLACES:
        if (place / "render.py").is_file():
            package = ModuleType("factory_demo_set")
            package.__path__ = [str(place)]
            sys.modules[package.__name__] = package
            return importlib.import_module(f"{package.__name__}.render")
    raise RunError("the demo's renderer is not installed", hint="reinstall: pip install 'clip-factory[train]'")
