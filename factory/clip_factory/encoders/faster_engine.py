"""What embeds photos faster on this CPU, torch or onnxruntime: tried once for each encoder, and remembered."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from clip_factory.encoders.auto import recommended_device
from clip_factory.encoders.weights import weights_state
from clip_factory.errors import FactoryError
from clip_factory.progress import console
from clip_factory.runtime.atomic import write_json
from clip_factory.runtime.preprocessing import RULES
from clip_factory.runtime.releases.cache import default_folder
from clip_factory.scenario import Teacher

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from clip_factory.encoders.encoder import Encoder

MIN_PHOTOS = 2000
"""Photos from which the export, half a minute once, is earned back at once."""
MIN_SPEEDUP = 1.1
TIMED, ROUNDS = 16, 3
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript", "open_clip_torch")
"""Whose versions may change what is exported, and how fast it is."""
ENGINE, EXPORTED = "engine.json", "fp32"


def with_faster_engine(teacher: Teacher, count: Callable[[], int]) -> Teacher:
    """The same teacher, with the engine that is faster here.

    Args:
        teacher: Named, not `auto`.
        count: Tells how many photos there are to embed: with few, nothing is tried that was not tried before. It is
            asked only where that matters, since a folder may have to be walked through for it.
    """
    if recommended_device() != "cpu":
        return teacher
    folder = _folder(teacher)
    if not (folder / ENGINE).is_file():
        if count() < MIN_PHOTOS:
            return teacher
        _try(teacher, folder)
    engine = json.loads((folder / ENGINE).read_bytes()).get("engine")
    return teacher.model_copy(update={"engine": engine if engine == "onnx" else "torch"})


def load_exported(teacher: Teacher) -> Encoder:
    """The teacher in onnxruntime, exported now where it was not before.

    Raises:
        TeacherError: It cannot be loaded, or not be exported.
    """
    from clip_factory.errors import ModelError
    from clip_factory.runtime.onnx_encoder import OnnxEncoder

    target = _folder(teacher) / EXPORTED
    try:
        return OnnxEncoder.load(target)
    except ModelError:  # not there, or damaged: a cache
        shutil.rmtree(target, ignore_errors=True)
        _export(teacher, target)
        return OnnxEncoder.load(target)


def _folder(teacher: Teacher) -> Path:
    """Where the cache keeps what it knows of an encoder with these weights and these packages."""
    versions = [f"{name} {_version(name)}" for name in PACKAGES]
    state = "\0".join([weights_state(teacher), f"rules {RULES}", *versions])
    return default_folder() / "encoders" / hashlib.sha256(state.encode()).hexdigest()[:24]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _export(teacher: Teacher, target: Path) -> Encoder:
    from clip_factory.encoders.encoder import load_encoder
    from clip_factory.encoders.onnx_export import export_encoder

    console.print(f"exporting the encoder {teacher.name} to ONNX, once", markup=False)
    encoder = load_encoder(teacher.model_copy(update={"engine": "torch"}))
    target.parent.mkdir(parents=True, exist_ok=True)
    export_encoder(encoder, target)  # which refuses one that is not open_clip's
    return encoder


def _try(teacher: Teacher, folder: Path) -> None:
    """Export an encoder, time both, and remember which is faster; what cannot be exported stays with torch."""
    from clip_factory.encoders.onnx_export import pictures
    from clip_factory.runtime.onnx_encoder import OnnxEncoder

    outcome: dict[str, object] = {"engine": "torch", "encoder": teacher.name}
    target = folder / EXPORTED
    shutil.rmtree(target, ignore_errors=True)
    try:
        torch_encoder = _export(teacher, target)
        exported = OnnxEncoder.load(target)
        images = pictures(exported.image_size, TIMED)
        speedup = _speedup(torch_encoder, exported, images)
        outcome.update(engine="onnx" if speedup >= MIN_SPEEDUP else "torch", speedup=round(speedup, 2))
    except (FactoryError, ImportError, OSError) as error:
        outcome["reason"] = str(error).splitlines()[0]
    if outcome["engine"] == "torch":
        shutil.rmtree(target, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / ENGINE, outcome)


class _Embeds(Protocol):
    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray: ...


def _speedup(slower: _Embeds, faster: _Embeds, images: Sequence[Image.Image]) -> float:
    """How many times as fast the second is, preprocessing included: the best of a few rounds of each."""
    best = [float("inf"), float("inf")]
    for _ in range(ROUNDS + 1):  # the first of them warms up, and is never the best
        for place, one in enumerate((slower, faster)):
            start = time.perf_counter()
            one.embed_images(images)
            best[place] = min(best[place], time.perf_counter() - start)
    return best[0] / best[1]
