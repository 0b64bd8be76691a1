"""Reads ONNX files just deep enough to see whether they point at other files, without the onnx package.

A tensor of an ONNX model may live in a file that the model names ("external data"), which lets a model from afar read
any file of this machine. The messages and field numbers are those of onnx.proto3; the encoding is
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator

Message = str

_INSIDE: dict[Message, dict[int, Message]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Message -> field -> message in it, for every way from a model to a tensor."""

_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def has_external_data(model: bytes) -> bool:
    """Whether any tensor of an ONNX model lives outside the file.

    Args:
        model: The bytes of a serialized ModelProto.

    Raises:
        ValueError: The bytes are no protobuf message.
    """
    waiting: list[tuple[Message, memoryview]] = [("model", memoryview(model))]
    while waiting:
        message, data = waiting.pop()
        for field, value in fields(data):
            if message == "tensor":
                if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0):
                    return True
            elif isinstance(value, memoryview) and field in _INSIDE[message]:
                waiting.append((_INSIDE[message][field], value))
    return False


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protobuf message, in order: number, and value or bytes.

    Raises:
        ValueError: The bytes are no message.
    """
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        if tag >> 32:  # other parsers drop these bits and read another field, so that a field could hide from this one
            raise ValueError(f"tag {tag} at byte {position}")
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield field, value
            continue
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {position}")
        if field == 0 or position + size > len(data):
            raise ValueError(f"field {field} of {size} bytes at byte {position} of {len(data)}")
        yield field, data[position : position + size]
        position += size


def varints(data: memoryview) -> list[int]:
    """The numbers of a packed field.

    Raises:
        ValueError: The last one is cut short.
    """
    numbers, position = [], 0
    while position < len(data):
        number, position = _varint(data, position)
        numbers.append(number)
    return numbers


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position == len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"number cut short at byte {position}")
