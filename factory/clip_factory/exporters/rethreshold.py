"""Another threshold for a model that is there: seconds, and no training."""

from __future__ import annotations

import json

from clip_factory.errors import ExportError
from clip_factory.exporters.calibration import Calibration
from clip_factory.exporters.calibration_set import held_out
from clip_factory.exporters.export_student import export_source, other_file, other_formats
from clip_factory.exporters.onnx_metadata import read, update
from clip_factory.exporters.threshold import Threshold, choose_threshold
from clip_factory.run_folder import LABELS, MODEL, RunFolder, sha256_file
from clip_factory.scenario import Need, Scenario, stamped


def threshold_for(run: RunFolder, need: Need) -> Threshold:
    """Where a need puts the threshold of a run's model, and what is expected there; nothing is changed.

    Raises:
        RunError: The run has no model yet.
        ExportError: The model was made by a version that kept no held-out photos.
    """
    path = run.need(MODEL, "export")
    stored = read(path).get("calibration")
    if stored is None:
        raise ExportError(f"{path} does not say how it was calibrated", hint=f"export again: factory export {run.path}")
    photos = held_out(run)
    probability = Calibration.read(stored).probabilities(photos.logits)
    return choose_threshold(probability, photos.truth, need, photos.groups)


def rethreshold(scenario: Scenario, run: RunFolder) -> Threshold:
    """Write the scenario's threshold and the labels' hash into model.onnx, whose weights stay as they are.

    Other formats are exported again: how they store a threshold is their own matter.

    Raises:
        RunError: The run has no model yet.
        ExportError: The model was made by a version that kept no held-out photos.
    """
    threshold = threshold_for(run, scenario.need)
    entries = {
        "threshold": f"{threshold.threshold:g}",
        "cut": json.dumps(threshold.to_dict()),
        "data_sha256": sha256_file(run.file(LABELS)),
        "scenario": stamped(scenario),
    }
    update(run.file(MODEL), entries, drop=("gate",))
    if others := other_formats(run):
        source = export_source(scenario, run)
        for exporter, path in (other_file(run, name) for name in others):
            exporter.export(source, path)
    return threshold
