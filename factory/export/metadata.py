"""Words in a model file, changed in place: the graph and its weights stay the same bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import onnx

from factory.artifacts import atomic


def read(path: Path) -> dict[str, str]:
    """The metadata of a model file."""
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


def rewrite(path: Path, words: Mapping[str, str], *, drop: Collection[str] = ()) -> None:
    """Set entries of a model file's metadata, drop others, and keep the rest; written under a temporary name."""
    proto = onnx.load(path, load_external_data=False)
    kept = [entry for entry in proto.metadata_props if entry.key not in {*words, *drop}]
    fresh = [onnx.StringStringEntryProto(key=key, value=value) for key, value in words.items()]
    del proto.metadata_props[:]
    proto.metadata_props.extend([*kept, *fresh])
    with atomic(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())
