"""The graph: onnxruntime, the reference evaluator and OpenVINO read in it what torch computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
import openvino
import pytest
import torch
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from clip_factory.errors import ExportError
from clip_factory.exporters import onnx_graph
from clip_factory.exporters.onnx_graph import float_graph, int8_graph
from clip_factory.exporters.plan import Op, Plan, compute, plan, walk
from clip_factory.exporters.quantization import Quantized, Range, quantize, simulate, weight_scales
from clip_factory.students.network import Student
from support.networks import image_of, mirroring


def by_onnxruntime(graph: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"image": pixels})[0]


def by_onnxruntime_as_written(graph: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    """Without fusing anything to integer kernels."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(graph.SerializeToString(), options).run(None, {"image": pixels})[0]


def by_reference(graph: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    """ONNX's own; it knows DequantizeLinear from opset 19 on."""
    return ReferenceEvaluator(onnx.version_converter.convert_version(graph, 19)).run(None, {"image": pixels})[0]


def by_openvino(graph: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    core = openvino.Core()
    model = core.compile_model(core.read_model(graph.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return model(pixels)[0]


ENGINES = [by_onnxruntime, by_onnxruntime_as_written, by_reference, by_openvino]
Engine = Callable[[onnx.ModelProto, np.ndarray], np.ndarray]


def halved(ops: Plan) -> Plan:
    """Weights of more than a thousand numbers as 16 bits store them."""
    return [
        replace(op, weight=op.weight.half().float()) if op.weight is not None and op.weight.numel() > 1000 else op
        for op in ops
    ]


def answer(ops: Plan, image: torch.Tensor) -> torch.Tensor:
    return list(walk(ops, image))[-1][3].flatten()


def probability(logits: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor, mirror: bool) -> torch.Tensor:
    """Of logits that are averaged over the image and, where that is asked, its mirror image."""
    views = [image, image.flip(3)] if mirror else [image]
    return torch.stack([logits(view) for view in views]).mean(0).sigmoid()


@torch.inference_mode()
@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
@pytest.mark.parametrize("mirror", [False, True], ids=["", "mirror"])
def test_every_engine_answers_what_torch_answers(
    engine: Engine, mirror: bool, tiny: Student, small: torch.Tensor
) -> None:
    student, image, ops = (mirroring(tiny) if mirror else tiny), image_of(small), plan(tiny)
    full, half = (probability(partial(answer, o), image, mirror) for o in (ops, halved(ops)))

    assert torch.allclose(full, student(small).sigmoid(), atol=1e-5)
    for graph, wanted in (
        (float_graph(ops, 24, mirror=mirror), full),
        (float_graph(ops, 24, mirror=mirror, half=True), half),
    ):
        onnx.checker.check_model(graph, full_check=True)
        found = engine(graph, small.numpy())
        assert found.shape == (len(small),) and found.dtype == np.float32
        assert found == pytest.approx(wanted.numpy(), abs=2e-5)
    assert (full - half).abs().max() > 1e-5, "sixteen bits make a difference"


@torch.inference_mode()
@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
@pytest.mark.parametrize("mirror", [False, True], ids=["", "mirror"])
def test_every_engine_answers_what_the_simulation_of_int8_answers(
    engine: Engine, mirror: bool, tiny: Student, small: torch.Tensor
) -> None:
    image = image_of(small)
    quantized = quantize(plan(tiny), image)
    wanted = probability(partial(simulate, quantized), image, mirror).numpy()
    graph = int8_graph(quantized, 24, mirror=mirror)
    onnx.checker.check_model(graph, full_check=True)
    found = engine(graph, small.numpy())
    # an engine of its own arithmetic may round a half to the other side: one activation moves by one level of 255
    assert np.abs(found - wanted).max() < (0.003 if engine is by_openvino else 0.0003)
    float_answers = answer(plan(tiny), image).sigmoid().numpy()
    assert np.abs(wanted - float_answers).max() > 0.0006, "eight bits make a difference"


@torch.inference_mode()
def test_every_backbone_becomes_the_same_graph_in_three_precisions(network: Student, pixels: torch.Tensor) -> None:
    image, ops = image_of(pixels), plan(network)
    quantized = quantize(ops, image)
    graphs = [float_graph(ops, 48), float_graph(ops, 48, half=True), int8_graph(quantized, 48)]
    expected = [network(pixels), answer(halved(ops), image), simulate(quantized, image)]
    for graph, wanted, tolerance in zip(graphs, expected, (1e-4, 1e-4, 0.05), strict=True):
        onnx.checker.check_model(graph, full_check=True)
        for engine in (by_onnxruntime, by_openvino):
            found = engine(graph, pixels.numpy())
            assert np.abs(found - wanted.sigmoid().numpy()).mean() < tolerance, engine.__name__
    stored = sum(len(tensor.raw_data) for tensor in graphs[2].graph.initializer)
    assert stored > 0.9 * graphs[2].ByteSize()
    assert simulate(quantized, image).sub(network(pixels)).square().mean().sqrt() < 0.15 * network(pixels).std() + 0.02


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_mirroring_student_answers_alike_for_a_photo_and_its_mirror_image(
    network: Student, pixels: torch.Tensor, precision: str
) -> None:
    ops = plan(network)
    quantized = quantize(ops, image_of(pixels))
    graph = float_graph(ops, 48, mirror=True) if precision == "fp32" else int8_graph(quantized, 48, mirror=True)
    straight, mirrored = (by_onnxruntime(graph, p.numpy()) for p in (pixels, pixels.flip(2)))

    assert np.abs(straight - mirrored).max() < 1e-5
    wanted = mirroring(network)(pixels).sigmoid().numpy()
    assert np.abs(straight - wanted).mean() < {"fp32": 1e-4, "int8": 0.05}[precision]


def constants(graph: onnx.ModelProto) -> list[np.ndarray]:
    return [numpy_helper.to_array(tensor) for tensor in graph.graph.initializer]


@torch.inference_mode()
def test_the_file_says_what_it_takes_and_gives_and_which_runtimes_read_it(tiny: Student, small: torch.Tensor) -> None:
    ops = plan(tiny)
    for graph in (float_graph(ops, 24), int8_graph(quantize(ops, image_of(small)), 24, mirror=True)):
        (image,), (probability,) = graph.graph.input, graph.graph.output
        dimensions = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]

        assert (image.name, dimensions) == ("image", ["N", 24, 24, 3])
        assert image.type.tensor_type.elem_type == TensorProto.UINT8
        assert (probability.name, probability.type.tensor_type.elem_type) == ("probability", TensorProto.FLOAT)
        assert [d.dim_param for d in probability.type.tensor_type.shape.dim] == ["N"]
        assert ([(o.domain, o.version) for o in graph.opset_import], graph.ir_version) == ([("", 17)], 8)
        assert graph.graph.name == "g", "a name is needed, and a long one is bytes"


@torch.inference_mode()
def test_nothing_in_the_file_is_superfluous(tiny: Student, small: torch.Tensor) -> None:
    """Equal constants once, short names, no node for what uint8 implies, no attribute that is the default."""
    graph = int8_graph(quantize(plan(tiny), image_of(small)), 24)
    kept = [(c.dtype.str, c.shape, c.tobytes()) for c in constants(graph)]
    names = [name for node in graph.graph.node for name in node.output if name != "probability"]
    names += [tensor.name for tensor in graph.graph.initializer]

    assert len(kept) == len(set(kept))
    assert len(names) == len(set(names)) and max(map(len, names)) <= 2
    assert sorted(names, key=lambda name: (len(name), name.swapcase()))[:3] == ["a", "b", "c"]
    kinds = [node.op_type for node in graph.graph.node]
    assert "Clip" not in kinds, "the rectifier of the first layer is the range's own end"
    assert [kinds.count(kind) for kind in ("HardSwish", "HardSigmoid", "Relu")] == [1, 1, 1]
    written = {(node.op_type, a.name) for node in graph.graph.node for a in node.attribute}
    assert written == {
        ("Conv", "pads"),
        ("Conv", "strides"),
        ("Conv", "group"),
        ("DequantizeLinear", "axis"),
        ("HardSigmoid", "alpha"),
        ("Transpose", "perm"),
    }
    convs = [{a.name for a in node.attribute} for node in graph.graph.node if node.op_type == "Conv"]
    assert convs[0] == {"pads", "strides"} and convs[1] == {"pads", "group"} and convs[2] == set()


@torch.inference_mode()
def test_weights_are_stored_as_the_scheme_says(tiny: Student, small: torch.Tensor) -> None:
    """int8 weights by channel, int32 biases at the scale of the sums: recomputed in plain numpy."""
    quantized = quantize(plan(tiny), image_of(small))
    kept = constants(int8_graph(quantized, 24))
    stored = [c.tolist() for c in kept]
    for number, op in enumerate(quantized.ops):
        if op.weight is None:
            continue
        scales = weight_scales(op.weight).numpy()
        weight = np.clip(np.rint(op.weight.numpy() / scales[:, None, None, None]), -127, 127).astype(np.int8)
        if number in quantized.ranges:
            sums = np.float32(quantized.ranges[op.inputs[0]].scale) * scales
            assert weight.tolist() in stored and scales.tolist() in stored
            assert np.rint(op.bias.numpy() / sums).astype(np.int32).tolist() in stored
        else:
            assert (weight.tolist() in stored) == (op.weight.numel() > 1000), "small ones stay as they are"
            assert op.weight.numel() > 1000 or op.weight.tolist() in stored
    assert {c.dtype for c in kept if c.ndim == 4} == {np.dtype(np.int8), np.dtype(np.float32)}


def test_a_bias_too_large_for_its_scale_is_cut_off_short_of_overflow() -> None:
    op = Op("conv", (-1,), "", torch.full((1, 3, 1, 1), 1e-3), torch.tensor([1e9]))
    graph = int8_graph(Quantized([op], {-1: Range(1 / 128, 128), 0: Range(1.0, 0)}, {}), 4)
    (bias,) = [c for c in constants(graph) if c.dtype == np.int32]

    assert bias.tolist() == [2**30]


def test_large_weights_of_what_stays_float_are_packed_and_only_those_above_a_thousand_are_halved() -> None:
    def conv(outputs: int) -> Op:
        torch.manual_seed(0)
        return Op("conv", (-1,), "", torch.randn(outputs, 3, 1, 1), torch.randn(outputs))

    for outputs, half in ((333, np.float32), (334, np.float16)):
        (weight,) = [c for c in constants(float_graph([conv(outputs)], 4, half=True)) if c.ndim == 4]
        assert weight.dtype == half, f"{3 * outputs} numbers"
        mean = replace(conv(outputs), inputs=(0,))
        graph = int8_graph(Quantized([Op("mean", (-1,)), mean], {-1: Range(1 / 128, 128)}, {}), 4)
        (weight,) = [c for c in constants(graph) if c.ndim == 4]
        assert weight.dtype == (np.int8 if outputs == 334 else np.float32)


def test_names_are_counted_in_letters() -> None:
    build = onnx_graph._Builder(mirror=False)
    names = [build._name() for _ in range(52 * 52 + 53)]

    assert names[:2] == ["a", "b"] and names[25:27] == ["z", "A"] and names[51:54] == ["Z", "aa", "ab"]
    assert names[103:105] == ["aZ", "ba"] and names[-1] == "aaa"
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("activation", ["", "relu", "relu6", "hardswish", "hardsigmoid"])
def test_activations_are_torchs_in_every_engine(activation: str) -> None:
    torch.manual_seed(0)
    op = Op("conv", (-1,), activation, torch.randn(1, 3, 1, 1) * 8, torch.randn(1))
    ops = [op, Op("mean", (0,))]
    pixels = torch.randint(0, 256, (5, 4, 4, 3), dtype=torch.uint8)
    wanted = answer(ops, image_of(pixels)).sigmoid().numpy()

    for engine in ENGINES:
        assert engine(float_graph(ops, 4), pixels.numpy()) == pytest.approx(wanted, abs=1e-5), engine.__name__
    assert compute(op, image_of(pixels)).shape == (5, 1, 4, 4)


def test_what_has_no_weights_cannot_be_quantized() -> None:
    build = onnx_graph._Builder(mirror=False)
    with pytest.raises(ExportError) as told:
        build.int8_conv(Op("conv", (-1,)), "image", Range(1.0, 0))
    assert str(told.value) == "conv has no weights to quantize"
