"""Metadata of a model file, changed in place: the graph and its weights stay the same bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from clip_factory.errors import ExportError
from clip_factory.runtime.atomic import write_bytes


def read(path: Path) -> dict[str, str]:
    """The metadata of a model file.

    Raises:
        ExportError: It is no ONNX file.
    """
    return {entry.key: entry.value for entry in _load(path).metadata_props}


def update(path: Path, entries: Mapping[str, str], *, drop: Collection[str] = ()) -> None:
    """Set entries of a model file's metadata, drop others, and keep the rest; written under a temporary name.

    Entries keep their places, so that the same entries always make the same bytes.

    Raises:
        ExportError: It is no ONNX file.
    """
    proto = _load(path)
    metadata = {entry.key: entry.value for entry in proto.metadata_props} | dict(entries)
    del proto.metadata_props[:]
    proto.metadata_props.extend(
        onnx.StringStringEntryProto(key=key, value=value) for key, value in metadata.items() if key not in drop
    )
    write_bytes(path, proto.SerializeToString())


def _load(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except DecodeError:
        hint = f"delete it, and export again: factory export {path.parent}"
        raise ExportError(f"{path}: damaged, or no ONNX file", hint=hint) from None
