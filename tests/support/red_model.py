"""A model file small enough to reckon by hand: is the picture red?"""

from __future__ import annotations

import json
from pathlib import Path

import onnx
from onnx import TensorProto, helper

SIZE = 16
# The probability of yes is the logistic function of the mean red, green and blue in [0, 1], weighted.
WEIGHTS, BIAS = (8.0, -4.0, -2.0), -1.0

METADATA = {
    "format": "clip-factory/1",
    "name": "red",
    "question": "Is it red?",
    "classes": '["no", "yes"]',
    "threshold": "0.5",
    "image_size": str(SIZE),
    "preprocessing": json.dumps(
        {
            "decode": "RGB",
            "resize": "squash",
            "size": SIZE,
            "interpolation": "bilinear, antialiased",
            "layout": "NHWC",
            "dtype": "uint8",
            "channels": "RGB",
        }
    ),
}


def graph(**changes) -> onnx.ModelProto:
    """The model of these tests: cast, scale, mean over the square, one linear unit, sigmoid."""
    said = {
        "input": ("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3]),
        "output": ("probability", TensorProto.FLOAT, ["N"]),
        "squash": "Sigmoid",
    } | changes
    nodes = [
        helper.make_node("Cast", [said["input"][0]], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["weighted"]),
        helper.make_node("Add", ["weighted", "bias"], ["logit"]),
        helper.make_node(said["squash"], ["logit"], [said["output"][0]]),
    ]
    weights = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [1 / 255]),
        helper.make_tensor("weights", TensorProto.FLOAT, [3], WEIGHTS),
        helper.make_tensor("bias", TensorProto.FLOAT, [], [BIAS]),
    ]
    inputs, outputs = ([helper.make_tensor_value_info(*said[side])] for side in ("input", "output"))
    opset = helper.make_opsetid("", 17)
    return helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, outputs, weights), ir_version=8, opset_imports=[opset]
    )


def save(path: Path, proto: onnx.ModelProto | None = None, **changes: str | None) -> Path:
    """Write a model with `METADATA`; a change to None takes the key away."""
    proto = proto or graph()
    helper.set_model_props(proto, {k: v for k, v in {**METADATA, **changes}.items() if v is not None})
    path.write_bytes(proto.SerializeToString())
    return path


def outside(tensor: onnx.TensorProto) -> None:
    """Point a tensor at a file outside the model: what the runtime must refuse."""
    for name in ("float_data", "raw_data"):
        tensor.ClearField(name)
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret.bin"
