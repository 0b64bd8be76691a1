"""Write a plan as an ONNX graph: float32, float16 storage, or int8 in QDQ form.

The graph is written by hand rather than traced, so that nothing in it is superfluous: names are a letter or two, equal
constants are stored once, activations that uint8 implies have no node.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from clip_factory.errors import ExportError
from clip_factory.exporters.plan import Op, Plan
from clip_factory.exporters.quantization import Quantized, Range, implied, int8_weight, packs, weight_scales
from clip_factory.students.network import CENTER

OPSET, IR_VERSION = 17, 8
"""Read by onnxruntime 1.12 and later."""
_DIGITS = string.ascii_lowercase + string.ascii_uppercase
_ACTIVATION_NODES = {"relu": "Relu", "hardswish": "HardSwish"}


def float_graph(ops: Plan, size: int, *, mirror: bool = False, half: bool = False) -> onnx.ModelProto:
    """The plan in float32 arithmetic.

    Args:
        ops: The folded student.
        size: Side of the input, pixels.
        mirror: Average the logits of the image and its mirror image.
        half: Store convolution weights as float16; runtimes cast them once when they load the file.
    """
    build = _Builder(mirror)
    made = {-1: build.normalized_image()}
    for number, op in enumerate(ops):
        made[number] = build.float_op(op, [made[i] for i in op.inputs], half)
    return build.finish(made[len(ops) - 1], size)


def int8_graph(quantized: Quantized, size: int, *, mirror: bool = False) -> onnx.ModelProto:
    """The quantized plan: QuantizeLinear and DequantizeLinear around float operations, which runtimes fuse to int8."""
    build = _Builder(mirror)
    made = {-1: build.dequantized_image(quantized.ranges[-1])}
    for number, op in enumerate(quantized.ops):
        inputs = [made[i] for i in op.inputs]
        outer, inner = quantized.ranges.get(number), quantized.inner.get(number)
        if outer is None:
            made[number] = build.float_op(op, inputs, half=False, packed=packs(op))
            continue
        x = (
            build.int8_conv(op, inputs[0], quantized.ranges[op.inputs[0]])
            if op.kind == "conv"
            else build.plain(op, inputs)
        )
        if not implied(op.activation):
            x = build.activation(op.activation, build.through_uint8(x, inner) if inner else x)
        made[number] = build.through_uint8(x, outer)
    return build.finish(made[len(quantized.ops) - 1], size)


class _Builder:
    """Nodes and constants of a graph in the making."""

    def __init__(self, mirror: bool) -> None:
        self.mirror = mirror
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[tuple[Any, ...], onnx.TensorProto] = {}
        self.used = 0

    def _name(self) -> str:
        self.used += 1
        number, name = self.used, ""
        while number:
            number, digit = divmod(number - 1, len(_DIGITS))
            name = _DIGITS[digit] + name
        return name

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or self._name()
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: np.ndarray) -> str:
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(value, self._name())
        return self.constants[key].name

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def image(self) -> str:
        """The input as uint8 `(N, 3, S, S)`; with `mirror`, `(2N, 3, S, S)`, the mirrored ones last."""
        if not self.mirror:
            return self.node("Transpose", "image", perm=[0, 3, 1, 2])
        last, beyond, width = (self.constant(np.array([number], np.int64)) for number in (-1, -(2**62), 2))
        mirrored = self.node("Slice", "image", last, beyond, width, last)
        return self.node("Transpose", self.node("Concat", "image", mirrored, axis=0), perm=[0, 3, 1, 2])

    def normalized_image(self) -> str:
        x = self.node("Cast", self.image(), to=TensorProto.FLOAT)
        return self.node("Sub", self.node("Mul", x, self.scalar(1 / CENTER)), self.scalar(1.0))

    def dequantized_image(self, range_: Range) -> str:
        return self._dequantize(self.image(), range_)

    def plain(self, op: Op, inputs: list[str]) -> str:
        return self.node({"add": "Add", "mul": "Mul", "mean": "GlobalAveragePool"}[op.kind], *inputs)

    def float_op(self, op: Op, inputs: list[str], half: bool, packed: bool = False) -> str:
        """One operation with its activation; `packed` stores the weights as int8 and computes in float."""
        if op.weight is None or op.bias is None:
            return self.activation(op.activation, self.plain(op, inputs))
        if packed:
            weight = self._int8_weight(op.weight)
        elif half and packs(op):
            weight = self.node("Cast", self.constant(_numpy(op.weight).astype(np.float16)), to=TensorProto.FLOAT)
        else:
            weight = self.constant(_numpy(op.weight))
        return self.activation(op.activation, self._conv(op, inputs[0], weight, self.constant(_numpy(op.bias))))

    def int8_conv(self, op: Op, x: str, range_: Range) -> str:
        """A convolution whose operands are dequantized: bias int32 at the scale of the sums."""
        if op.weight is None or op.bias is None:
            raise ExportError(f"{op.kind} has no weights to quantize")
        scales = _numpy(weight_scales(op.weight))
        sums = np.float32(range_.scale) * scales
        stored = np.clip(np.rint(_numpy(op.bias) / sums), -(2**30), 2**30).astype(np.int32)
        # The scale of the sums is a product that runtimes fold when they load, so that it takes no room in the file.
        bias_scale = self.node("Mul", self.scalar(range_.scale), self.constant(scales))
        bias = self.node("DequantizeLinear", self.constant(stored), bias_scale, axis=0)
        return self._conv(op, x, self._int8_weight(op.weight), bias)

    def _int8_weight(self, weight: Tensor) -> str:
        stored, scales = int8_weight(weight)
        return self.node(
            "DequantizeLinear", self.constant(_numpy(stored).astype(np.int8)), self.constant(_numpy(scales)), axis=0
        )

    def _conv(self, op: Op, x: str, weight: str, bias: str) -> str:
        attributes: dict[str, Any] = {}
        if op.pad:
            attributes["pads"] = [op.pad] * 4
        if op.stride != 1:
            attributes["strides"] = [op.stride] * 2
        if op.groups != 1:
            attributes["group"] = op.groups
        return self.node("Conv", x, weight, bias, **attributes)

    def activation(self, name: str, x: str) -> str:
        if name == "relu6":
            return self.node("Clip", x, self.scalar(0.0), self.scalar(6.0))
        if name == "hardsigmoid":
            return self.node("HardSigmoid", x, alpha=1 / 6)
        return self.node(_ACTIVATION_NODES[name], x) if name else x

    def through_uint8(self, x: str, range_: Range) -> str:
        scale, zero = self.scalar(range_.scale), self.constant(np.array(range_.zero, np.uint8))
        return self._dequantize(self.node("QuantizeLinear", x, scale, zero), range_)

    def _dequantize(self, x: str, range_: Range) -> str:
        return self.node(
            "DequantizeLinear", x, self.scalar(range_.scale), self.constant(np.array(range_.zero, np.uint8))
        )

    def finish(self, logit: str, size: int) -> onnx.ModelProto:
        shape = [2, -1] if self.mirror else [-1]
        logits = self.node("Reshape", logit, self.constant(np.array(shape, np.int64)))
        if self.mirror:
            logits = self.node("ReduceMean", logits, axes=[0], keepdims=0)
        self.node("Sigmoid", logits, output="probability")
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", size, size, 3])],
            [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])],
            list(self.constants.values()),
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def _numpy(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
