"""The student: backbones, data, training. Lightning stays in here."""

from factory.student.backbones import choose
from factory.student.held_out import logits
from factory.student.train import load, train

__all__ = ["choose", "load", "logits", "train"]
