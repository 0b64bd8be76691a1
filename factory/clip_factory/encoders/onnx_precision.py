"""The weights of an exported tower in 16 or 8 bits."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from clip_factory.runtime.encoder_folder import DATA

SMALL = 1024
"""Tensors of fewer numbers stay as they are: they weigh nothing."""
FEW = 32_768
"""Weights of a layer with fewer are kept in float16 instead of 8 bits: they are little to save, and rounding them, as
those of depthwise convolutions, costs most."""
INT8_LEVELS = 127
MATRIX_PRODUCTS = ["MatMul", "Gemm"]
PRODUCTS = (*MATRIX_PRODUCTS, "Conv")
"""Operators whose second input is the weights."""


def narrow(path: Path, precision: str, is_near: Callable[[], bool]) -> None:
    """Keep a tower's large weights in 16 or 8 bits.

    fp16 and int8 widen the weights where they are used, and compute in float32. In int8 matrix products also compute in
    8 bits, if the vectors bear it.

    Args:
        path: The tower, in float32; rewritten.
        precision: `fp32` changes nothing.
        is_near: Whether the tower, as it now lies at `path`, gives nearly the vectors that it gave before.
    """
    if precision == "fp32":
        return
    model = onnx.load(path)
    if precision == "int8":
        _save(_in_8_bits(_with_8_bit_products(path)), path)
        if is_near():
            return
        _save(_in_8_bits(model), path)
    else:
        _replace(model, {one.name for one in model.graph.initializer}, _in_fp16)
        _save(model, path)


def _with_8_bit_products(path: Path) -> onnx.ModelProto:
    """Matrix products in 8 bits: the range of each input is measured as it comes, weights have a scale for each output
    channel (dynamic quantization; Jacob et al. 2018, arXiv:1712.05877).
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory(dir=path.parent) as folder, unheard():
        quantized = Path(folder) / "quantized.onnx"
        quantize_dynamic(
            path, quantized, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=MATRIX_PRODUCTS
        )
        return onnx.load(quantized)


def _in_8_bits(model: onnx.ModelProto) -> onnx.ModelProto:
    """The weights that are left, in 8 bits; tables of embeddings, of which a few rows are read, in float16."""
    _replace(model, _tables(model), _in_fp16)
    _replace(model, {node.input[1] for node in model.graph.node if node.op_type in PRODUCTS}, _in_int8)
    return model


def _tables(model: onnx.ModelProto) -> set[str]:
    return {node.input[0] for node in model.graph.node if node.op_type == "Gather"}


Narrowed = tuple[list[TensorProto], Callable[[str, str], list[NodeProto]]]
"""What is kept instead of a tensor, and the nodes that make the tensor of it again: `(name of input, of output)`."""


def _in_fp16(one: TensorProto) -> Narrowed | None:
    narrow = numpy_helper.to_array(one).astype(np.float16)
    if not np.isfinite(narrow).all():  # beyond 65,504
        return None
    kept = numpy_helper.from_array(narrow, one.name + "_fp16")
    return [kept], lambda name, output: [helper.make_node("Cast", [name], [output], to=TensorProto.FLOAT)]


def _in_int8(one: TensorProto) -> Narrowed | None:
    values = numpy_helper.to_array(one)
    if values.ndim < 2 or values.size < FEW:
        return _in_fp16(one)
    # the axis of output channels: the first of a convolution's, the last of a matrix
    axes = tuple(range(1, values.ndim)) if values.ndim > 2 else (0,)
    scale = np.maximum(np.abs(values).max(axis=axes, keepdims=True) / INT8_LEVELS, np.finfo(np.float32).tiny)
    integers = numpy_helper.from_array(np.rint(values / scale).astype(np.int8), one.name + "_int8")
    scales = numpy_helper.from_array(scale.astype(np.float32), one.name + "_scale")

    def widened(name: str, output: str) -> list[NodeProto]:
        # not DequantizeLinear, which onnxruntime computes anew for every batch
        wide = output + "_wide"
        cast = helper.make_node("Cast", [name], [wide], to=TensorProto.FLOAT)
        return [cast, helper.make_node("Mul", [wide, scales.name], [output])]

    return [integers, scales], widened


def _replace(model: onnx.ModelProto, names: set[str], narrowed: Callable[[TensorProto], Narrowed | None]) -> None:
    """Keep some float32 initializers narrower, and widen them again: after a lookup, or before any other use."""
    graph = model.graph
    large = [one for one in graph.initializer if one.data_type == TensorProto.FLOAT and np.prod(one.dims) >= SMALL]
    tried = {one.name: narrowed(one) for one in large if one.name in names}
    new = {name: replaced for name, replaced in tried.items() if replaced is not None}
    nodes: list[NodeProto] = []
    for node in graph.node:
        table = new.get(node.input[0]) if node.op_type == "Gather" else None
        if table is not None:
            (rows,), widened = table
            output = node.output[0]
            node.input[0], node.output[0] = rows.name, output + "_narrow"
            nodes += [node, *widened(node.output[0], output)]
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    before = [node for name, (parts, widened) in new.items() if name in used for node in widened(parts[0].name, name)]
    stored = [other for one in graph.initializer for other in (new[one.name][0] if one.name in new else [one])]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(before + nodes)
    graph.initializer.extend(stored)


def _save(model: onnx.ModelProto, path: Path) -> None:
    data = path.with_name(path.name + DATA)
    data.unlink(missing_ok=True)  # onnx adds to what is there
    onnx.save(model, path, save_as_external_data=True, location=data.name, size_threshold=SMALL)
    data.chmod(path.stat().st_mode)  # onnx makes it readable to its owner alone


@contextmanager
def unheard() -> Iterator[None]:
    """Without what exporters and quantizers log for programmers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
