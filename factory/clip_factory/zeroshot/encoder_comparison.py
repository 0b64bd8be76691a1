"""Encoders side by side on one's own folder: how right, how fast, how large. Each is tried in a process of its own."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from clip_factory.encoders.encoder import load_encoder
from clip_factory.errors import FactoryError
from clip_factory.runtime.preprocessing import read_rgb
from clip_factory.scenario import Teacher
from clip_factory.statistics import Share
from clip_factory.zeroshot.accuracy import measure
from clip_factory.zeroshot.classes import of_folders, prompts_of
from clip_factory.zeroshot.classification import classify
from clip_factory.zeroshot.embedded_folder import class_folders, embed_folder

TIMED = 96
"""Photos that are embedded for the time, whether the store holds them or not."""


@dataclass(frozen=True)
class Trial:
    """One encoder on one folder."""

    name: str
    license: str = ""
    dim: int = 0
    photos_per_second: float = 0.0
    """Decoding and preprocessing included."""
    memory_mb: float | None = None
    """Largest resident memory of its process, in MB of 1,000,000 bytes; None where the system does not tell."""
    top1: Share | None = None
    """By the folders as truth, with the templates given; None where there are fewer than two."""
    error: str = ""
    """Why it could not be tried; empty where it could."""


def compare_encoders(images: Path, names: Sequence[str], store: Path, templates: Sequence[str]) -> list[Trial]:
    """Try encoders one after the other.

    Args:
        images: Folder of photos; its top folders, where there are two or more, are the truth.
        names: As `Teacher.parse` takes them.
        store: Folder of the embedding store.
        templates: For the names of the folders.
    """
    context = multiprocessing.get_context("spawn")  # a process that has forked torch's threads may hang
    trials = []
    for name in names:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            trials.append(pool.submit(_tried, images, name, store, tuple(templates)).result())
    return trials


def _tried(images: Path, name: str, store: Path, templates: tuple[str, ...]) -> Trial:
    try:
        return _trial(images, Teacher.parse(name), store, templates)
    except FactoryError as error:
        return Trial(name, error=error.what)


def _trial(images: Path, teacher: Teacher, store: Path, templates: tuple[str, ...]) -> Trial:
    encoder = load_encoder(teacher)
    folder = embed_folder(images, teacher, store, encoder)
    timed = folder.files[:TIMED]
    start = time.perf_counter()
    for first in range(0, len(timed), teacher.batch_size):
        batch = timed[first : first + teacher.batch_size]
        encoder.embed_images([read_rgb(path, min_side=encoder.image_size) for path in batch])
    seconds = time.perf_counter() - start
    folders = class_folders(folder)
    phrases = of_folders(folders.tolist())
    accuracy = None
    if len(phrases) > 1:
        accuracy = measure(classify(folder.vectors, prompts_of(phrases, templates), encoder, templates), folders).top1
    return Trial(
        name=teacher.name,
        license=encoder.license,
        dim=encoder.dim,
        photos_per_second=len(timed) / max(seconds, 1e-9),
        memory_mb=_peak_memory(),
        top1=accuracy,
    )


def _peak_memory() -> float | None:
    status = Path("/proc/self/status")  # Linux; there, getrusage counts what the parent had before this process began
    if status.is_file():
        kilobytes = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return round(int(kilobytes) * 1024 / 1e6, 1)
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)  # macOS: bytes
