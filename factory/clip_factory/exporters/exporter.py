"""The seam of export formats: from the trained network to one file, and how that file is asked.

A format is a class with the members of `Exporter`, and a line in the table below or an entry point of another package:

    [project.entry-points."clip_factory.exporters"]
    tflite = "my_package:TFLiteExporter"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clip_factory import students
from clip_factory.errors import ExportError
from clip_factory.exporters.calibration import Calibration, SoftTruth
from clip_factory.loader_table import LoaderTable
from clip_factory.runtime.suggestions import did_you_mean
from clip_factory.scenario import Scenario
from clip_factory.students.network import Student

DEFAULT_FORMAT = "onnx"
"""The format that every run has: model.onnx, which registries and the runtime know."""


@dataclass(frozen=True)
class FloatStudent:
    """The trained network in float32 and its calibration: every exported file must answer as this does."""

    network: Student
    """In eval mode: uint8 `(N, S, S, 3)` -> logits `(N,)`."""
    calibration: Calibration

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 `(N, S, S, 3)`, RGB -> calibrated probabilities of yes, float32 `(N,)`."""
        return self.calibration.probabilities(students.logits(self.network, pixels))


@dataclass(frozen=True)
class ExportImages:
    """The photos that an export may use; S is the student's image size."""

    sample: np.ndarray
    """Training photos for ranges of activations, uint8 `(M, S, S, 3)`."""
    val: np.ndarray
    """uint8 `(N, S, S, 3)`."""
    test: np.ndarray
    """uint8 `(K, S, S, 3)`; for the histogram of scores only."""
    truth: SoftTruth
    """Of the val photos."""


@dataclass(frozen=True)
class ExportSource:
    """All that an exporter is given."""

    scenario: Scenario
    student: FloatStudent
    images: ExportImages
    metadata: Mapping[str, str]
    """What every file should say of itself: question, threshold, preprocessing, license and so on."""


class Exporter(Protocol):
    """One export format."""

    @property
    def file_name(self) -> str:
        """The file's name in the run folder: `model.` and an ending of its own."""

    def export(self, source: ExportSource, path: Path) -> list[dict[str, Any]]:
        """Write the file at `path`, whole or not at all.

        Returns:
            A row for each variant that was tried, for log.jsonl: values that JSON can hold.

        Raises:
            ExportError: No file can be made that is close enough to the network and fits the budget.
        """

    def probabilities(self, path: Path, pixels: np.ndarray) -> np.ndarray:
        """What the file at `path` answers.

        Args:
            path: A file that `export` wrote.
            pixels: uint8 `(N, S, S, 3)`, RGB.

        Returns:
            Probabilities of yes, float `(N,)` in [0, 1].
        """


def _onnx() -> Exporter:
    from clip_factory.exporters.onnx_exporter import OnnxExporter

    return OnnxExporter()


EXPORTERS: LoaderTable[Callable[[], Exporter]] = LoaderTable("clip_factory.exporters", {DEFAULT_FORMAT: _onnx})


def load_exporter(name: str) -> Exporter:
    """The exporter of a format.

    Raises:
        ExportError: There is none of that name.
        PluginError: The package that has it cannot be imported.
    """
    loader = EXPORTERS.find(name)
    if loader is None:
        known = EXPORTERS.names
        hint = did_you_mean(name, known, f"known: {', '.join(known)}")
        raise ExportError(f"no export format {name!r}", hint=hint)
    return loader()
