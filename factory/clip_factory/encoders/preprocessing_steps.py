"""The preprocessing of an open_clip or timm model, as steps that run without torch."""

from __future__ import annotations

from typing import Any

from clip_factory.errors import TeacherError
from clip_factory.runtime.image_steps import CENTER_CROP, RESIZE, RESIZE_SHORTER

TO_TENSOR = ("MaybeConvertMode", "MaybeToTensor", "ToTensor", "_convert_to_rgb", "function")
"""Steps that only change how pixels are kept: images come as RGB here, and the exported network scales them."""


def preprocessing_steps(preprocess: Any) -> tuple[list[dict[str, Any]], tuple[list[float], list[float]]]:
    """What a torchvision transform does to an RGB image.

    Args:
        preprocess: A `Compose` that resizes, crops to the center, scales to [0, 1] and normalizes.

    Returns:
        The steps on pixels, see `clip_factory.runtime.image_steps`; mean and standard deviation of each channel, for
        values in [0, 1].

    Raises:
        TeacherError: It has a step that is not known.
    """
    steps: list[dict[str, Any]] = []
    mean, std = [0.0] * 3, [1.0] * 3
    for transform in getattr(preprocess, "transforms", [preprocess]):
        kind = type(transform).__name__
        if kind == "Resize" and getattr(transform, "max_size", None) is None:
            steps.append(_resize(transform))
        elif kind == "CenterCrop":
            height, width = transform.size
            steps.append({CENTER_CROP: [int(width), int(height)]})
        elif kind == "Normalize":
            mean, std = [float(one) for one in transform.mean], [float(one) for one in transform.std]
        elif kind not in TO_TENSOR:
            hint = "only resizing, cropping to the center and normalizing can be exported"
            raise TeacherError(f"preprocessing step {kind} cannot be exported", hint=hint)
    return steps, (mean, std)


def _resize(transform: Any) -> dict[str, Any]:
    size = [transform.size] if isinstance(transform.size, int) else [int(one) for one in transform.size]
    name = str(transform.interpolation.value)
    if len(size) == 1:
        return {RESIZE_SHORTER: size[0], "filter": name}
    return {RESIZE: [size[1], size[0]], "filter": name}
