"""Which encoder `auto` means on this machine; docs/encoders.md has the reasons."""

from __future__ import annotations

from typing import Literal, NamedTuple

from clip_factory.progress import warn
from clip_factory.scenario import Teacher

Device = Literal["cpu", "cuda"]


class Choice(NamedTuple):
    """The best published zero-shot accuracy among weights free for commercial use, within two limits."""

    teacher: Teacher
    max_gflops: float
    """Of the image tower for one image."""
    max_parameters_m: float
    """Of both towers, in millions: what is downloaded before the first label, and held in memory."""


CHOICES: dict[Device, Choice] = {
    "cpu": Choice(Teacher(model="ViT-B-32-256", pretrained="datacomp_s34b_b86k"), 15, 200),
    "cuda": Choice(Teacher(model="PE-Core-L-14-336", pretrained="meta"), 400, 1000),
}
"""What `auto` uses where its weights are available."""
RECOMMENDED = CHOICES["cpu"].teacher
"""What `auto` uses on any machine, where there is no GPU or the GPU's choice cannot be had."""
GPU_BYTES = 7_000_000_000
"""Least memory of a GPU for its choice: cards sold with 8 GB have it, and its weights alone take 2.7 GB."""


def recommended() -> Teacher:
    """The encoder that suits this machine, whether or not its weights are available. Pulls torch."""
    return CHOICES[recommended_device()].teacher


def resolve(teacher: Teacher) -> tuple[Teacher, str | None]:
    """Turn `auto` into an encoder by name, so that a run can be repeated.

    Returns:
        The teacher to use, and a warning for the user if it is not the recommended one.
    """
    if teacher.model != "auto":
        return teacher, None
    from clip_factory.encoders.open_clip import weights_available  # pulls torch

    best = recommended()
    for candidate in dict.fromkeys((best, RECOMMENDED)):
        if weights_available(candidate):
            chosen = candidate.model_copy(update={"batch_size": teacher.batch_size})
            return chosen, None if candidate == best else f"{_missing(best)}: labeling with {candidate.name}"
    warning = f"{_missing(best)}: labeling with the built-in `offline` teacher, which knows fewer things"
    return teacher.model_copy(update={"model": "offline"}), warning


def resolve_with_warning(teacher: Teacher) -> Teacher:
    """As `resolve`, with the warning printed."""
    chosen, warning = resolve(teacher)
    if warning:
        warn(warning)
    return chosen


def _missing(teacher: Teacher) -> str:
    return f"the recommended teacher {teacher.name} is neither cached nor reachable"


def recommended_device() -> Device:
    """`cuda` where the encoders will use a GPU and it has memory enough, else `cpu`."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return "cuda" if torch.cuda.get_device_properties(0).total_memory >= GPU_BYTES else "cpu"
