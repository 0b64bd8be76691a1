"""The tree of errors. The command line translates any `FactoryError` to exit code 2.

FactoryError
├── ImageError       one image cannot be read                         (from clip_factory.runtime)
├── ModelError       the model file is wrong                          (from clip_factory.runtime)
├── RegistryError    a registry lacks something, or cannot be trusted  (from clip_factory.runtime)
├── ScenarioError    the scenario file is wrong: line, key, value
├── ImagesError      the folder, archive or URL gives no usable images
├── GoldError        the gold labels do not fit the images
├── TeacherError     the teacher is unknown, or its weights are missing or altered
├── PluginError      another package's encoder, label source, back-end ... cannot be used
├── LabelsError      the labels carry nothing that a student could learn
├── StoreError       the embedding store cannot be read or written
├── ReviewError      an answer cannot be kept, or does not fit the run
├── RunError         the run folder lacks what a stage needs
├── TrainError       the student cannot be trained
└── ExportError      the exported file is not the student: parity, checker, size
"""

from __future__ import annotations

from pathlib import Path

from clip_factory.runtime.runtime_errors import FactoryError, ImageError, ModelError, RegistryError


class ScenarioError(FactoryError):
    """The scenario file is wrong."""


class ImagesError(FactoryError):
    """The folder, archive or URL gives no usable images."""


class GoldError(FactoryError):
    """The gold labels do not fit the images."""


class TeacherError(FactoryError):
    """The teacher is unknown, or its weights are missing or altered."""


class PluginError(FactoryError):
    """A package that adds an encoder, label source, back-end and so on cannot be imported, or is wrong."""


class LabelsError(FactoryError):
    """The labels cannot train anything."""

    run: Path | None = None
    """The run folder, whose labels are kept."""


class StoreError(FactoryError):
    """The embedding store cannot be read or written."""


class RunError(FactoryError):
    """The run folder lacks what a stage needs."""


class ReviewError(FactoryError):
    """An answer cannot be kept, or does not fit the run."""


class TrainError(FactoryError):
    """The student cannot be trained."""


class ExportError(FactoryError):
    """The exported file is not the student."""


__all__ = [
    "ExportError",
    "FactoryError",
    "GoldError",
    "ImageError",
    "ImagesError",
    "LabelsError",
    "ModelError",
    "PluginError",
    "RegistryError",
    "ReviewError",
    "RunError",
    "ScenarioError",
    "StoreError",
    "TeacherError",
    "TrainError",
]
