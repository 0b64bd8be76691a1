"""Models that loop, fold constants into gigabytes, or hold graphs within graphs are refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from clip_factory.runtime import Model, ModelError, model_file
from clip_factory.runtime.onnx_operators import MAX_CONCATENATED, OPERATORS, check_operators, graph_hash
from support.red_model import graph, save


def refusal(proto: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said, without a session ever being made."""
    path = tmp_path / "bad.onnx"
    save(path)
    metadata = onnx.load(path).metadata_props
    del proto.metadata_props[:]
    proto.metadata_props.extend(metadata)
    path.write_bytes(proto.SerializeToString())
    monkeypatch.setattr(model_file.ort, "InferenceSession", lambda *_, **__: pytest.fail("a session was made"))
    with pytest.raises(ModelError) as told:
        Model.load(path)
    return str(told.value)


def constant(name: str, value: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(value, name)


def test_every_operator_of_a_good_model_is_known() -> None:
    check_operators(graph().SerializeToString())


@pytest.mark.parametrize(
    "kind", ["Loop", "If", "Scan", "Expand", "Tile", "ConstantOfShape", "Range", "Resize", "NonZero", "EyeLike"]
)
def test_other_operators_are_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kind not in OPERATORS
    proto = graph()
    proto.graph.node.append(helper.make_node(kind, ["pixels"], ["z"]))
    assert f"it computes {kind!r}" in refusal(proto, tmp_path, monkeypatch)


def test_operators_of_other_domains_and_functions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = graph()
    proto.graph.node.append(helper.make_node("Add", ["pixels", "pixels"], ["z"], domain="com.microsoft"))
    assert "it computes 'Add' of 'com.microsoft'" in refusal(proto, tmp_path, monkeypatch)
    proto = graph()
    node = helper.make_node("Identity", ["x"], ["y"])
    proto.functions.append(helper.make_function("local", "f", ["x"], ["y"], [node], [helper.make_opsetid("", 17)]))
    assert "it holds functions of its own" in refusal(proto, tmp_path, monkeypatch)


def test_a_graph_within_a_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = graph()
    inner = helper.make_graph([], "inner", [], [])
    proto.graph.node.append(helper.make_node("Add", ["pixels", "pixels"], ["z"], body=inner))
    assert "it holds a graph within a graph" in refusal(proto, tmp_path, monkeypatch)


def test_constants_are_not_multiplied_into_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = graph()
    proto.graph.initializer.extend(
        [constant("row", np.ones((1, 100_000), np.float32)), constant("column", np.ones((100_000, 1), np.float32))]
    )
    proto.graph.node.insert(0, helper.make_node("Identity", ["row"], ["same"]))
    proto.graph.node.insert(1, helper.make_node("Mul", ["same", "column"], ["huge"]))
    assert "it computes 10,000,100,000 numbers of constants" in refusal(proto, tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", ["Conv", "MatMul", "Concat", "Max"])
def test_other_things_are_not_computed_of_constants(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = graph()
    proto.graph.node.append(helper.make_node(kind, ["scale", "scale"], ["z"]))
    assert f"it computes {kind} of constants" in refusal(proto, tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", ["Reshape", "Transpose", "Unsqueeze"])
def test_no_change_of_shape_hides_how_large_a_product_is(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = graph()
    proto.graph.initializer.append(constant("row", np.ones((1, 100_000), np.float32)))
    proto.graph.node.append(helper.make_node(kind, ["row"], ["column"]))
    proto.graph.node.append(helper.make_node("Mul", ["row", "column"], ["huge"]))
    assert "numbers of constants" in refusal(proto, tmp_path, monkeypatch)


def test_scaled_weights_are_no_bomb() -> None:
    proto = graph()
    proto.graph.initializer.extend(
        [constant("w", np.ones((96, 576, 3, 3), np.float32)), constant("s", np.ones((96, 1, 1, 1), np.float32))]
    )
    proto.graph.node.append(helper.make_node("Mul", ["w", "s"], ["scaled_weights"]))
    check_operators(proto.SerializeToString())


def test_concatenation_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = graph()
    proto.graph.node.append(helper.make_node("Concat", ["pixels"] * (MAX_CONCATENATED + 1), ["z"], axis=0))
    assert "it concatenates more than a model does" in refusal(proto, tmp_path, monkeypatch)


def test_operators_without_number_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_factory.runtime.onnx_operators.MAX_NODES", 5)
    proto = graph()
    proto.graph.node.extend(helper.make_node("Identity", ["pixels"], [f"z{i}"]) for i in range(6))
    assert "operators" in refusal(proto, tmp_path, monkeypatch)


# --- what a lone file says of itself


def test_a_file_proves_its_own_weights(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx")
    proto = onnx.load(path)
    digest = graph_hash(path.read_bytes())
    onnx.helper.set_model_props(
        proto, {entry.key: entry.value for entry in proto.metadata_props} | {"graph_sha256": digest}
    )
    path.write_bytes(proto.SerializeToString())
    Model.load(path)
    assert graph_hash(path.read_bytes()) == digest, "metadata is no part of it"
    proto.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(
            numpy_helper.to_array(proto.graph.initializer[0]) + 1e-3, proto.graph.initializer[0].name
        )
    )
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="its weights are not those that were exported"):
        Model.load(path)


def test_test_vectors_have_a_limit(tmp_path: Path) -> None:
    vector = {"thumb": "A" * 256, "probability": 0.5}
    path = save(tmp_path / "a.onnx", test_vectors=json.dumps([vector] * 65))
    with pytest.raises(ModelError, match="`test_vectors` has 65 entries, over the limit of 64"):
        Model.load(path).verify()


def test_other_types_of_constants_are_looked_at_too() -> None:
    proto = graph()
    sparse = proto.graph.sparse_initializer.add()
    sparse.values.CopyFrom(helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0]))
    check_operators(proto.SerializeToString())
