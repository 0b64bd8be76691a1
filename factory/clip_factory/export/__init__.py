"""A trained student becomes one ONNX file: precision ladder, parity, calibration, threshold."""

from clip_factory.export.precision_ladder import export, network_probabilities
from clip_factory.export.rethreshold import cut_for, recut

__all__ = ["cut_for", "export", "network_probabilities", "recut"]
