"""Export: the exported file is the network, is whole, is small, and says what it is."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import torch
from onnx import TensorProto, numpy_helper

from clip_factory import exporters
from clip_factory import students as student
from clip_factory.errors import ExportError
from clip_factory.exporters.calibration import SoftTruth, calibrate
from clip_factory.exporters.onnx_exporter import Candidate, choose_candidate
from clip_factory.exporters.onnx_graph import float_graph, int8_graph
from clip_factory.exporters.plan import plan, walk
from clip_factory.exporters.quantization import Range, choose_range, fake_quantize_weight, quantize, simulate
from clip_factory.run_folder import LABELS, MODEL, RunFolder, sha256_file
from clip_factory.runtime import Model
from clip_factory.runtime.model_checks import read_test_vectors
from clip_factory.scenario import Scenario, Target
from clip_factory.students import backbones
from clip_factory.students.network import Student, normalize
from clip_factory.students.training_data import decode
from support.shapes_run import make_shapes_run

Exported = tuple[Scenario, RunFolder]


@pytest.fixture(scope="module")
def exported(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    scenario, run, store = make_shapes_run(tmp_path_factory.mktemp("export"), shapes, epochs=6)
    student.train(scenario, run, store)
    exporters.export(scenario, run)
    return scenario, run


def test_one_file_within_the_budget_that_the_runtime_takes(exported: Exported) -> None:
    _, run = exported
    assert not [p for p in run.path.iterdir() if ".data" in p.suffixes or p.name.endswith(".tmp")]
    assert run.file(MODEL).stat().st_size <= 300_000 - 4_000
    model = Model.load(run.file(MODEL))
    assert model.image_size == 48
    assert 0 < model.threshold < 1


def test_metadata_is_complete_and_true(exported: Exported) -> None:
    scenario, run = exported
    metadata = Model.load(run.file(MODEL)).metadata
    assert set(metadata) == {
        "format", "name", "question", "scenario", "classes", "threshold", "image_size", "preprocessing", "teacher",
        "data_sha256", "backbone", "precision", "calibration", "score_histogram", "version", "license", "test_vectors",
        "cut",
    }  # fmt: skip
    assert metadata["data_sha256"] == sha256_file(run.file(LABELS))
    unplaced = Scenario.model_validate(scenario.model_dump(exclude={"images", "gold"}))
    assert Scenario.model_validate_json(metadata["scenario"]) == unplaced, "a model carries no paths of its maker"
    assert json.loads(metadata["teacher"]) == {"name": "shapes", "key": "shapes-key", "license": "none"}
    held_out = sum(split != "train" for split in pq.read_table(run.file(LABELS))["split"].to_pylist())
    histogram = json.loads(metadata["score_histogram"])
    assert (len(histogram), sum(histogram)) == (20, held_out)


def test_the_file_repeats_its_test_vectors(exported: Exported) -> None:
    model = Model.load(exported[1].file(MODEL))
    inputs, expected = read_test_vectors(model.metadata, model.image_size)
    assert np.abs(model.probabilities(inputs) - expected).max() < 1e-3


def test_the_file_is_the_network_on_photos_it_never_saw(exported: Exported, shapes: Path) -> None:
    _, run = exported
    labels = pq.read_table(run.file(LABELS)).to_pylist()
    pixels = decode([shapes / row["path"] for row in labels if row["split"] == "test"], 48)
    said = Model.load(run.file(MODEL)).probabilities(pixels)
    assert np.abs(said - exporters.network_probabilities(run, pixels)).mean() <= 0.01


def test_every_precision_is_logged_and_one_is_chosen(exported: Exported) -> None:
    rows = exported[1].events("rungs")[-1]["rows"]
    assert [row["precision"] for row in rows] == ["fp32", "fp16", "int8"]
    assert sum(row["taken"] for row in rows) == 1
    assert rows[0]["bytes"] > rows[1]["bytes"] > rows[2]["bytes"]


def test_too_small_a_budget_is_refused_with_sizes(exported: Exported) -> None:
    scenario, run = exported
    tight = scenario.model_copy(update={"student": scenario.student.model_copy(update={"budget_kb": 20})})
    with pytest.raises(
        ExportError, match=r"no export fits student.budget_kb 20 .*: fp32 .* kB, fp16 .* kB, int8 .* kB"
    ):
        exporters.export(tight, run)


def test_an_untrue_export_is_refused(exported: Exported) -> None:
    candidate = Candidate("int8", b"x", parity=0.2, max_difference=0.9, brier=0.0)
    with pytest.raises(ExportError, match=r"differ from the network by more than gate.parity 0.01 on val: int8 0.2000"):
        choose_candidate([candidate], exported[0])


def test_of_equal_candidates_the_more_precise_is_chosen(exported: Exported) -> None:
    candidates = [Candidate(p, b"x", 0.0, 0.0, brier) for p, brier in (("fp32", 0.2), ("fp16", 0.1), ("int8", 0.1))]
    assert choose_candidate(candidates, exported[0]).precision == "fp16"


@pytest.fixture(scope="module", params=list(backbones.BACKBONES))
def network(request: pytest.FixtureRequest) -> Student:
    torch.manual_seed(0)
    net = Student(request.param, 48, backbones.pretrained(backbones.get(request.param))).eval()
    torch.nn.init.normal_(net.head.weight, std=0.3)
    return net


@pytest.fixture(scope="module")
def pixels(shapes: Path) -> torch.Tensor:
    return torch.from_numpy(decode(sorted((shapes / "photos").glob("*.png"))[:32], 48))


@torch.inference_mode()
def test_every_backbone_becomes_the_same_graph_in_three_precisions(network: Student, pixels: torch.Tensor) -> None:
    import onnxruntime as ort

    logits = network(pixels)
    image = normalize(pixels.permute(0, 3, 1, 2).float())
    ops = plan(network)
    quantized = quantize(ops, image)
    assert torch.allclose([out for *_, out in walk(ops, image)][-1].flatten(), logits, atol=1e-4)
    graphs = [float_graph(ops, 48), float_graph(ops, 48, half=True), int8_graph(quantized, 48)]
    expected = [logits, logits, simulate(quantized, image)]
    for graph, wanted, tolerance in zip(graphs, expected, (1e-4, 0.01, 0.05), strict=True):
        onnx.checker.check_model(graph, full_check=True)
        session = ort.InferenceSession(graph.SerializeToString())
        (found,) = session.run(None, {"image": pixels.numpy()})
        assert np.abs(found - wanted.sigmoid().numpy()).mean() < tolerance
    stored = sum(len(tensor.raw_data) for tensor in graphs[2].graph.initializer)
    assert stored > 0.9 * graphs[2].ByteSize()
    assert simulate(quantized, image).sub(logits).square().mean().sqrt() < 0.15 * logits.std() + 0.02


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_mirroring_student_answers_alike_for_a_photo_and_its_mirror_image(
    network: Student, pixels: torch.Tensor, precision: str
) -> None:
    import onnxruntime as ort

    both = Student(network.config["backbone"], 48, network.backbone, mirror=True).eval()
    both.head = network.head
    ops = plan(both)
    if precision == "fp32":
        graph = float_graph(ops, 48, mirror=True)
    else:
        graph = int8_graph(quantize(ops, normalize(pixels.permute(0, 3, 1, 2).float())), 48, mirror=True)
    onnx.checker.check_model(graph, full_check=True)
    session = ort.InferenceSession(graph.SerializeToString())

    straight, mirrored = (session.run(None, {"image": p.numpy()})[0] for p in (pixels, pixels.flip(2)))
    one_view = (network(pixels) + network(pixels.flip(2))) / 2

    assert torch.allclose(both(pixels), one_view, atol=1e-4)
    assert np.abs(straight - mirrored).max() < 1e-5
    assert np.abs(straight - one_view.sigmoid().numpy()).mean() < {"fp32": 1e-4, "int8": 0.05}[precision]


def test_ranges_hold_zero_exactly_and_fit_the_data() -> None:
    x = torch.randn(1000).clamp(min=-0.5)
    found = choose_range(x)
    assert found.fake_quantize(torch.zeros(1)).item() == 0.0
    assert (found.fake_quantize(x) - x).abs().mean() < 0.02
    assert Range(1 / 128, 128).fake_quantize(torch.tensor([-1.0, 0.5])).tolist() == [-1.0, 0.5]


def test_ranges_clip_what_is_rare_where_that_rounds_better() -> None:
    torch.manual_seed(0)
    x = torch.rand(2_000_000)
    x[1] = 3.0
    found, whole = (range_.fake_quantize(x).sub(x).square().mean() for range_ in (choose_range(x), Range(3 / 255, 0)))
    assert found < 0.5 * whole


@torch.inference_mode()
def test_bias_correction_brings_the_mean_of_the_logits_back(network: Student, pixels: torch.Tensor) -> None:
    image = normalize(pixels.permute(0, 3, 1, 2).float())
    ops, logits = plan(network), network(pixels)
    corrected = quantize(ops, image)
    uncorrected = replace(corrected, ops=ops)
    errors = [simulate(quantized, image).sub(logits).mean().abs() for quantized in (corrected, uncorrected)]
    assert errors[0] < 0.5 * errors[1]


def test_weights_keep_seven_bits_a_channel_and_eight_where_one_stands_out() -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 3, 3, 3) * torch.tensor([1e-9, 0.1, 1.0, 10.0, 0.01])[:, None, None, None]
    weight[4, 0, 0, 0] = 2.0
    error = (fake_quantize_weight(weight) - weight).abs().amax((1, 2, 3)) / weight.abs().amax((1, 2, 3))
    assert (error[1:] <= 1 / 126).all()
    assert error[4] <= 1 / 250


def test_no_two_products_overflow_16_bits(network: Student, pixels: torch.Tensor) -> None:
    """x86 processors without VNNI add them in 16 bits, saturating (VPMADDUBSW): a file would answer otherwise there."""
    with torch.inference_mode():
        graph = int8_graph(quantize(plan(network), normalize(pixels.permute(0, 3, 1, 2).float())), 48).graph
    stored = [numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.data_type == TensorProto.INT8]
    kernels = [weight.reshape(len(weight), -1).astype(int) for weight in stored if weight.ndim == 4]
    assert len(kernels) > 10
    for weight in kernels:
        if weight.shape[1] > 1:
            ordered = np.sort(weight)
            assert 255 * max((ordered[:, -1] + ordered[:, -2]).max(), -(ordered[:, 0] + ordered[:, 1]).min()) <= 32767
    assert max(np.abs(weight).max() for weight in kernels) > 64


def test_calibration_undoes_scale_and_shift() -> None:
    random = np.random.default_rng(0)
    z = random.normal(0, 2, 4000)
    answers = (random.random(4000) < 1 / (1 + np.exp(-z))).astype(float)
    found = calibrate(3 * z + 1.5, SoftTruth(answers, 0.5, "gold"))
    assert (found.scale, found.shift) == (pytest.approx(1 / 3, rel=0.1), pytest.approx(-0.5, abs=0.1))


def test_three_images_calibrate_nothing_to_speak_of() -> None:
    found = calibrate(np.array([-3.0, 2.0, 4.0]), SoftTruth(np.array([0.0, 1.0, 1.0]), 0.5, "teacher"))
    assert 0.7 < found.scale < 1.6
    assert abs(found.shift) < 0.7


def test_another_target_moves_the_threshold_and_leaves_the_weights(exported: Exported, tmp_path: Path) -> None:
    scenario, run = exported
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    before = onnx.load(copy.file(MODEL))
    fewer = scenario.model_copy(update={"target": Target(false_alarms=0.01)})
    threshold = exporters.rethreshold(fewer, copy)
    after, model = onnx.load(copy.file(MODEL)), Model.load(copy.file(MODEL))
    assert after.graph == before.graph
    assert model.threshold == threshold.threshold == json.loads(model.metadata["cut"])["threshold"]
    assert json.loads(model.metadata["scenario"])["target"]["false_alarms"] == 0.01
    again = tmp_path / "again"
    shutil.copytree(run.path, again)
    exporters.export(fewer, RunFolder(again))
    assert Model.load(again / MODEL).threshold == threshold.threshold, (
        "an export from the start puts it in the same place"
    )


def test_the_threshold_rests_on_val_and_on_what_members_left_out(exported: Exported) -> None:
    _, run = exported
    cut = json.loads(Model.load(run.file(MODEL)).metadata["cut"])
    splits = [row["split"] for row in pq.read_table(run.file(LABELS)).to_pylist()]
    assert cut["images"] - splits.count("val") == pytest.approx(0.4 * splits.count("train"), abs=2)
    assert cut["against"] == "teacher"
    assert cut["interval"][0] <= cut["threshold"] <= cut["interval"][1]


def test_there_and_back_is_the_same_file(exported: Exported, tmp_path: Path) -> None:
    scenario, run = exported
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    for target in (Target(recall=0.9), "break-even"):
        exporters.rethreshold(scenario.model_copy(update={"target": target}), copy)
    assert copy.file(MODEL).read_bytes() == run.file(MODEL).read_bytes()


def test_a_damaged_model_is_named(exported: Exported, tmp_path: Path) -> None:
    copy = RunFolder(tmp_path / "run")
    shutil.copytree(exported[1].path, copy.path)
    copy.file(MODEL).write_bytes(b"\xff\xd8\xff\xe0 a picture")
    with pytest.raises(ExportError, match="damaged, or no ONNX file"):
        exporters.threshold_for(copy, "balanced")
