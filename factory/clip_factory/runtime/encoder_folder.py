"""An encoder as a folder of files that run without torch; written by `factory encoders export`.

encoder.json       what it is: name, license, preprocessing, tokenizer's settings, hashes of all files
image.onnx         uint8 pixels (N, H, W, 3) -> float32 vectors (N, D), L2-normalized; weights in image.onnx.data
text.onnx          int64 tokens (P, L) -> float32 vectors (P, D), L2-normalized; weights in text.onnx.data
tokenizer.json     in the format of Hugging Face's tokenizers
test_vectors.npz   pictures, texts, and what the network in torch makes of them
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from clip_factory.runtime.image_steps import Step, check_steps
from clip_factory.runtime.model_file import first_line, session_options
from clip_factory.runtime.preprocessing import RULES
from clip_factory.runtime.runtime_errors import ModelError

FORMAT = 1
"""Of encoder.json; higher by one whenever an older reader would get it wrong."""
ABOUT, IMAGE, TEXT, TOKENIZER, TEST_VECTORS = (
    "encoder.json",
    "image.onnx",
    "text.onnx",
    "tokenizer.json",
    "test_vectors.npz",
)
DATA = ".data"
"""Weights lie beside their graph, so that the system reads them from the disk as they are needed."""
FILES = (IMAGE, IMAGE + DATA, TEXT, TEXT + DATA, TOKENIZER, TEST_VECTORS)
PRECISIONS = ("fp32", "fp16", "int8")
HINT = "export the encoder again: factory encoders export ENCODER --out DIR"


@dataclass(frozen=True)
class EncoderFolder:
    """What encoder.json says, checked."""

    path: Path
    name: str
    license: str
    dim: int
    """D, the length of a vector."""
    logit_scale: float
    logit_bias: float
    precision: str
    steps: tuple[Step, ...]
    """What is done to a photo; see `image_steps`."""
    size: tuple[int, int]
    """Width and height in pixels of what the image tower sees."""
    text: Mapping[str, Any]
    """The tokenizer's settings; see `TextTokens`."""
    sha256: Mapping[str, str]
    """Hex, of each of the other files."""

    @property
    def key(self) -> str:
        """Names its vectors: changes with the files, and with the way in which photos are decoded."""
        described = json.dumps([self.steps, self.text, dict(self.sha256), RULES], sort_keys=True)
        return f"onnx-{self.precision}-{hashlib.sha256(described.encode()).hexdigest()[:24]}"

    def test_vectors(self) -> dict[str, np.ndarray]:
        """`pictures` uint8 `(N, H, W, 3)`, `texts` str `(P,)`, and torch's `image_vectors`, `text_vectors`."""
        with np.load(self.path / TEST_VECTORS, allow_pickle=False) as stored:
            return dict(stored)


def read_encoder_folder(path: str | os.PathLike[str]) -> EncoderFolder:
    """Read and check what `factory encoders export` wrote.

    Raises:
        ModelError: A file is missing or is not the one that was exported, or a newer version wrote it.
    """
    folder = Path(path)
    about = _about(folder)
    if about.get("format") != FORMAT:
        hint = "a newer version of the factory made it: pip install -U clip-factory"
        raise ModelError(f"{folder}: format {about.get('format')}, expected {FORMAT}", hint=hint)
    try:
        steps = about["preprocessing"]
        read = EncoderFolder(
            path=folder,
            name=str(about["name"]),
            license=str(about["license"]),
            dim=int(about["dim"]),
            logit_scale=float(about["logit_scale"]),
            logit_bias=float(about["logit_bias"]),
            precision=str(about["precision"]),
            steps=tuple(steps),
            size=check_steps(steps),
            text=dict(about["text"]),
            sha256={name: str(dict(about["sha256"]).get(name)) for name in FILES},
        )
    except ModelError as error:
        raise ModelError(f"{folder / ABOUT}: {error.what}", hint=error.hint) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / ABOUT}: not what was exported ({error!r})", hint=HINT) from None
    finite = math.isfinite(read.logit_scale) and math.isfinite(read.logit_bias)
    if read.precision not in PRECISIONS or read.dim < 1 or not finite:
        raise ModelError(f"{folder / ABOUT}: not what was exported", hint=HINT)
    if about["sha256"].get(ABOUT) != about_sha256(about):
        raise ModelError(f"{folder / ABOUT}: not the file that was exported", hint=HINT)
    _check_files(read)
    return read


def open_tower(path: Path, threads: int, *, keep_memory: bool = True) -> ort.InferenceSession:
    """A session on a tower; its weights are read from the file beside it.

    Args:
        path: Of the graph.
        threads: For one run.
        keep_memory: Whether the memory of a run is kept for the next.

    Raises:
        ModelError: onnxruntime cannot run it.
    """
    options = session_options(threads)
    options.enable_cpu_mem_arena = keep_memory
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelError(f"{path}: onnxruntime {ort.__version__} cannot run it ({first_line(error)})") from None


def about_sha256(about: Mapping[str, Any]) -> str:
    """Hex sha256 of what encoder.json says, this hash left out: of the JSON with sorted keys."""
    hashes = {name: value for name, value in about["sha256"].items() if name != ABOUT}
    return hashlib.sha256(json.dumps({**about, "sha256": hashes}, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / ABOUT).read_bytes())
    except OSError:
        hint = "make one: factory encoders export ENCODER --out DIR"
        if folder.is_file():
            raise ModelError(f"{folder}: a file, and an exported encoder is a folder", hint=hint) from None
        raise ModelError(f"{folder}: no exported encoder: {ABOUT} is not in it", hint=hint) from None
    except ValueError as error:
        raise ModelError(f"{folder / ABOUT}: damaged ({error})", hint=HINT) from None
    if not isinstance(about, dict):
        raise ModelError(f"{folder / ABOUT}: not what was exported", hint=HINT)
    return about


def _check_files(read: EncoderFolder) -> None:
    for name in FILES:
        try:
            actual = file_sha256(read.path / name)
        except OSError:
            raise ModelError(f"{read.path / name}: missing", hint=HINT) from None
        if actual != read.sha256.get(name):
            raise ModelError(f"{read.path / name}: not the file that was exported", hint=HINT)
