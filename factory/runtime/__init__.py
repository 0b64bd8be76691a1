"""Answers a model's question about images, with onnxruntime, numpy and Pillow alone.

    from factory.runtime import Model

    model = Model.load("forklift.onnx")
    for prediction in model.predict(["a.jpg", "b.png"]):
        print(prediction.path, prediction.label, prediction.probability)

Nothing else of the factory is imported from here, and never torch.
"""

from factory.runtime.errors import FactoryError, ImageError, ModelError, OfflineWarning, RegistryError
from factory.runtime.images import find_images, read_rgb, to_square
from factory.runtime.model import Model, Prediction
from factory.runtime.scores import ScoreHistogram

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
    "read_rgb",
    "to_square",
]
