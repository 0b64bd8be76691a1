"""A trained student becomes one ONNX file: precisions, parity, calibration, threshold; other formats plug in."""

from clip_factory.exporters.export_student import export, network_probabilities
from clip_factory.exporters.rethreshold import rethreshold, threshold_for

__all__ = ["export", "network_probabilities", "rethreshold", "threshold_for"]
