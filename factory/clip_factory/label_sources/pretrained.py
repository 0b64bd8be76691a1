"""Parts of a checkpoint, loaded by transformers from its folder alone: none of its code is run, and no pickle read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import torch
from PIL import Image

from clip_factory.encoders.decode_ahead import decode_ahead
from clip_factory.errors import ScenarioError, TeacherError
from clip_factory.images.photo import Photo
from clip_factory.label_sources.checkpoint import Checkpoint
from clip_factory.memory import keep_to_quota

UNFIT = (AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError)
"""What processors and networks raise that are asked for what they cannot do, or lack a package."""
REFUSED = (*UNFIT, OSError, RuntimeError)
"""What transformers raises where a folder holds something else than it expects."""

PHOTOS_AT_ONCE = 4
"""In a forward pass on a GPU; on a CPU it is one, since more would take memory and as much time."""


def load_part(checkpoint: Checkpoint, kind: Any, **options: Any) -> Any:
    """What `kind.from_pretrained` makes of a checkpoint.

    Args:
        checkpoint: What to load from.
        kind: A class of transformers, such as AutoProcessor.
        options: Of its `from_pretrained`.

    Raises:
        TeacherError: The folder does not hold that.
    """
    try:
        return kind.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False, **options)
    except REFUSED as error:
        raise TeacherError(
            f"model {checkpoint.name}: transformers cannot load it ({reason(error)})",
            hint="its folder must hold configuration, processor and weights of such a model, as save_pretrained "
            "writes them",
        ) from error


def load_network(checkpoint: Checkpoint, kind: Any, max_float32: int | None = None) -> Any:
    """A network with all its weights from the checkpoint, on the GPU where there is one.

    Args:
        checkpoint: What to load from.
        kind: A class of transformers.
        max_float32: A network with more weights than this is kept in bfloat16 on a GPU; any other in float32.

    Raises:
        TeacherError: The checkpoint is of another kind, or lacks weights.
    """
    keep_to_quota()
    network, state = load_part(checkpoint, kind, use_safetensors=True, output_loading_info=True)
    if missing := sorted(state["missing_keys"]):
        raise TeacherError(
            f"model {checkpoint.name}: lacks {len(missing)} of its weights (first: {missing[0]})",
            hint="name the checkpoint that was trained for this, and not what it was made from",
        )
    if max_float32 is None:
        return network.eval().to(device())
    large = device() == "cuda" and sum(weights.numel() for weights in network.parameters()) > max_float32
    return network.eval().to(device(), torch.bfloat16 if large else torch.float32)


def device() -> str:
    """What networks run on: the GPU, where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def reason(error: Exception) -> str:
    """What is wrong, in a line: the kind of the error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def half_precision(network: Any) -> torch.autocast:
    """A context in which a network on a GPU computes in bfloat16; on a CPU nothing changes."""
    kind = network.device.type
    return torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda")


def check_lengths(checkpoint: Checkpoint, tokenizer: Any, phrases: Sequence[str], most: int) -> None:
    """Refuse phrases that the model would not read to their end.

    Raises:
        ScenarioError: One has more than `most` tokens.
    """
    for phrase in phrases:
        count = len(tokenizer(phrase)["input_ids"])
        if count > most:
            raise ScenarioError(
                f"phrase {phrase!r}: has {count} tokens, and the model {checkpoint.name} reads {most}",
                hint="say it in fewer words, or name another model",
            )


def decoded(photos: Sequence[Photo], side: int) -> Iterator[list[Image.Image]]:
    """Photos in batches for a forward pass, decoded ahead of the network.

    Args:
        photos: N photos.
        side: Pixels that the network uses of the longer side; larger photos are made smaller first, to no less than
            twice this, since processors hold them as several arrays of floats.

    Raises:
        ImagesError: A file has changed or vanished since it was scanned.
    """
    size = PHOTOS_AT_ONCE if device() == "cuda" else 1
    with closing(decode_ahead(photos, side, 2 * size)) as images:
        while batch := [_reduced(image, side) for image in islice(images, size)]:
            yield batch


def _reduced(image: Image.Image, side: int) -> Image.Image:
    factor = max(image.size) // (2 * side)
    return image.reduce(factor) if factor > 1 else image
