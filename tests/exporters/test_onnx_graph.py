"""The graph: onnxruntime, the reference evaluator and OpenVINO read in it what torch computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from clip_factory.exporters.onnx_graph import float_graph, int8_graph
from clip_factory.exporters.plan import plan, walk
from clip_factory.exporters.quantization import quantize, simulate
from clip_factory.students.network import Student, normalize


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
