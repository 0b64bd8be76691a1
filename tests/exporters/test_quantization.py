"""Static int8: ranges, weights and corrected biases, against numpy and torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx import TensorProto, numpy_helper

from clip_factory.exporters.onnx_graph import int8_graph
from clip_factory.exporters.plan import ACTIVATIONS, compute, plan, walk
from clip_factory.exporters.quantization import (
    Quantized,
    Range,
    choose_range,
    fake_quantize_weight,
    implied,
    quantize,
    simulate,
    stays_float,
    weight_scales,
)
from clip_factory.students.network import Student
from support.networks import image_of


def best_by_search(x: np.ndarray) -> tuple[float, float, int]:
    """Least mean squared error of uint8 over clipping at .3, .325 ... 1 of what was seen: error, scale, zero."""
    low, high = min(x.min(), 0.0), max(x.max(), 1e-6)
    found = []
    for share in np.linspace(0.3, 1.0, 29):
        scale = (high * share - low * share) / 255
        zero = min(255, max(0, round(-low * share / scale)))
        stored = np.clip(np.rint(x / scale) + zero, 0, 255)
        found.append((float(np.mean(((stored - zero) * scale - x) ** 2)), scale, zero))
    return min(found)


SAMPLES = {
    "normal": np.random.default_rng(0).normal(0.3, 1, 4000),
    "rectified": np.maximum(np.random.default_rng(1).normal(0, 1, 4000), 0),
    "negative": -np.abs(np.random.default_rng(2).normal(0, 1, 4000)) - 0.1,
    "one outlier": np.append(np.random.default_rng(3).uniform(0, 1, 4000), 9.0),
    "heavy tails": np.random.default_rng(4).standard_t(2, 4000),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_range_is_the_best_of_an_exhaustive_search(name: str) -> None:
    x = SAMPLES[name].astype(np.float32)
    error, scale, zero = best_by_search(x.astype(np.float64))
    found = choose_range(torch.from_numpy(x))

    assert (found.scale, found.zero) == (pytest.approx(scale, rel=1e-5), zero)
    rounded = found.fake_quantize(torch.from_numpy(x)).numpy()
    assert np.mean((rounded - x) ** 2) == pytest.approx(error, rel=1e-3)


def test_the_best_range_of_many_values_is_sought_on_some_of_them() -> None:
    """Of 150,000 every third; what lies between does not matter, but for the ends."""
    x = np.zeros(150_000, np.float32)
    x[::3] = np.random.default_rng(0).uniform(0, 1, 50_000)
    x[1] = 1.5
    scales = []
    for share in np.linspace(0.3, 1.0, 29):
        scale = (1.5 - x.min()) * share / 255
        zero = round(float(-x.min() * share / scale))
        stored = np.clip(np.rint(x[::3] / scale) + zero, 0, 255)
        scales.append((float(np.mean(((stored - zero) * scale - x[::3]) ** 2)), scale))

    assert choose_range(torch.from_numpy(x)).scale == pytest.approx(min(scales)[1], rel=1e-5)
    assert min(scales)[1] < 0.8 * (1.5 - x.min()) / 255, "taking all that was seen would be worse"


def test_a_tensor_of_zeros_has_a_range() -> None:
    found = choose_range(torch.zeros(100))

    assert 0 < found.scale < 1e-6 and found.zero == 0
    assert found.fake_quantize(torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("scale", "zero"), [(0.01, 0), (0.02, 117), (1 / 128, 128), (0.5, 255)])
def test_rounding_is_torchs_fake_quantization(scale: float, zero: int) -> None:
    x = torch.cat([torch.linspace(-4, 4, 1001), torch.tensor([-1e4, 1e4, 0.0])])
    wanted = torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)

    assert torch.allclose(Range(scale, zero).fake_quantize(x), wanted, atol=scale * 1e-3)
    assert Range(scale, zero).fake_quantize(torch.zeros(1)).item() == 0


def scales_by_hand(weight: np.ndarray) -> np.ndarray:
    """127 stands for the two largest weights of one sign together; a dead channel has a thousandth of the largest."""
    flat = weight.reshape(len(weight), -1)
    largest = []
    for channel in flat:
        sums = [np.sort(np.maximum(sign * channel, 0))[::-1][:2].sum() for sign in (1, -1)]
        largest.append(max(sums))
    floor = max(max(largest) * 1e-3, 1e-8)
    return np.maximum(largest, floor) / 127


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (5, 8, 1, 1), (7, 1, 1, 1)])
def test_weights_are_scaled_by_channel_and_rounded_as_torch_rounds(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape) * torch.logspace(-6, 1, shape[0])[:, None, None, None]
    scales = weight_scales(weight)
    wanted = torch.fake_quantize_per_channel_affine(weight, scales, torch.zeros(shape[0]).int(), 0, -127, 127)

    assert scales.numpy() == pytest.approx(scales_by_hand(weight.numpy()), rel=1e-5)
    assert torch.allclose(fake_quantize_weight(weight), wanted, atol=1e-7)
    assert weight_scales(torch.zeros(2, 3, 1, 1)).tolist() == pytest.approx([1e-8 / 127] * 2)


@torch.inference_mode()
def test_each_corrected_convolution_is_right_in_the_mean_of_each_channel(tiny: Student, small: torch.Tensor) -> None:
    """Nagel et al. 2019: what rounding moves in the mean over photos and places is put back into the bias."""
    image = image_of(small)
    ops = plan(tiny)
    quantized = quantize(ops, image)
    exact, simulated = {-1: image}, {-1: image}
    for number, (op, corrected) in enumerate(zip(ops, quantized.ops, strict=True)):
        exact[number] = compute(op, *(exact[i] for i in op.inputs))
        inputs = [simulated[i] for i in op.inputs]
        if op.kind == "conv" and not stays_float(ops, number):
            weight = fake_quantize_weight(corrected.weight)
            before = compute(op, *(exact[i] for i in op.inputs), activate=False)
            found = compute(replace(corrected, weight=weight), *inputs, activate=False)
            uncorrected = compute(replace(op, weight=weight), *inputs, activate=False)
            assert torch.allclose(found.mean((0, 2, 3)), before.mean((0, 2, 3)), atol=1e-5)
            if number:
                assert not torch.allclose(uncorrected.mean((0, 2, 3)), before.mean((0, 2, 3)), atol=1e-4)
        elif op.weight is not None:
            assert torch.equal(op.bias, corrected.bias) and torch.equal(op.weight, corrected.weight)
        simulated[number] = step_by_hand(quantized, number, inputs)


def step_by_hand(quantized: Quantized, number: int, inputs: list[torch.Tensor]) -> torch.Tensor:
    """One step of the int8 file by torch's own fake quantization."""
    op = quantized.ops[number]
    outer, inner = quantized.ranges.get(number), quantized.inner.get(number)
    if op.weight is not None and (outer or op.weight.numel() > 1000):
        scales, zeros = weight_scales(op.weight), torch.zeros(len(op.weight)).int()
        op = replace(op, weight=torch.fake_quantize_per_channel_affine(op.weight, scales, zeros, 0, -127, 127))
    x = compute(op, *inputs, activate=False)
    if inner:
        x = torch.fake_quantize_per_tensor_affine(x, inner.scale, inner.zero, 0, 255)
    x = ACTIVATIONS[op.activation](x)
    return torch.fake_quantize_per_tensor_affine(x, outer.scale, outer.zero, 0, 255) if outer else x


