"""ONNX: the student in fp32, fp16 and int8, each checked against the network; the most accurate that fits is kept."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch

from clip_factory import __version__
from clip_factory.errors import ExportError
from clip_factory.exporters.calibration import Calibration
from clip_factory.exporters.exporter import ExportSource, FloatStudent
from clip_factory.exporters.onnx_graph import float_graph, int8_graph
from clip_factory.exporters.plan import Plan, plan
from clip_factory.exporters.quantization import quantize
from clip_factory.run_folder import MODEL
from clip_factory.runtime import Model
from clip_factory.runtime.atomic import write_bytes
from clip_factory.runtime.model_checks import GRAPH_HASH, THUMB
from clip_factory.runtime.onnx_operators import graph_hash
from clip_factory.runtime.processors import usable_cpus
from clip_factory.scenario import Scenario
from clip_factory.students.network import normalize

GATE_BYTES = 4_000
"""Left free in the budget: the gate writes its figures into the file later."""
TEST_VECTORS = 4
HISTOGRAM_BINS = 20
MAX_FLOAT_DIFFERENCE = 1e-4
"""Largest difference of any probability between the network and its fp32 file: rounding, and no more."""
BATCH = 128


@dataclass(frozen=True)
class Candidate:
    """The file in one precision."""

    precision: str
    model: bytes
    parity: float
    """Mean absolute difference of probability from the network, on val."""
    max_difference: float
    brier: float
    """Mean squared difference of its probabilities from what is right on val."""

    def to_row(self, *, chosen: bool) -> dict[str, Any]:
        """For log.jsonl, by the names of version 0.1.0."""
        return {
            "precision": self.precision,
            "bytes": len(self.model),
            "parity": round(self.parity, 6),
            "worst": round(self.max_difference, 6),
            "val_brier": round(self.brier, 6),
            "taken": chosen,
        }


@dataclass(frozen=True)
class OnnxExporter:
    """model.onnx: one file, metadata and preprocessing constants inside."""

    file_name: str = MODEL

    def export(self, source: ExportSource, path: Path) -> list[dict[str, Any]]:
        """Write the most accurate precision that fits; see `Exporter`.

        Raises:
            ExportError: None fits the budget, or none is close enough to the network.
        """
        network = source.student.probabilities(source.images.val)
        graphs = build_graphs(source.student, source.images.sample, source.scenario.student.precision)
        candidates = [_check(source, precision, graph, network) for precision, graph in graphs.items()]
        chosen = choose_candidate(candidates, source.scenario)
        write_bytes(path, chosen.model)
        return [candidate.to_row(chosen=candidate is chosen) for candidate in candidates]

    def probabilities(self, path: Path, pixels: np.ndarray) -> np.ndarray:
        """As the runtime answers; see `Exporter`."""
        return Model.load(path).probabilities(pixels)


def choose_candidate(candidates: Sequence[Candidate], scenario: Scenario) -> Candidate:
    """Of the candidates that fit and are close to the network, that of least Brier score on val; of equals, the first.

    Raises:
        ExportError: There is none; the message gives the sizes or the differences, and what to do.
    """
    budget = scenario.student.budget_kb * 1000 - GATE_BYTES
    fitting = [candidate for candidate in candidates if len(candidate.model) <= budget]
    if not fitting:
        raise _too_large(candidates, scenario.student.budget_kb)
    close = [candidate for candidate in fitting if candidate.parity <= scenario.gate.parity]
    if not close:
        parities = ", ".join(f"{candidate.precision} {candidate.parity:.4f}" for candidate in fitting)
        raise ExportError(
            f"the exports differ from the network by more than gate.parity {scenario.gate.parity:g} on val: {parities}",
            hint="raise student.budget_kb so that a more precise export fits, or raise gate.parity",
        )
    return min(close, key=lambda candidate: candidate.brier)


def _too_large(candidates: Sequence[Candidate], budget_kb: float) -> ExportError:
    sizes = ", ".join(f"{candidate.precision} {len(candidate.model) / 1000:.1f} kB" for candidate in candidates)
    enough = (min(len(candidate.model) for candidate in candidates) + GATE_BYTES) / 1000
    return ExportError(
        f"no export fits student.budget_kb {budget_kb:g} "
        f"({GATE_BYTES / 1000:g} kB of it is kept for the gate's figures): {sizes}",
        hint=f"set budget_kb to {np.ceil(enough):g} or more, or a smaller backbone: resnet-mini is the smallest",
    )


def build_graphs(student: FloatStudent, sample: np.ndarray, precision: str = "auto") -> dict[str, onnx.ModelProto]:
    """The graph in each allowed precision, the most precise first.

    Args:
        student: The network, whose calibration goes into the last layer.
        sample: Training photos, uint8 `(M, S, S, 3)`, from which ranges of activations are taken.
        precision: `fp32`, `fp16`, `int8`, or `auto`: all of them.
    """
    config = student.network.config
    size, mirror = int(config["image_size"]), bool(config["mirror"])
    with torch.inference_mode():
        ops = calibrated(plan(student.network), student.calibration)
        graphs = {}
        if precision in ("auto", "fp32"):
            graphs["fp32"] = float_graph(ops, size, mirror=mirror)
        if precision in ("auto", "fp16"):
            graphs["fp16"] = float_graph(ops, size, mirror=mirror, half=True)
        if precision in ("auto", "int8"):
            image = normalize(torch.from_numpy(sample).permute(0, 3, 1, 2).float())
            graphs["int8"] = int8_graph(quantize(ops, image), size, mirror=mirror)
    return graphs


def calibrated(ops: Plan, calibration: Calibration) -> Plan:
    """The plan with the calibration in its last layer, where it costs no operation.

    Raises:
        ExportError: The last operation is no linear layer.
    """
    head = ops[-1]
    if head.weight is None or head.bias is None:
        raise ExportError("the last operation of the network is no linear layer")
    scaled = replace(
        head, weight=head.weight * calibration.scale, bias=head.bias * calibration.scale + calibration.shift
    )
    return [*ops[:-1], scaled]


def _check(source: ExportSource, precision: str, graph: onnx.ModelProto, network: np.ndarray) -> Candidate:
    """Check the graph, run it on val, compare with the network, and embed the metadata.

    Raises:
        ExportError: onnx.checker refuses it, or the fp32 file is not the network.
    """
    try:
        onnx.checker.check_model(graph, full_check=True)
    except Exception as error:  # checker and shape inference raise classes without a common base
        raise ExportError(f"the {precision} graph is no valid ONNX: {error}") from error
    session = _session(graph.SerializeToString())
    images = source.images
    answers = _run(session, images.val)
    difference = np.abs(answers - network)
    if precision == "fp32" and difference.max() > MAX_FLOAT_DIFFERENCE:
        raise ExportError(
            f"the fp32 file differs from the network by up to {difference.max():.2g} on val",
            hint="report this: the exporter does not know this network",
        )
    scores = np.concatenate([answers, _run(session, images.test)])
    metadata = {
        **source.metadata,
        "precision": precision,
        "score_histogram": json.dumps(np.histogram(scores, HISTOGRAM_BINS, (0, 1))[0].tolist()),
        "test_vectors": _test_vectors(session, images.val),
        GRAPH_HASH: graph_hash(graph.SerializeToString()),
    }
    onnx.helper.set_model_props(graph, metadata)
    graph.producer_name, graph.producer_version = "clip-factory", __version__
    brier = float(np.mean((answers - images.truth.probability) ** 2))
    return Candidate(precision, graph.SerializeToString(), float(difference.mean()), float(difference.max()), brier)


def _session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    options.log_severity_level = 3  # constant folding of tiny graphs warns about nothing that matters
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, pixels: np.ndarray) -> np.ndarray:
    parts = [session.run(None, {"image": pixels[i : i + BATCH]})[0] for i in range(0, len(pixels), BATCH)]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _test_vectors(session: ort.InferenceSession, val: np.ndarray) -> str:
    """A few val images as 8 x 8 thumbnails, and what the file answers to them enlarged."""
    size = val.shape[1]
    rows = np.arange(THUMB) * size // THUMB
    thumbs = val[:: max(1, len(val) // TEST_VECTORS)][:TEST_VECTORS][:, rows][:, :, rows]
    times = -(-size // THUMB)
    inputs = np.ascontiguousarray(thumbs.repeat(times, axis=1).repeat(times, axis=2)[:, :size, :size])
    pairs = zip(thumbs, _run(session, inputs), strict=True)
    return json.dumps(
        [{"thumb": base64.b64encode(thumb.tobytes()).decode(), "probability": round(float(p), 6)} for thumb, p in pairs]
    )
