"""The model that a name means: a file, a run's, or a release in a registry."""

from __future__ import annotations

import os
from pathlib import Path

from clip_factory.errors import RunError
from clip_factory.progress import console
from clip_factory.run_folder import LATEST, MODEL, find_run
from clip_factory.runtime import Model, ModelError
from clip_factory.runtime.releases.release_reference import is_reference
from clip_factory.runtime.suggestions import nearest, nearest_file
from clip_factory.terminal import plain


def load(model: Path, registry: str | None = None, public_key: Path | None = None) -> Model:
    """A model file, the model of a run, or a release; the environment has a say only where no file is meant.

    Raises:
        FactoryError: There is no such file, run or release, or it cannot be trusted.
    """
    if registry is None and (model.is_dir() or (model.name == LATEST and not model.exists())):
        model = _of_run(model)
    if registry is None and is_reference(str(model)) and not model.is_file():
        registry = os.environ.get("FACTORY_REGISTRY") or None
    if registry is not None and public_key is None and (named := os.environ.get("FACTORY_PUBLIC_KEY")):
        public_key = Path(named)
    if registry is not None and "://" in registry:
        console.print(f"asking {plain(registry)} for {plain(model)}")
    if registry is None and not model.exists() and not nearest_file(model, [".onnx"]) and nearest(model.name, [LATEST]):
        raise ModelError(f"{model}: no such model or run", hint=f"did you mean {model.with_name(LATEST)}?")
    return Model.load(model, registry=registry, public_key=public_key)


def _of_run(named: Path) -> Path:
    """The model of a run; a folder that holds no run is left for the runtime to name."""
    try:
        run = find_run(named)
    except RunError:
        if named.is_dir():
            return named
        raise
    if run.path != named:
        console.print(f"run {run.path}", markup=False)
    return run.need(MODEL, "export")