@torch.inference_mode()
def test_the_simulation_is_torchs_fake_quantization_step_by_step(tiny: Student, small: torch.Tensor) -> None:
    image = image_of(small)
    quantized = quantize(plan(tiny), image)
    made = {-1: image}
    for number, op in enumerate(quantized.ops):
        made[number] = step_by_hand(quantized, number, [made[i] for i in op.inputs])

    assert torch.allclose(simulate(quantized, image), made[len(quantized.ops) - 1].flatten(), atol=1e-4)
    assert simulate(quantized, image).shape == (len(small),)


@torch.inference_mode()
def test_what_is_stored_as_uint8_and_what_stays_float(tiny: Student, small: torch.Tensor) -> None:
    image = image_of(small)
    ops = plan(tiny)
    quantized = quantize(ops, image)

    assert quantized.ranges[-1] == Range(1 / 128, 128), "pixels are stored values already"
    assert set(quantized.ranges) == {-1, 0, 1, 5, 6, 7, 8}, "not the squeeze-excite branch, nor the head"
    assert set(quantized.inner) == {1}, "only hardswish cannot be had by the ends of a range"
    outputs = {number: (inputs, output) for number, _, inputs, output in walk(ops, image)}
    for number in (0, 1, 5, 6, 7, 8):
        assert quantized.ranges[number] == choose_range(outputs[number][1])
    assert quantized.inner[1] == choose_range(compute(ops[1], *outputs[1][0], activate=False))
    assert [implied(name) for name in ACTIVATIONS] == [True, True, True, False, False]


def test_ranges_clip_what_is_rare_where_that_rounds_better() -> None:
    torch.manual_seed(0)
    x = torch.rand(2_000_000)
    x[1] = 3.0
    found, whole = (range_.fake_quantize(x).sub(x).square().mean() for range_ in (choose_range(x), Range(3 / 255, 0)))
    assert found < 0.5 * whole


@torch.inference_mode()
def test_bias_correction_brings_the_mean_of_the_logits_back(network: Student, pixels: torch.Tensor) -> None:
    image = image_of(pixels)
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
        graph = int8_graph(quantize(plan(network), image_of(pixels)), 48).graph
    stored = [numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.data_type == TensorProto.INT8]
    kernels = [weight.reshape(len(weight), -1).astype(int) for weight in stored if weight.ndim == 4]
    assert len(kernels) > 10
    for weight in kernels:
        if weight.shape[1] > 1:
            ordered = np.sort(weight)
            assert 255 * max((ordered[:, -1] + ordered[:, -2]).max(), -(ordered[:, 0] + ordered[:, 1]).min()) <= 32767
    assert max(np.abs(weight).max() for weight in kernels) > 64
