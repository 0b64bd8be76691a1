"""Another threshold for a model that is there: seconds, and no training."""

from __future__ import annotations

import json

from clip_factory.errors import ExportError
from clip_factory.export.calibration import Calibration
from clip_factory.export.calibration_set import unseen
from clip_factory.export.onnx_metadata import read, rewrite
from clip_factory.export.threshold import Cut, place
from clip_factory.run_folder import LABELS, MODEL, RunFolder, sha256_file
from clip_factory.scenario import Need, Scenario


def cut_for(run: RunFolder, need: Need) -> Cut:
    """Where a need puts the threshold of a run's model, and what is expected there; nothing is changed.

    Raises:
        RunError: The run has no model yet.
        ExportError: The model was made by a version that kept no held-out photos.
    """
    path = run.need(MODEL, "export")
    said = read(path).get("calibration")
    if said is None:
        raise ExportError(f"{path} does not say how it was calibrated", hint=f"export again: factory export {run.path}")
    photos = unseen(run)
    calibration = Calibration.read(said)
    return place(calibration.probabilities(photos.logits), photos.truth, need, photos.groups)


def recut(scenario: Scenario, run: RunFolder) -> Cut:
    """Write the scenario's threshold and the labels' hash into model.onnx, whose weights stay as they are.

    Raises:
        RunError: The run has no model yet.
        ExportError: The model was made by a version that kept no held-out photos.
    """
    cut = cut_for(run, scenario.need)
    rewrite(
        run.file(MODEL),
        {
            "threshold": f"{cut.threshold:g}",
            "cut": json.dumps(cut.described()),
            "data_sha256": sha256_file(run.file(LABELS)),
            "scenario": scenario.model_dump_json(exclude={"images", "gold", "answers"}),
        },
        drop=("gate",),
    )
    return cut
