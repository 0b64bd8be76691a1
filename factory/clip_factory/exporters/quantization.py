"""Static int8: ranges of activations and biases corrected on training images, weights per output channel.

The scheme is that of Jacob et al. 2018: activations are uint8 with a zero point, weights int8 without one, sums int32.
Squeeze-excite branches and the last layer keep float activations: they are a hundredth of the work, and the hard
sigmoid's narrow range is where int8 is known to hurt MobileNetV3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clip_factory.exporters.plan import ACTIVATIONS, Op, Plan, compute, walk

LEVELS = 255
MIN_PACKED = 1000
"""Weights of more numbers than this take less room in the file as fewer bits, whatever they are computed in."""
CLIPPING_SHARES = torch.linspace(0.3, 1.0, 29)
"""Shares of the observed range that are tried as clipping points."""


@dataclass(frozen=True)
class Range:
    """An affine map of uint8: real = scale x (stored - zero)."""

    scale: float
    zero: int

    def fake_quantize(self, x: Tensor) -> Tensor:
        """Round to the nearest value that uint8 can hold."""
        return ((x / self.scale).round() + self.zero).clamp(0, LEVELS).sub(self.zero) * self.scale


IMAGE = Range(1 / 128, 128)
"""The normalized image: its uint8 pixels are already this map's stored values (`clip_factory.students.network`)."""


@dataclass(frozen=True)
class Quantized:
    """What int8 adds to a plan."""

    ops: Plan
    """The plan with corrected biases."""
    ranges: dict[int, Range]
    """The map of each tensor that is stored as uint8; key -1 is the image."""
    inner: dict[int, Range]
    """For activations that uint8 cannot imply (hardswish): the map of the convolution's result before them."""


def quantize(ops: Plan, image: Tensor) -> Quantized:
    """Choose ranges and correct biases.

    Args:
        ops: The folded student.
        image: float32 `(N, 3, S, S)`, normalized training images; 64 to 256 are enough.
    """
    ranges, inner = {-1: IMAGE}, {}
    for number, op, inputs, output in walk(ops, image):
        if not stays_float(ops, number):
            ranges[number] = choose_range(output)
            if not implied(op.activation):
                inner[number] = choose_range(compute(op, *inputs, activate=False))
    return Quantized(_correct(ops, image, ranges, inner), ranges, inner)


def implied(activation: str) -> bool:
    """Whether storing as uint8 does the activation by itself: rectifiers clip at the ends of the range."""
    return activation in ("", "relu", "relu6")


def stays_float(ops: Plan, number: int) -> bool:
    """Whether a tensor is a mean over the image or a convolution of one: the squeeze-excite branches and the head."""
    op = ops[number]
    if op.kind == "mean":
        return True
    return op.kind == "conv" and op.inputs[0] >= 0 and stays_float(ops, op.inputs[0])


def packs(op: Op) -> bool:
    """Whether its weights are stored in fewer bits even where it is computed in float."""
    return op.weight is not None and op.weight.numel() > MIN_PACKED


def weight_scales(weight: Tensor) -> Tensor:
    """Scale of each output channel `(outputs,)`: its two largest weights of one sign become 127 together.

    x86 processors without VNNI add two products of uint8 and int8 in 16 bits, and cut off what does not fit. Which two
    depends on the layout, so no two may exceed 128: 255 x 128 fits. A dead channel, all but zero after folding, takes a
    thousandth of the layer's largest, lest its int32 bias overflow.
    """
    flat = weight.flatten(1)
    two = min(2, flat.shape[1])
    largest = torch.maximum(*((sign * flat).clamp(min=0).topk(two).values.sum(1) for sign in (1, -1)))
    return largest.clamp(min=max(float(largest.max()) * 1e-3, 1e-8)) / 127


def int8_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """What int8 holds of weights `(outputs, inputs / groups, k, k)`, as float, and the scales `(outputs,)`.

    By their scale none is beyond 127.
    """
    scales = weight_scales(weight)
    return (weight / scales[:, None, None, None]).round(), scales


def fake_quantize_weight(weight: Tensor) -> Tensor:
    """Weights rounded to what int8 can hold, `(outputs, inputs / groups, k, k)`."""
    stored, scales = int8_weight(weight)
    return stored * scales[:, None, None, None]


def choose_range(x: Tensor) -> Range:
    """The range of least mean squared rounding error, clipping included (Nagel et al. 2021, section 3.1)."""
    sample = x.flatten()
    sample = sample[:: max(1, len(sample) // 50_000)]
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 1e-6)
    candidates = [_range(low * float(c), high * float(c)) for c in CLIPPING_SHARES]
    return min(candidates, key=lambda r: float((r.fake_quantize(sample) - sample).square().mean()))


def _range(low: float, high: float) -> Range:
    scale = (high - low) / LEVELS
    return Range(scale, min(LEVELS, max(0, round(-low / scale))))


def simulate(quantized: Quantized, image: Tensor) -> Tensor:
    """What the int8 file computes, in float: logits `(N,)`."""
    made = {-1: image}
    for number, op in enumerate(quantized.ops):
        made[number] = _step(
            op, [made[i] for i in op.inputs], quantized.ranges.get(number), quantized.inner.get(number)
        )
    return made[len(quantized.ops) - 1].flatten()


def _step(op: Op, inputs: list[Tensor], outer: Range | None, inner: Range | None) -> Tensor:
    if op.weight is not None and (outer or packs(op)):
        op = replace(op, weight=fake_quantize_weight(op.weight))
    x = compute(op, *inputs, activate=False)
    x = ACTIVATIONS[op.activation](inner.fake_quantize(x) if inner else x)
    return outer.fake_quantize(x) if outer else x


def _correct(ops: Plan, image: Tensor, ranges: dict[int, Range], inner: dict[int, Range]) -> Plan:
    """Empirical bias correction (Nagel et al. 2019, appendix D): each channel's mean error goes into its bias."""
    corrected: Plan = []
    made = {-1: image}
    for number, op, inputs, _ in walk(ops, image):
        simulated = [made[i] for i in op.inputs]
        if op.weight is not None and op.bias is not None and not stays_float(ops, number):
            off = compute(op, *inputs, activate=False) - compute(
                replace(op, weight=fake_quantize_weight(op.weight)), *simulated, activate=False
            )
            op = replace(op, bias=op.bias + off.mean((0, 2, 3)))
        corrected.append(op)
        made[number] = _step(op, simulated, ranges.get(number), inner.get(number))
    return corrected
