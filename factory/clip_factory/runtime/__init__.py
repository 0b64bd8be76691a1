"""Answers a model's question about images, with onnxruntime, numpy and Pillow alone.

    from clip_factory.runtime import Model

    model = Model.load("forklift.onnx")
    for prediction in model.predict("photos/"):
        print(prediction.path, prediction.label, prediction.probability)

Nothing else of the factory is imported from here, and never torch. A name is imported when it is first used, so that
who only wants `FactoryError`, or the command line's help, does not wait for onnxruntime.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clip_factory.runtime.model import Model
    from clip_factory.runtime.predictions import Prediction, iter_predict_all
    from clip_factory.runtime.preprocessing import find_images, read_rgb, to_square
    from clip_factory.runtime.runtime_errors import FactoryError, ImageError, ModelError, OfflineWarning, RegistryError
    from clip_factory.runtime.score_histogram import ScoreHistogram

__all__ = [
    "FactoryError",
    "ImageError",
    "Model",
    "ModelError",
    "OfflineWarning",
    "Prediction",
    "RegistryError",
    "ScoreHistogram",
    "find_images",
    "iter_predict_all",
    "read_rgb",
    "to_square",
]

_HOMES = {
    "runtime_errors": ("FactoryError", "ImageError", "ModelError", "OfflineWarning", "RegistryError"),
    "preprocessing": ("find_images", "read_rgb", "to_square"),
    "model": ("Model",),
    "predictions": ("Prediction", "iter_predict_all"),
    "score_histogram": ("ScoreHistogram",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A public name, from the module that it lives in (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
