"""The stage: hold a run's model against the rule, by the bytes that are exported, on photos that training never saw."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clip_factory import run_folder as files
from clip_factory.errors import ExportError
from clip_factory.exporters.export_student import network_probabilities, other_file, other_formats
from clip_factory.exporters.onnx_metadata import read, update
from clip_factory.gate.evidence import Evidence, collect
from clip_factory.gate.figures import compute_figures, summarize
from clip_factory.gate.rule import Clause, decide, evaluate_clauses
from clip_factory.images.photo import read_squares
from clip_factory.labels import Labels
from clip_factory.run_folder import RunFolder, sha256_file
from clip_factory.runtime import Model
from clip_factory.runtime.atomic import atomic, write_json
from clip_factory.scenario import Scenario, means_the_same, stamped


def evaluate(scenario: Scenario, run: RunFolder) -> None:
    """Measure the exported file on the test split; write predictions.parquet and gate.json; stamp the model.

    Raises:
        RunError: An earlier stage's file is missing.
        ImageError: A test image has changed or vanished.
        ExportError: The file answers otherwise once the gate's figures are in it.
    """
    path = run.need(files.MODEL, "export")
    labels, model = Labels.of_run(run), Model.load(path)
    held_out = labels.of_split("val", "test")
    photos = held_out.photos(Path(scenario.images.path or "."), model.region)
    pixels = read_squares(photos, model.image_size)
    probabilities = model.probabilities(pixels)
    _write_predictions(run, held_out, probabilities)

    test = held_out.split == "test"
    evidence = collect(
        labels,
        model.threshold,
        probabilities[test],
        network_probabilities(run, pixels[test]),
        _other_formats(run, pixels[test]),
    )
    latency = _latency_ms(model, pixels[0])
    clauses = evaluate_clauses(scenario, evidence, path.stat().st_size)
    again = _stamp(path, scenario, summarize(clauses, decide(scenario, evidence, clauses)))
    if not np.array_equal(again.probabilities(pixels), probabilities):
        raise ExportError(f"{path}: answers changed when the gate's figures were written into the file")
    clauses = evaluate_clauses(scenario, evidence, path.stat().st_size)  # the stamp has made the file larger
    _write_gate(scenario, run, evidence, clauses, latency)


def _write_gate(
    scenario: Scenario, run: RunFolder, evidence: Evidence, clauses: Sequence[Clause], latency: float
) -> None:
    verdict, model = decide(scenario, evidence, clauses), run.file(files.MODEL)
    extra = {"latency_ms": {"one_image": latency, "threads": 1}, "bytes": model.stat().st_size}
    gate = {
        "verdict": asdict(verdict),
        "passed": verdict.passed,
        "clauses": [asdict(clause) for clause in clauses],
        "figures": compute_figures(scenario, evidence) | extra,
        "inputs": {name: sha256_file(run.file(name)) for name in (files.LABELS, files.MODEL)},
    }
    write_json(run.file(files.GATE), gate)


def _other_formats(run: RunFolder, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What the files of other formats answer, `(N,)` each, by the name of the format."""
    exported = {name: other_file(run, name) for name in other_formats(run)}
    return {name: exporter.probabilities(path, pixels) for name, (exporter, path) in exported.items()}


def _write_predictions(run: RunFolder, rows: Labels, probability: np.ndarray) -> None:
    columns = {"sha256": rows.sha256, "split": rows.split.tolist(), "probability": pa.array(probability, pa.float32())}
    with atomic(run.file(files.PREDICTIONS)) as temporary:
        pq.write_table(pa.table(columns), temporary)


def _stamp(path: Path, scenario: Scenario, summary: dict[str, Any]) -> Model:
    """Write the scenario and the gate's summary into the file, in place of earlier ones; return it, loaded anew."""
    entries = {"gate": json.dumps(summary)}
    if not means_the_same(read(path).get("scenario", ""), scenario):
        entries["scenario"] = stamped(scenario)
    update(path, entries)
    return Model.load(path)


def _latency_ms(model: Model, pixels: np.ndarray, repeats: int = 50) -> float:
    """Median milliseconds of one image through the network, decoding left out."""
    one = pixels[None]
    model.probabilities(one)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        model.probabilities(one)
        times.append(time.perf_counter() - start)
    return round(float(np.median(times)) * 1000, 4)
