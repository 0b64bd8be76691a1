"""Holding a run's model against the rule: shipped bytes, shipped preprocessing, images that training never saw."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clip_factory import export
from clip_factory import run_folder as files
from clip_factory.errors import ExportError
from clip_factory.export.onnx_metadata import rewrite
from clip_factory.gate.rule import Evidence, conclude, figures, summarize, weigh
from clip_factory.run_folder import RunFolder, atomic, sha256_file, write_json
from clip_factory.runtime import Model
from clip_factory.scenario import Scenario
from clip_factory.statistics import break_even
from clip_factory.students.training_data import decode, gold_of


def judge(scenario: Scenario, run: RunFolder) -> None:
    """Measure the shipped file on the test split; write predictions.parquet and gate.json; stamp the model.

    Raises:
        RunError: An earlier stage's file is missing.
        ImageError: A test image has changed or vanished.
    """
    model_path = run.need(files.MODEL, "export")
    labels = run.table(files.LABELS, "label")
    model = Model.load(model_path)
    held_out = labels.filter(pc.is_in(labels["split"], pa.array(["val", "test"])))
    root = Path(scenario.images.path or ".")
    pixels = decode([root / path for path in held_out["path"].to_pylist()], model.image_size)
    shipped = model.probabilities(pixels)
    _write_predictions(run, held_out, shipped)

    test = np.array(held_out["split"].to_pylist()) == "test"
    rows = held_out.filter(pa.array(test))
    evidence = Evidence(
        student=shipped[test],
        network=export.network_probabilities(run, pixels[test]),
        teacher=rows["p_teacher"].to_numpy(),
        gold=np.nan_to_num(gold_of(rows), nan=-1).astype(int),
        threshold=model.threshold,
        picked=rows["picked"].to_numpy(zero_copy_only=False),
        teacher_threshold=break_even(labels["p_teacher"].to_numpy()),
    )
    latency = _latency_ms(model, pixels[0])
    clauses = weigh(scenario, evidence, model_path.stat().st_size)
    stamped = _stamp(model_path, summarize(clauses, conclude(scenario, evidence, clauses)))
    if not np.array_equal(stamped.probabilities(pixels), shipped):
        raise ExportError(f"{model_path}: answers changed when the gate's figures were written into the file")
    size = model_path.stat().st_size
    clauses = weigh(scenario, evidence, size)
    verdict = conclude(scenario, evidence, clauses)
    run_inputs = {files.LABELS: sha256_file(run.file(files.LABELS)), files.MODEL: sha256_file(model_path)}
    write_json(
        run.file(files.GATE),
        {
            "verdict": asdict(verdict),
            "passed": verdict.passed,
            "clauses": [asdict(clause) for clause in clauses],
            "figures": figures(scenario, evidence)
            | {"latency_ms": {"one_image": latency, "threads": 1}, "bytes": size},
            "inputs": run_inputs,
        },
    )


def _write_predictions(run: RunFolder, rows: pa.Table, probability: np.ndarray) -> None:
    table = rows.select(["sha256", "split"]).append_column("probability", pa.array(probability, pa.float32()))
    with atomic(run.file(files.PREDICTIONS)) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary)


def _stamp(path: Path, summary: dict[str, Any]) -> Model:
    """Write the gate's summary into the file's metadata, in place of an earlier one; return the file, loaded anew."""
    rewrite(path, {"gate": json.dumps(summary)})
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
