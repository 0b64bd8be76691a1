"""Student -> one ONNX file: build each rung (fp32, fp16, int8), prove it, take the most accurate that fits."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import torch

from clip_factory import __version__
from clip_factory import students as student
from clip_factory.errors import ExportError
from clip_factory.export.calibration import Calibration, Truth, calibrate
from clip_factory.export.calibration_set import unseen
from clip_factory.export.onnx_graph import float_graph, int8_graph
from clip_factory.export.onnx_metadata import read
from clip_factory.export.plan import Plan, plan
from clip_factory.export.quantization import quantize
from clip_factory.export.threshold import Cut, place
from clip_factory.run_folder import LABELS, MODEL, RunFolder, atomic, sha256_file
from clip_factory.runtime.model_checks import CLASSES, FORMAT, PREPROCESSING, THUMB
from clip_factory.scenario import Scenario
from clip_factory.students.network import Student, normalize
from clip_factory.students.training_data import decode, teacher_of

GATE_BYTES = 4_000
"""Left free in the budget: the gate writes its figures into the file later."""
TRAIN_SAMPLE = 192
"""Training images from which ranges of activations are taken."""
VECTORS = 4
BINS = 20
FLOAT_PARITY = 1e-4
"""Largest difference of any probability between the network and its fp32 file: rounding, and no more."""
LICENSE = "Apache-2.0"


@dataclass(frozen=True)
class Held:
    """The images that an export measures itself on, and what it found there."""

    sample: np.ndarray
    """Training images, uint8 `(M, S, S, 3)`."""
    val: np.ndarray
    """uint8 `(N, S, S, 3)`."""
    test: np.ndarray
    """uint8 `(K, S, S, 3)`; for the histogram of scores only."""
    truth: Truth
    """Of the val images."""


@dataclass(frozen=True)
class Rung:
    """One candidate file."""

    precision: str
    model: bytes
    parity: float
    """Mean absolute difference of probability from the network, on val."""
    worst: float
    """The largest one."""
    brier: float
    """Mean squared difference of its probabilities from what is right on val."""


def export(scenario: Scenario, run: RunFolder) -> None:
    """Write model.onnx: the most accurate rung on val that fits the budget, calibrated, proven, one file.

    Raises:
        ExportError: No rung fits the budget, or none is close enough to the trained network.
        RunError: The run has no labels or no student yet.
    """
    trained = student.load(run)
    photos = unseen(run)
    held = _held(scenario, run, int(trained.config["image_size"]), photos.val_truth)
    calibration = calibrate(photos.logits, photos.truth)
    expected = calibration.probabilities(student.logits(trained, held.val))
    cut = place(calibration.probabilities(photos.logits), photos.truth, scenario.need, photos.groups)
    facts = _facts(scenario, run, trained, calibration, cut)
    rungs = [
        _prove(scenario, precision, graph, facts, held, expected)
        for precision, graph in _graphs(scenario, trained, calibration, held.sample).items()
    ]
    taken = choose(rungs, scenario)
    with atomic(run.file(MODEL)) as temporary:
        temporary.write_bytes(taken.model)
    run.log("rungs", rows=[_row(rung, rung is taken) for rung in rungs])


def network_probabilities(run: RunFolder, pixels: np.ndarray) -> np.ndarray:
    """What the trained network says, calibrated as the shipped file is: the reference of the gate's parity clause.

    Args:
        run: Holds student.ckpt and model.onnx.
        pixels: uint8 `(N, S, S, 3)`, RGB in [0, 255].

    Returns:
        float32 `(N,)` in [0, 1].
    """
    calibration = Calibration.read(read(run.need(MODEL, "export"))["calibration"])
    return calibration.probabilities(student.logits(student.load(run), pixels))


def choose(rungs: list[Rung], scenario: Scenario) -> Rung:
    """The rung of least Brier score on val of those that fit and are true to the network; of equals, the more precise.

    Raises:
        ExportError: There is none; the message gives the sizes or the differences, and what to do.
    """
    budget = scenario.student.budget_kb * 1000 - GATE_BYTES
    fitting = [rung for rung in rungs if len(rung.model) <= budget]
    if not fitting:
        sizes = ", ".join(f"{rung.precision} {len(rung.model) / 1000:.1f} kB" for rung in rungs)
        least = (min(len(rung.model) for rung in rungs) + GATE_BYTES) / 1000
        raise ExportError(
            f"no export fits student.budget_kb {scenario.student.budget_kb:g} "
            f"({GATE_BYTES / 1000:g} kB of it is kept for the gate's figures): {sizes}",
            hint=f"set budget_kb to {np.ceil(least):g} or more, or a smaller backbone: resnet-mini is the smallest",
        )
    true = [rung for rung in fitting if rung.parity <= scenario.gate.parity]
    if not true:
        found = ", ".join(f"{rung.precision} {rung.parity:.4f}" for rung in fitting)
        raise ExportError(
            f"the exports differ from the network by more than gate.parity {scenario.gate.parity:g} on val: {found}",
            hint="raise student.budget_kb so that a more precise export fits, or raise gate.parity",
        )
    return min(true, key=lambda rung: rung.brier)


def _graphs(
    scenario: Scenario, trained: Student, calibration: Calibration, sample: np.ndarray
) -> dict[str, onnx.ModelProto]:
    """The allowed rungs, the most precise first."""
    size, mirror = int(trained.config["image_size"]), bool(trained.config["mirror"])
    wanted = scenario.student.precision
    with torch.inference_mode():
        ops = _calibrated(plan(trained), calibration)
        graphs = {}
        if wanted in ("auto", "fp32"):
            graphs["fp32"] = float_graph(ops, size, mirror=mirror)
        if wanted in ("auto", "fp16"):
            graphs["fp16"] = float_graph(ops, size, mirror=mirror, half=True)
        if wanted in ("auto", "int8"):
            graphs["int8"] = int8_graph(quantize(ops, _image(sample)), size, mirror=mirror)
    return graphs


def _calibrated(ops: Plan, calibration: Calibration) -> Plan:
    """Calibration costs no operation: it goes into the last layer."""
    head = ops[-1]
    if head.weight is None or head.bias is None:
        raise ExportError("the last operation of the network is no linear layer")
    scaled = replace(
        head, weight=head.weight * calibration.scale, bias=head.bias * calibration.scale + calibration.shift
    )
    return [*ops[:-1], scaled]


def _prove(
    scenario: Scenario,
    precision: str,
    graph: onnx.ModelProto,
    facts: Mapping[str, str],
    held: Held,
    expected: np.ndarray,
) -> Rung:
    """Check the graph, run it on val, compare with the network, and embed the metadata.

    Raises:
        ExportError: onnx.checker refuses it, or the fp32 file is not the network.
    """
    try:
        onnx.checker.check_model(graph, full_check=True)
    except Exception as error:  # checker and shape inference raise classes without a common base
        raise ExportError(f"the {precision} graph is no valid ONNX: {error}") from error
    session = _session(graph.SerializeToString())
    found = _run(session, held.val)
    difference = np.abs(found - expected)
    if precision == "fp32" and difference.max() > FLOAT_PARITY:
        raise ExportError(
            f"the fp32 file differs from the network by up to {difference.max():.2g} on val",
            hint="report this: the exporter does not know this network",
        )
    scores = np.concatenate([found, _run(session, held.test)])
    told = {
        **facts,
        "precision": precision,
        "score_histogram": json.dumps(np.histogram(scores, BINS, (0, 1))[0].tolist()),
        "test_vectors": _test_vectors(session, held.val),
    }
    onnx.helper.set_model_props(graph, told)
    graph.producer_name, graph.producer_version = "clip-factory", __version__
    brier = float(np.mean((found - held.truth.probability) ** 2)) if len(found) else 0.0
    return Rung(precision, graph.SerializeToString(), float(difference.mean()), float(difference.max()), brier)


def _facts(scenario: Scenario, run: RunFolder, trained: Student, calibration: Calibration, cut: Cut) -> dict[str, str]:
    """The metadata that all rungs share."""
    teacher = teacher_of(run.table(LABELS, "label").schema)
    size = int(trained.config["image_size"])
    decoding = "EXIF orientation applied, 16-bit scaled to 8, transparency laid on white"
    return {
        "format": FORMAT,
        "name": scenario.name,
        "question": scenario.asked,
        # without the paths of the machine that made it: a model travels
        "scenario": scenario.model_dump_json(exclude={"images", "gold", "answers"}),
        "classes": json.dumps(CLASSES),
        "threshold": f"{cut.threshold:g}",
        "cut": json.dumps(cut.described()),
        "image_size": str(size),
        "preprocessing": json.dumps({"decode": decoding, **PREPROCESSING, "size": size}),
        "teacher": json.dumps({key: teacher.get(key) for key in ("name", "key", "license")}),
        "data_sha256": sha256_file(run.file(LABELS)),
        "backbone": str(trained.config["backbone"]),
        "calibration": json.dumps(calibration.described()),
        "version": __version__,
        "license": LICENSE,
    }


def _held(scenario: Scenario, run: RunFolder, size: int, val_truth: Truth) -> Held:
    labels = run.table(LABELS, "label")
    root = Path(scenario.images.path or "")
    parts = {split: labels.filter(pa.compute.equal(labels["split"], split)) for split in ("train", "val", "test")}
    train = parts["train"]
    step = max(1, train.num_rows // TRAIN_SAMPLE)
    pixels = {
        split: decode([root / path for path in part["path"].to_pylist()], size)
        for split, part in (parts | {"train": train.take(list(range(0, train.num_rows, step)))}).items()
    }
    return Held(pixels["train"], pixels["val"], pixels["test"], val_truth)


def _image(pixels: np.ndarray) -> torch.Tensor:
    return normalize(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())


def _session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # constant folding of tiny graphs warns about nothing that matters
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, pixels: np.ndarray) -> np.ndarray:
    parts = [session.run(None, {"image": pixels[i : i + 128]})[0] for i in range(0, len(pixels), 128)]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _test_vectors(session: ort.InferenceSession, val: np.ndarray) -> str:
    """A few val images as 8 x 8 thumbnails, and what the file says to them blown up: its fingerprint on a machine."""
    size = val.shape[1]
    rows = np.arange(THUMB) * size // THUMB
    thumbs = val[:: max(1, len(val) // VECTORS)][:VECTORS][:, rows][:, :, rows]
    times = -(-size // THUMB)
    inputs = np.ascontiguousarray(thumbs.repeat(times, axis=1).repeat(times, axis=2)[:, :size, :size])
    said = _run(session, inputs)
    pairs = zip(thumbs, said, strict=True)
    return json.dumps(
        [{"thumb": base64.b64encode(thumb.tobytes()).decode(), "probability": round(float(p), 6)} for thumb, p in pairs]
    )


def _row(rung: Rung, taken: bool) -> dict[str, Any]:
    return {
        "precision": rung.precision,
        "bytes": len(rung.model),
        "parity": round(rung.parity, 6),
        "worst": round(rung.worst, 6),
        "val_brier": round(rung.brier, 6),
        "taken": taken,
    }
