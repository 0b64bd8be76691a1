"""Static int8: ranges, weights and corrected biases, against numpy and torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from onnx import TensorProto, numpy_helper

from clip_factory.exporters.onnx_graph import int8_graph
from clip_factory.exporters.plan import plan
from clip_factory.exporters.quantization import Range, choose_range, fake_quantize_weight, quantize, simulate
from clip_factory.students.network import Student, normalize


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
