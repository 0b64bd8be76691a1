"""What a model file must say and look like before this runtime trusts it: metadata, graph and test vectors."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clip_factory.runtime.region import Region
from clip_factory.runtime.runtime_errors import ModelError

FORMAT = "clip-factory/1"
CLASSES = ["no", "yes"]
REQUIRED = ("name", "question", "classes", "threshold", "image_size", "preprocessing")
PREPROCESSING = {
    "resize": "squash",
    "interpolation": "bilinear, antialiased",
    "layout": "NHWC",
    "dtype": "uint8",
    "channels": "RGB",
}
"""What this runtime does with pixels, `to_square`; a file that asks for anything else is refused."""
REGION_RESIZE = "region, squash"
"""The `resize` of a model that sees a region alone. Runtimes that know no regions refuse such a file: they would answer
about the whole photo."""
LICENSE_0_1_0 = "licence"
"""The key for which version 0.1.0 wrote the British spelling."""
GRAPH_HASH = "graph_sha256"
"""Key of the hash of graph and weights; files of earlier versions have none."""
MAX_IMAGE_SIZE = 4096
MAX_TEST_VECTORS = 64
THUMB = 8
"""Side in pixels of the thumbnails that test vectors are made from."""


def with_current_keys(metadata: Mapping[str, str]) -> dict[str, str]:
    """A copy of the metadata in which what version 0.1.0 called `licence` is found as `license`, also of the teacher.

    What is there by today's name is never replaced, and a `teacher` that is no JSON object stays as it is.
    """
    current = dict(metadata)
    if LICENSE_0_1_0 in current:
        current.setdefault("license", current[LICENSE_0_1_0])
    try:
        teacher = json.loads(current.get("teacher", "null"))
    except (ValueError, RecursionError):
        return current
    if isinstance(teacher, dict) and LICENSE_0_1_0 in teacher and "license" not in teacher:
        current["teacher"] = json.dumps(teacher | {"license": teacher[LICENSE_0_1_0]})
    return current


def check_metadata(metadata: Mapping[str, str]) -> tuple[float, int]:
    """Check the metadata and return its threshold in [0, 1] and image size in pixels.

    Raises:
        ModelError: A key is missing, or says something that this runtime does not do.
    """
    if metadata.get("format") != FORMAT:
        actual = repr(metadata["format"]) if "format" in metadata else "missing"
        raise ModelError(f"not a model of this factory: `format` is {actual}, expected {FORMAT!r}")
    if missing := [key for key in REQUIRED if key not in metadata]:
        raise ModelError(f"metadata without {', '.join(missing)}")
    if (classes := _json(metadata, "classes")) != CLASSES:
        raise ModelError(f"`classes` is {classes!r}, expected {CLASSES!r}")
    threshold, size = _number(metadata, "threshold", float), _number(metadata, "image_size", int)
    if not 0 <= threshold <= 1:
        raise ModelError(f"`threshold` is {threshold}, expected a number in [0, 1]")
    if not 1 <= size <= MAX_IMAGE_SIZE:
        raise ModelError(f"`image_size` is {size}, expected 1 to {MAX_IMAGE_SIZE} pixels")
    _check_preprocessing(_json(metadata, "preprocessing"), size)
    return threshold, size


def read_region(metadata: Mapping[str, str]) -> Region | None:
    """The part of each photo that the model sees, of metadata that `check_metadata` has passed; None: the whole.

    Raises:
        ModelError: It cannot be read.
    """
    preprocessing = _json(metadata, "preprocessing")
    if preprocessing["resize"] != REGION_RESIZE:
        return None
    try:
        return Region.parse(preprocessing.get("region"))
    except (ValueError, OverflowError) as error:
        raise ModelError(f"`preprocessing` has no region that can be read ({error})") from None


def check_graph(inputs: Sequence[Any], outputs: Sequence[Any], size: int) -> None:
    """Check inputs and outputs of the graph, as onnxruntime describes them.

    Raises:
        ModelError: They are not `image` uint8 (N, size, size, 3) and `probability` float32 (N,), N free.
    """
    _check_one("input", inputs, "image", "tensor(uint8)", [size, size, 3])
    _check_one("output", outputs, "probability", "tensor(float)", [])


def read_test_vectors(metadata: Mapping[str, str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """The test vectors stored in a model.

    Each input is a stored thumbnail, uint8 (8, 8, 3), every pixel repeated ceil(size / 8) times on both axes and the
    result cut to the model's size: flat squares that look the same however an image library resizes.

    Returns:
        uint8 `(N, size, size, 3)` and the float32 `(N,)` probabilities that the model gave when it was exported.

    Raises:
        ModelError: There are none, or they cannot be read.
    """
    if "test_vectors" not in metadata:
        raise ModelError("metadata without test_vectors: nothing to verify against")
    try:
        vectors = _json(metadata, "test_vectors")
        if len(vectors) > MAX_TEST_VECTORS:
            raise ModelError(f"`test_vectors` has {len(vectors):,} entries, over the limit of {MAX_TEST_VECTORS}")
        thumbs = [base64.b64decode(vector["thumb"], validate=True) for vector in vectors]
        small = np.frombuffer(b"".join(thumbs), np.uint8).reshape(len(thumbs), THUMB, THUMB, 3)
        expected = np.array([float(vector["probability"]) for vector in vectors], np.float32)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ModelError(f"`test_vectors` cannot be read ({error!r})") from None
    if not len(expected):
        raise ModelError("`test_vectors` is empty: nothing to verify against")
    times = -(-size // THUMB)
    return small.repeat(times, axis=1).repeat(times, axis=2)[:, :size, :size], expected


def _check_preprocessing(actual: Any, size: int) -> None:
    known = {**PREPROCESSING, "size": size}
    if isinstance(actual, dict) and (actual.get("resize") == REGION_RESIZE or "region" in actual):
        known["resize"] = REGION_RESIZE
    for key, expected in known.items():
        value = actual.get(key) if isinstance(actual, dict) else None
        if value != expected:
            raise ModelError(
                f"`preprocessing` has {key} {value!r}, expected {expected!r}", hint="a newer factory may read it"
            )


def _check_one(what: str, actual: Sequence[Any], name: str, kind: str, rest: list[int]) -> None:
    listed = ", ".join(f"{tensor.name} {tensor.type} {tensor.shape}" for tensor in actual)
    free_batch = len(actual) == 1 and len(actual[0].shape) > 0 and not isinstance(actual[0].shape[0], int)
    if not free_batch or (actual[0].name, actual[0].type, list(actual[0].shape[1:])) != (name, kind, rest):
        raise ModelError(f"the graph's {what} is {listed or 'missing'}, expected {name} {kind} {['N', *rest]}")


def _json(metadata: Mapping[str, str], key: str) -> Any:
    try:
        return json.loads(metadata[key])
    except (ValueError, RecursionError):
        raise ModelError(f"`{key}` is not JSON: {metadata[key][:80]!r}") from None


def _number(metadata: Mapping[str, str], key: str, kind: type[float] | type[int]) -> Any:
    try:
        return kind(metadata[key])
    except ValueError:
        raise ModelError(f"`{key}` is {metadata[key]!r}, expected a number") from None
