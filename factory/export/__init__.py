"""A trained student becomes one ONNX file: precision ladder, parity, calibration, threshold."""

from factory.export.ladder import export, network_probabilities
from factory.export.recut import cut_for, recut

__all__ = ["cut_for", "export", "network_probabilities", "recut"]
