"""Export: a trained student becomes one ONNX file that fits the budget and is proven equal to it."""

from factory.export.ladder import export, network_probabilities

__all__ = ["export", "network_probabilities"]
