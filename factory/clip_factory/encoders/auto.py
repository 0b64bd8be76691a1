"""Which encoder `auto` means on this machine."""

from __future__ import annotations

from clip_factory.scenario import Teacher

RECOMMENDED = Teacher(model="ViT-B-32-256", pretrained="datacomp_s34b_b86k")
"""What `auto` uses when its weights are available: the best zero-shot accuracy of open_clip's models of this speed."""


def resolve(teacher: Teacher) -> tuple[Teacher, str | None]:
    """Turn `auto` into an encoder by name, so that a run can be repeated.

    Returns:
        The teacher to use, and a warning for the user if it is not the recommended one.
    """
    if teacher.model != "auto":
        return teacher, None
    from clip_factory.encoders.open_clip import weights_available  # pulls torch

    if weights_available(RECOMMENDED):
        return RECOMMENDED.model_copy(update={"batch_size": teacher.batch_size}), None
    warning = (
        f"the recommended teacher {RECOMMENDED.name} is neither cached nor reachable: "
        "labeling with the built-in `offline` teacher, which knows fewer things"
    )
    return teacher.model_copy(update={"model": "offline"}), warning
