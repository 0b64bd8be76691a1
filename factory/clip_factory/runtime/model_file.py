"""From a path to the bytes of a model file, and from bytes to a session of onnxruntime on them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from clip_factory.runtime.model_checks import GRAPH_HASH
from clip_factory.runtime.onnx_operators import check_operators, graph_hash
from clip_factory.runtime.onnx_wire import has_external_data
from clip_factory.runtime.runtime_errors import ModelError
from clip_factory.runtime.safe_text import plain

FATAL = 4
"""onnxruntime's log level: what matters is raised as an exception, and logging it too would be noise."""


def read_model(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a model file.

    Raises:
        ModelError: It cannot be read; a folder, or a name that one beside it is like, gets words of its own.
    """
    if os.path.isdir(path):
        inside = Path(path, "model.onnx")
        hint = f"its model: {inside}" if inside.is_file() else "the model comes first, then the photos"
        raise ModelError(f"{path}: a folder where a model file is meant", hint=hint)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be opened ({error.strerror})", hint=_hint_for_missing(Path(path))) from None


def _hint_for_missing(path: Path) -> str:
    from clip_factory.runtime.releases.release_reference import is_reference
    from clip_factory.runtime.suggestions import nearest_file

    if is_reference(os.fspath(path)):
        return "check the path; a release of a registry: --registry, or Model.load(..., registry=...)"
    beside = nearest_file(path, [".onnx"])
    return f"did you mean {beside}?" if beside else "check the path"


def open_session(data: bytes, threads: int) -> ort.InferenceSession:
    """A session on the bytes themselves, so that what was hashed is what runs."""
    try:
        external = has_external_data(data)
    except ValueError as error:
        raise ModelError(f"not an ONNX file ({error})") from None
    if external:
        raise ModelError("refers to data in another file", hint="a model of this factory is one file: export it again")
    try:
        check_operators(data)
    except ValueError as error:
        hint = "no exporter of the factory writes such a file: do not use it"
        raise ModelError(f"not a model of this factory: {error}", hint=hint) from None
    options = session_options(threads)
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelError(f"not a model that onnxruntime {ort.__version__} can run ({first_line(error)})") from None


def session_options(threads: int) -> ort.SessionOptions:
    """How networks are run: `threads` for one run, without logging, and never from a format that is not ONNX."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL
    options.add_session_config_entry("session.load_model_format", "ONNX")  # never its own format, unchecked above
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads would slow decoding
    return options


def read_metadata(session: ort.InferenceSession) -> dict[str, str]:
    """The metadata of a model file.

    Raises:
        ModelError: It is no text.
    """
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise ModelError(
            f"its metadata is no text ({error.reason})", hint="the file was altered: fetch it again"
        ) from None


def check_integrity(data: bytes, metadata: Mapping[str, str]) -> None:
    """Hold a file's graph and weights against the hash in its metadata, where it has one.

    Raises:
        ModelError: They differ.
    """
    stated = metadata.get(GRAPH_HASH)
    if stated is not None and stated != graph_hash(data):
        raise ModelError("its weights are not those that were exported", hint="the file was altered: fetch it again")


def first_line(error: Exception) -> str:
    """What onnxruntime says, which may quote the file."""
    return plain((str(error).splitlines() or [type(error).__name__])[0], 300)
