"""The student: backbones, data, training. Lightning stays in here."""

from factory.student.train import load, train

__all__ = ["load", "train"]
