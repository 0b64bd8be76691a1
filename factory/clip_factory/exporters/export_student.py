"""The stage: calibrate the student, place its threshold, and write model.onnx and whatever other formats there are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clip_factory import __version__, students
from clip_factory.errors import ExportError
from clip_factory.exporters.calibration import Calibration, SoftTruth, calibrate
from clip_factory.exporters.calibration_set import held_out
from clip_factory.exporters.exporter import (
    DEFAULT_FORMAT,
    Exporter,
    ExportImages,
    ExportSource,
    FloatStudent,
    load_exporter,
)
from clip_factory.exporters.onnx_metadata import read
from clip_factory.exporters.threshold import Threshold, choose_threshold
from clip_factory.images.photo import read_squares
from clip_factory.images.scenario_region import scenario_region
from clip_factory.labels import Labels
from clip_factory.run_folder import LABELS, MODEL, RunFolder, sha256_file
from clip_factory.runtime.model_checks import CLASSES, FORMAT, PREPROCESSING, REGION_RESIZE
from clip_factory.runtime.preprocessing import RULES
from clip_factory.scenario import Scenario, stamped

TRAIN_SAMPLE = 192
"""Training photos from which ranges of activations are taken."""
LICENSE = "Apache-2.0"
LOG_EVENT = "rungs"
"""The event of log.jsonl that holds what was tried; the name is that of version 0.1.0."""


def export(scenario: Scenario, run: RunFolder, formats: Sequence[str] | None = None) -> None:
    """Write model.onnx, calibrated and within the budget, and the other formats.

    Args:
        scenario: `images.path` is the absolute folder that labels.parquet's paths start from.
        run: Holds labels.parquet, student.ckpt and held_out.parquet.
        formats: Names of exporters beside ONNX; None: those that the run has already.

    Raises:
        ExportError: No file fits the budget, or none is close enough to the trained network; or a format is unknown.
        RunError: The run has no labels or no student yet.
    """
    others = other_formats(run) if formats is None else [name for name in formats if name != DEFAULT_FORMAT]
    source = export_source(scenario, run)
    rows = load_exporter(DEFAULT_FORMAT).export(source, run.file(MODEL))
    for name in others:
        exporter, path = other_file(run, name)
        rows += [{"format": name, **row} for row in exporter.export(source, path)]
    run.log(LOG_EVENT, rows=rows, **({"formats": others} if others else {}))


def other_formats(run: RunFolder) -> list[str]:
    """Names of the formats that the run has been exported to beside ONNX."""
    events = run.events(LOG_EVENT)
    return [str(name) for name in events[-1].get("formats", [])] if events else []


def other_file(run: RunFolder, name: str) -> tuple[Exporter, Path]:
    """The exporter of a format beside ONNX, and where its file lies in a run.

    Raises:
        ExportError: There is no such format, or it would write over another file of the run.
    """
    exporter = load_exporter(name)
    if exporter.file_name == MODEL or Path(exporter.file_name).stem != Path(MODEL).stem:
        raise ExportError(
            f"export format {name!r} writes {exporter.file_name!r}",
            hint="an exporter's file_name is `model.` and an ending of its own",
        )
    return exporter, run.file(exporter.file_name)


def export_source(scenario: Scenario, run: RunFolder) -> ExportSource:
    """What an exporter is given: the calibrated network, the photos decoded, the metadata.

    Raises:
        RunError: The run has no labels or no student yet.
        ImageError: A photo cannot be read any more.
    """
    network, photos = students.load(run), held_out(run)
    calibration = calibrate(photos.logits, photos.truth)
    threshold = choose_threshold(calibration.probabilities(photos.logits), photos.truth, scenario.need, photos.groups)
    student = FloatStudent(network, calibration)
    images = _images(scenario, run, int(network.config["image_size"]), photos.val_truth)
    return ExportSource(scenario, student, images, _metadata(scenario, run, student, threshold))


def network_probabilities(run: RunFolder, pixels: np.ndarray) -> np.ndarray:
    """What the trained network answers, calibrated as the exported file is: the reference of the gate's parity clause.

    Args:
        run: Holds student.ckpt and model.onnx.
        pixels: uint8 `(N, S, S, 3)`, RGB in [0, 255].

    Returns:
        float32 `(N,)` in [0, 1].
    """
    calibration = Calibration.read(read(run.need(MODEL, "export"))["calibration"])
    return FloatStudent(students.load(run), calibration).probabilities(pixels)


def _metadata(scenario: Scenario, run: RunFolder, student: FloatStudent, threshold: Threshold) -> dict[str, str]:
    config, teacher = student.network.config, Labels.of_run(run).teacher
    size, region = int(config["image_size"]), scenario_region(scenario)
    cropping = {} if region is None else {"resize": REGION_RESIZE, "region": region.to_json()}
    decoding = (
        f"rules {RULES}: upright by EXIF, deep gray to 8 bits (stretched between its 0.1 and 99.9 % where it spans less"
        " than half of its range), transparency laid on white"
    )
    return {
        "format": FORMAT,
        "name": scenario.name,
        "question": scenario.asked,
        "scenario": stamped(scenario),
        "classes": json.dumps(CLASSES),
        "threshold": f"{threshold.threshold:g}",
        "cut": json.dumps(threshold.to_dict()),
        "image_size": str(size),
        "preprocessing": json.dumps({"decode": decoding, **PREPROCESSING, **cropping, "size": size}),
        "teacher": json.dumps({key: teacher.get(key) for key in ("name", "key", "license")}),
        "data_sha256": sha256_file(run.file(LABELS)),
        "backbone": str(config["backbone"]),
        "calibration": json.dumps(student.calibration.to_dict()),
        "version": __version__,
        "license": LICENSE,
    }


def _images(scenario: Scenario, run: RunFolder, size: int, val_truth: SoftTruth) -> ExportImages:
    labels = Labels.of_run(run)
    root = Path(scenario.images.path or "")
    train = labels.of_split("train")
    sample = train.select(np.arange(0, len(train), max(1, len(train) // TRAIN_SAMPLE)))
    parts = (sample, labels.of_split("val"), labels.of_split("test"))
    region = scenario_region(scenario)
    pixels = [read_squares(part.photos(root, region), size) for part in parts]
    return ExportImages(pixels[0], pixels[1], pixels[2], val_truth)
