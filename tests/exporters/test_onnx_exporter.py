"""The precisions: each is checked, the best that fits is taken, and a refusal says why."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from PIL import Image

from clip_factory import __version__, exporters
from clip_factory.errors import ExportError
from clip_factory.exporters import onnx_exporter
from clip_factory.exporters.calibration import Calibration, SoftTruth
from clip_factory.exporters.exporter import ExportImages, ExportSource, FloatStudent
from clip_factory.exporters.onnx_exporter import Candidate, OnnxExporter, build_graphs, calibrated, choose_candidate
from clip_factory.exporters.onnx_graph import float_graph
from clip_factory.exporters.plan import Op, plan
from clip_factory.run_folder import MODEL, RunFolder
from clip_factory.runtime import Model
from clip_factory.scenario import Scenario
from clip_factory.students.network import Student
from support.networks import mirroring

Exported = tuple[Scenario, RunFolder]


@pytest.fixture
def source(tiny: Student, small: torch.Tensor) -> ExportSource:
    """The tiny student, calibrated, with photos of three splits."""
    scenario = Scenario(name="disc", positive=("disc",), negative=("bar",))
    pixels = small.numpy()
    truth = SoftTruth(np.linspace(0, 1, 14), 0.5, "teacher")
    images = ExportImages(pixels[:16], pixels[16:30], pixels[30:], truth)
    return ExportSource(
        scenario,
        FloatStudent(tiny, Calibration(1.5, -0.25, "teacher", 14)),
        images,
        {"name": "disc", "threshold": "0.5"},
    )


def metadata_of(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def answers_of(model: bytes | Path, pixels: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model).run(None, {"image": pixels})[0]


def test_rows_say_what_was_tried_and_the_file_is_the_best_of_them(source: ExportSource, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    rows = OnnxExporter().export(source, path)
    wanted = source.student.probabilities(source.images.val)
    graphs = build_graphs(source.student, source.images.sample)

    assert [row["precision"] for row in rows] == list(graphs) == ["fp32", "fp16", "int8"]
    for row, graph in zip(rows, graphs.values(), strict=True):
        answers = answers_of(graph.SerializeToString(), source.images.val)
        difference = np.abs(answers - wanted)
        assert row["parity"] == pytest.approx(difference.mean(), abs=2e-6)
        assert row["worst"] == pytest.approx(difference.max(), abs=2e-6)
        assert row["val_brier"] == pytest.approx(np.mean((answers - np.linspace(0, 1, 14)) ** 2), abs=2e-6)
        assert set(row) == {"precision", "bytes", "parity", "worst", "val_brier", "taken"}
    (taken,) = [row for row in rows if row["taken"]]
    assert taken["val_brier"] == min(row["val_brier"] for row in rows)
    assert path.stat().st_size == taken["bytes"]
    assert metadata_of(path)["precision"] == taken["precision"]
    assert OnnxExporter().file_name == "model.onnx"


def test_the_file_holds_its_metadata_a_histogram_and_who_made_it(source: ExportSource, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    OnnxExporter().export(source, path)
    stored, model = metadata_of(path), onnx.load(path)
    answers = answers_of(path, np.concatenate([source.images.val, source.images.test]))

    assert set(stored) == {"name", "threshold", "precision", "score_histogram", "test_vectors", "graph_sha256"}
    assert stored["graph_sha256"] == hashlib.sha256(model.graph.SerializeToString()).hexdigest()
    assert (stored["name"], stored["threshold"]) == ("disc", "0.5")
    assert json.loads(stored["score_histogram"]) == np.histogram(answers, 20, (0, 1))[0].tolist()
    assert (model.producer_name, model.producer_version) == ("clip-factory", __version__)


def test_test_vectors_are_small_pictures_and_what_the_file_answers_to_them(
    source: ExportSource, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    OnnxExporter().export(source, path)
    vectors = json.loads(metadata_of(path)["test_vectors"])

    assert len(vectors) == 4
    for vector, picture in zip(vectors, source.images.val[::3], strict=False):
        thumb = np.frombuffer(base64.b64decode(vector["thumb"]), np.uint8).reshape(8, 8, 3)
        assert thumb.tolist() == picture[::3, ::3].tolist(), "of 24 pixels every third"
        enlarged = np.asarray(Image.fromarray(thumb).resize((24, 24), Image.Resampling.NEAREST))
        assert vector["probability"] == pytest.approx(answers_of(path, enlarged[None])[0], abs=1e-6)


@pytest.mark.parametrize("size", [20, 40])
def test_test_vectors_fill_a_size_that_is_no_multiple_of_eight(size: int, tiny: Student) -> None:
    session = onnxruntime.InferenceSession(float_graph(plan(tiny), size).SerializeToString())
    val = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.uint8)
    for vector, picture in zip(json.loads(onnx_exporter._test_vectors(session, val)), val, strict=True):
        rows = np.arange(8) * size // 8
        thumb = picture[rows][:, rows]
        assert np.frombuffer(base64.b64decode(vector["thumb"]), np.uint8).tolist() == thumb.ravel().tolist()
        enlarged = thumb[np.arange(size) // -(-size // 8)][:, np.arange(size) // -(-size // 8)]
        assert vector["probability"] == pytest.approx(session.run(None, {"image": enlarged[None]})[0][0], abs=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_one_precision_is_made_where_one_is_asked_for(precision: str, source: ExportSource) -> None:
    graphs = build_graphs(source.student, source.images.sample, precision)

    assert list(graphs) == [precision]
    answers = answers_of(graphs[precision].SerializeToString(), source.images.val)
    assert answers == pytest.approx(source.student.probabilities(source.images.val), abs=0.01)
    kinds = {tensor.data_type for tensor in graphs[precision].graph.initializer}
    assert (TensorProto.INT8 in kinds, TensorProto.FLOAT16 in kinds) == (precision == "int8", precision == "fp16")


def test_every_precision_has_the_students_size_and_its_mirror_image(source: ExportSource) -> None:
    student = FloatStudent(mirroring(source.student.network), source.student.calibration)
    for precision, graph in build_graphs(student, source.images.sample).items():
        (image,) = graph.graph.input
        assert [d.dim_value for d in image.type.tensor_type.shape.dim][1:] == [24, 24, 3], precision
        pixels = source.images.val
        straight, mirrored = (answers_of(graph.SerializeToString(), p) for p in (pixels, pixels[:, :, ::-1].copy()))
        assert straight == pytest.approx(mirrored, abs=1e-5)
        assert straight == pytest.approx(student.probabilities(pixels), abs=0.01)


def test_a_file_is_asked_as_the_runtime_asks_it(exported: Exported, pixels: torch.Tensor) -> None:
    path = exported[1].file(MODEL)
    found = OnnxExporter().probabilities(path, pixels.numpy())

    assert found.tolist() == Model.load(path).probabilities(pixels.numpy()).tolist()
    assert found == pytest.approx(answers_of(path, pixels.numpy()), abs=1e-5)


def test_the_scenario_says_which_precision(source: ExportSource, tmp_path: Path) -> None:
    student = source.scenario.student.model_copy(update={"precision": "fp16"})
    asked = replace(source, scenario=source.scenario.model_copy(update={"student": student}))

    assert [row["precision"] for row in OnnxExporter().export(asked, tmp_path / "m.onnx")] == ["fp16"]


def test_calibration_lies_in_the_last_layer(tiny: Student) -> None:
    ops = plan(tiny)
    scaled = calibrated(ops, Calibration(2.0, 0.5, "gold", 3))

    assert all(one is other for one, other in zip(ops[:-1], scaled[:-1], strict=True))
    assert torch.equal(scaled[-1].weight, 2 * ops[-1].weight)
    assert torch.equal(scaled[-1].bias, 2 * ops[-1].bias + 0.5)
    for last in (Op("mean", (0,)), replace(ops[-1], bias=None)):
        with pytest.raises(ExportError) as told:
            calibrated([last], Calibration(2.0, 0.5, "gold", 3))
        assert str(told.value) == "the last operation of the network is no linear layer"


def test_a_file_that_is_not_the_network_is_refused(source: ExportSource) -> None:
    graph = build_graphs(source.student, source.images.sample, "fp32")["fp32"]
    network = source.student.probabilities(source.images.val)
    assert onnx_exporter._check(source, "fp32", graph, network + 0.9e-4).max_difference < 1e-4
    with pytest.raises(ExportError) as told:
        onnx_exporter._check(source, "fp32", graph, network + np.eye(14, dtype=np.float32)[3] * 0.25)
    assert str(told.value) == (
        "the fp32 file differs from the network by up to 0.25 on val\n"
        "  report this: the exporter does not know this network"
    )
    assert onnx_exporter._check(source, "int8", graph, network + 0.25).parity == pytest.approx(0.25, abs=1e-4)


def test_a_graph_that_is_no_onnx_is_refused(source: ExportSource) -> None:
    graph = build_graphs(source.student, source.images.sample, "fp32")["fp32"]
    graph.graph.node[0].op_type = "Nonsense"
    with pytest.raises(ExportError, match=r"^the fp32 graph is no valid ONNX: .*Nonsense"):
        onnx_exporter._check(source, "fp32", graph, source.student.probabilities(source.images.val))


def candidate(precision: str, size: int, parity: float = 0.0, brier: float = 0.1) -> Candidate:
    return Candidate(precision, b"x" * size, parity, max_difference=0.0, brier=brier)


def test_a_candidate_may_fill_the_budget_but_for_what_the_gate_needs(exported: Exported) -> None:
    scenario = exported[0]
    full, one_more = candidate("fp16", 296_000), candidate("fp32", 296_001, brier=0.0)

    assert choose_candidate([one_more, full], scenario) is full
    close, far = candidate("int8", 10, parity=scenario.gate.parity), candidate("fp16", 10, parity=0.0101, brier=0.0)
    assert choose_candidate([far, close], scenario) is close


def test_what_does_not_fit_or_is_not_close_is_refused_in_full(exported: Exported) -> None:
    scenario = exported[0]
    with pytest.raises(ExportError) as told:
        choose_candidate([candidate("fp32", 500_000), candidate("int8", 297_001)], scenario)
    assert str(told.value) == (
        "no export fits student.budget_kb 300 (4 kB of it is kept for the gate's figures): "
        "fp32 500.0 kB, int8 297.0 kB\n"
        "  set budget_kb to 302 or more, or a smaller backbone: resnet-mini is the smallest"
    )
    with pytest.raises(ExportError) as told:
        choose_candidate([candidate("fp32", 500_000), candidate("fp16", 10, 0.02), candidate("int8", 9, 0.3)], scenario)
    assert str(told.value) == (
        "the exports differ from the network by more than gate.parity 0.01 on val: fp16 0.0200, int8 0.3000\n"
        "  raise student.budget_kb so that a more precise export fits, or raise gate.parity"
    )


def test_too_small_a_budget_is_refused_with_sizes(exported: Exported) -> None:
    scenario, run = exported
    tight = scenario.model_copy(update={"student": scenario.student.model_copy(update={"budget_kb": 20})})
    with pytest.raises(
        ExportError, match=r"no export fits student.budget_kb 20 .*: fp32 .* kB, fp16 .* kB, int8 .* kB"
    ):
        exporters.export(tight, run)


def test_of_equal_candidates_the_more_precise_is_chosen(exported: Exported) -> None:
    candidates = [Candidate(p, b"x", 0.0, 0.0, brier) for p, brier in (("fp32", 0.2), ("fp16", 0.1), ("int8", 0.1))]
    assert choose_candidate(candidates, exported[0]).precision == "fp16"
