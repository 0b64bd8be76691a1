"""What a model file may compute, looked at before anything runs it: the operators that exporters write, and no more.

onnxruntime computes what it can when a session is made. A file of a kilobyte could have it loop for ever, or multiply
constants until the memory is full; so loops, branches, functions and whatever makes large tensors of small ones are
refused unread. The fields are those of onnx.proto3.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

from clip_factory.runtime.onnx_wire import fields, varints

OPERATORS = frozenset(
    {"Add", "AveragePool", "Cast", "Clip", "Concat", "Constant", "Conv", "DequantizeLinear", "Div", "Flatten", "Gemm"}
    | {"GlobalAveragePool", "HardSigmoid", "HardSwish", "Identity", "MatMul", "Max", "MaxPool", "Min", "Mul"}
    | {"QuantizeLinear", "ReduceMean", "Relu", "Reshape", "Sigmoid", "Slice", "Softmax", "Squeeze", "Sub", "Tanh"}
    | {"Transpose", "Unsqueeze"}
)
"""Of the domain of ONNX itself; none holds another graph, and none but `Concat` gives more than it is given."""
SAME_SIZE = frozenset(
    {"Cast", "Constant", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Transpose"}
    | {"Unsqueeze"}
)
"""What may be computed of constants alone, and is as large as they are."""
ELEMENTWISE = frozenset({"Add", "Div", "Mul", "Sub"})
"""What may be computed of constants too, as large as their shapes make it (broadcasting, ONNX operators, section 3)."""
MAX_FOLDED = 100_000_000
"""Numbers that constants computed of constants may have, all together."""
MAX_NODES = 10_000
MAX_CONCATENATED = 64
"""Inputs of all `Concat` together."""

_GRAPH, _FUNCTIONS, _TRAINING = 7, 25, 20  # fields of a model
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15  # of a graph
_INPUT, _OUTPUT, _OPERATOR, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7  # of a node
_SUBGRAPHS = (6, 11)  # of an attribute
_DIMS, _TENSOR_NAME = 1, 8  # of a tensor

Shape = tuple[int, ...]


def check_operators(model: bytes) -> None:
    """Refuse a model that computes what no exporter of the factory writes.

    Args:
        model: The bytes of a serialized ModelProto.

    Raises:
        ValueError: It does, or the bytes are no protobuf message; the message says which operator.
    """
    for field, value in fields(memoryview(model)):
        if field in (_FUNCTIONS, _TRAINING):
            raise ValueError("it holds functions of its own")
        if field == _GRAPH and isinstance(value, memoryview):
            _check_graph(value)


def graph_hash(model: bytes) -> str:
    """Hex sha256 of a model's graph and weights, without its metadata.

    Raises:
        ValueError: The bytes are no protobuf message.
    """
    digest = hashlib.sha256()
    for field, value in fields(memoryview(model)):
        if field == _GRAPH and isinstance(value, memoryview):
            digest.update(value)
    return digest.hexdigest()


def _check_graph(graph: memoryview) -> None:
    parts = list(fields(graph))
    nodes = [value for field, value in parts if field == _NODE and isinstance(value, memoryview)]
    if len(nodes) > MAX_NODES:
        raise ValueError(f"{len(nodes):,} operators")
    constants: dict[str, Shape] = {}
    for field, tensor in parts:
        if field in (_INITIALIZER, _SPARSE) and isinstance(tensor, memoryview):
            constants[_text(tensor, _TENSOR_NAME)] = _dimensions(tensor)
    concatenated = folded = 0
    for node in nodes:
        operator, inputs = _check_node(node), list(filter(None, _texts(node, _INPUT)))
        concatenated += len(inputs) if operator == "Concat" else 0
        if concatenated > MAX_CONCATENATED:
            raise ValueError("it concatenates more than a model does")
        if constants.keys() >= set(inputs):
            shape = _folded(operator, [constants[name] for name in inputs])
            folded += math.prod(shape)
            if folded > MAX_FOLDED:
                raise ValueError(f"it computes {folded:,} numbers of constants")
            constants.update(dict.fromkeys(_texts(node, _OUTPUT), shape))


def _folded(operator: str, shapes: list[Shape]) -> Shape:
    """The shape, or one of as many numbers, of what an operator gives for constants."""
    if operator in ELEMENTWISE and len(shapes) == 2:
        longest = max(map(len, shapes))
        padded = [(1,) * (longest - len(shape)) + shape for shape in shapes]
        return tuple(map(max, *padded))
    if operator not in SAME_SIZE:
        raise ValueError(f"it computes {operator} of constants")
    # a reshape may put the numbers anywhere: as one axis of its own, they broadcast with all others
    reshaped = operator in ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze")
    return (math.prod(shapes[0]), *(1,) * 8) if shapes and reshaped else shapes[0] if shapes else ()


def _dimensions(tensor: memoryview) -> Shape:
    """The dimensions of a tensor: int64, packed or one by one."""
    dimensions: list[int] = []
    for field, value in fields(tensor):
        if field == _DIMS:
            dimensions += [value] if isinstance(value, int) else varints(value)
    return tuple(dimensions)


def _check_node(node: memoryview) -> str:
    operator, domain = _text(node, _OPERATOR), _text(node, _DOMAIN)
    if domain not in ("", "ai.onnx") or operator not in OPERATORS:
        raise ValueError(f"it computes {operator[:40]!a}{f' of {domain[:40]!a}' if domain else ''}")
    attributes = [value for field, value in fields(node) if field == _ATTRIBUTE and isinstance(value, memoryview)]
    if any(field in _SUBGRAPHS for attribute in attributes for field, _ in fields(attribute)):
        raise ValueError("it holds a graph within a graph")
    return operator


def _texts(message: memoryview, field: int) -> Iterator[str]:
    for number, value in fields(message):
        if number == field and isinstance(value, memoryview):
            yield bytes(value).decode("utf-8", "replace")


def _text(message: memoryview, field: int) -> str:
    return next(_texts(message, field), "")
