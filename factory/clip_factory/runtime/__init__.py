"""Answers a model's question about images, with onnxruntime, numpy and Pillow alone.

    from clip_factory.runtime import Model

    model = Model.load("forklift.onnx")
    for prediction in model.predict("photos/"):
        print(prediction.path, prediction.label, prediction.probability)

The upper half (`model`, `predictions`, ...) predicts; `releases` finds, downloads, caches and verifies what a registry
holds, and is imported only for a model of a registry. Nothing else of the factory is imported from here, and never
torch. A name is imported when it is first used, so that the command line's help does not wait for onnxruntime.
"""

from typing import TYPE_CHECKING, Any

from clip_factory.runtime.runtime_errors import FactoryError, ImageError, ModelError, OfflineWarning, RegistryError

if TYPE_CHECKING:
    from clip_factory.runtime.model import Model
    from clip_factory.runtime.photo_files import find_images
    from clip_factory.runtime.predictions import Prediction, iter_predict_all
    from clip_factory.runtime.preprocessing import read_rgb, to_square
    from clip_factory.runtime.score_histogram import ScoreHistogram
    from clip_factory.runtime.video_predictions import Span, VideoPrediction, iter_predict_video
    from clip_factory.runtime.zero_shot_classifier import Classification, ZeroShot

__all__ = [
    "Classification",
    "FactoryError",
    "ImageError",
    "Model",
    "ModelError",
    "OfflineWarning",
    "Prediction",
    "RegistryError",
    "ScoreHistogram",
    "Span",
    "VideoPrediction",
    "ZeroShot",
    "find_images",
    "iter_predict_all",
    "iter_predict_video",
    "read_rgb",
    "to_square",
]


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it (PEP 562)."""
    value = globals()[name] = _load(name)
    return value


def _load(name: str) -> Any:
    match name:
        case "Model":
            from clip_factory.runtime.model import Model

            return Model
        case "Prediction" | "iter_predict_all":
            from clip_factory.runtime import predictions

            return getattr(predictions, name)
        case "find_images":
            from clip_factory.runtime.photo_files import find_images

            return find_images
        case "read_rgb" | "to_square":
            from clip_factory.runtime import preprocessing

            return getattr(preprocessing, name)
        case "Span" | "VideoPrediction" | "iter_predict_video":
            from clip_factory.runtime import video_predictions

            return getattr(video_predictions, name)
        case "ScoreHistogram":
            from clip_factory.runtime.score_histogram import ScoreHistogram

            return ScoreHistogram
        case "Classification" | "ZeroShot":
            from clip_factory.runtime import zero_shot_classifier

            return getattr(zero_shot_classifier, name)
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
