"""What is installed, which devices there are, which weights are at hand."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from clip_factory import __version__
from clip_factory.runtime.processors import usable_cpus

INSTALL = "pip install 'clip-factory[train]'"
BASE = ("numpy", "onnxruntime", "pillow", "rich", "typer")
TRAIN = ("torch", "torchvision", "lightning", "open_clip_torch", "timm", "onnx", "pyarrow", "pydantic", "scikit-learn")


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: what, how it is, what would mend it."""

    what: str
    state: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Check packages, devices, teachers, backbones and the store, in this order."""
    yield Finding("clip-factory", f"{__version__} on Python {platform.python_version()}, {platform.system()}")
    for names, remedy in ((BASE, "pip install clip-factory"), (TRAIN, INSTALL)):
        for name in names:
            version = _version(name)
            yield Finding(name, version or "missing", "" if version else remedy)
    if all(map(_version, TRAIN)):
        yield from _devices()
        yield from _teachers()
        yield from _backbones()
        yield from _store()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding(
        "processor", f"{usable_cpus()} of {os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"
    )
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield Finding("GPU", torch.cuda.get_device_name(index))
    else:
        yield Finding("GPU", "none that torch can use", "not needed; labeling is faster with one")


def _teachers() -> Iterator[Finding]:
    from clip_factory import encoders
    from clip_factory.encoders import offline
    from clip_factory.errors import TeacherError
    from clip_factory.scenario import Teacher

    chosen, warning = encoders.resolve(Teacher())
    best = encoders.recommended()
    state = "cached, or the hub answers" if warning is None else "neither cached nor reachable"
    remedy = "" if warning is None else "connect once, or keep to --teacher offline"
    yield Finding(f"teacher {best.model}/{best.pretrained}", state, remedy)
    try:
        offline.build_offline()
        yield Finding("teacher offline", "weights are here, and their hashes are right")
    except TeacherError as error:
        yield Finding("teacher offline", error.what, error.hint)
    yield Finding("teacher auto", f"means {chosen.model} here")


def _backbones() -> Iterator[Finding]:
    from clip_factory.students.backbones import BACKBONES

    for backbone in BACKBONES.values():
        yield Finding(f"backbone {backbone.name}", f"{backbone.parameters:,} parameters, {backbone.license}")


def _store() -> Iterator[Finding]:
    from clip_factory.run_request import default_store

    root = default_store()
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    yield Finding("store", f"{root}: {size / 1e6:,.1f} MB", "set FACTORY_STORE to move it")
