"""The student: backbones, data, training. Lightning stays in here."""

from clip_factory.students.backbones import choose
from clip_factory.students.cross_fitting import logits
from clip_factory.students.training import load, train

__all__ = ["choose", "load", "logits", "train"]
