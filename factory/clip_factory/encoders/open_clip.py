"""Teachers: dual encoders served through open_clip, behind four calls and a key."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from clip_factory import scenario
from clip_factory.encoders.offline import LICENSE, build_offline
from clip_factory.errors import TeacherError

RECOMMENDED = scenario.Teacher(model="ViT-B-32-256", pretrained="datacomp_s34b_b86k")
"""What `auto` takes when its weights can be had: the best zero-shot accuracy of open_clip's models of this speed."""

HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""What open_clip's weights are called on the hub, the better one first."""


@dataclass(frozen=True)
class Teacher:
    """A dual encoder that turns images and texts into vectors of one space."""

    name: str
    key: str
    """Hex; changes with the weights and the preprocessing, with nothing else."""
    license: str
    dim: int
    image_side: int
    """Side of the square that the image tower sees, in pixels."""
    logit_scale: float
    """What cosine similarities are multiplied by before the softmax."""
    preprocess: Callable[[Image.Image], torch.Tensor]
    """RGB image to float32 `(3, H, W)`."""
    network: torch.nn.Module
    tokenizer: Callable[[list[str]], Any]
    device: torch.device

    def embed_images(self, batch: torch.Tensor) -> np.ndarray:
        """float32 `(N, 3, H, W)` to float32 `(N, D)`, L2-normalized; bf16 arithmetic on a GPU."""
        on_gpu = self.device.type == "cuda"
        batch = batch.to(self.device, memory_format=torch.channels_last, non_blocking=True)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=on_gpu):
            vectors = self.network.encode_image(batch, normalize=True)  # type: ignore[operator]
        return vectors.float().cpu().numpy()  # type: ignore[no-any-return]

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """N texts to float32 `(N, D)`, L2-normalized."""
        with torch.inference_mode():
            parts = [
                self.network.encode_text(self.tokenizer(list(texts[i : i + 256])).to(self.device), normalize=True)  # type: ignore[operator]
                for i in range(0, len(texts), 256)
            ]
        return torch.cat(parts).float().cpu().numpy()

    @property
    def about(self) -> dict[str, object]:
        """What reports, cards and files say of the teacher."""
        return {"name": self.name, "key": self.key, "license": self.license, "dim": self.dim}


def resolve(spec: scenario.Teacher) -> tuple[scenario.Teacher, str | None]:
    """Turn `auto` into a teacher by name, so that a run can be repeated.

    Returns:
        The teacher to use, and a warning for the user if it is not the recommended one.
    """
    if spec.model != "auto":
        return spec, None
    if _can_be_had(RECOMMENDED):
        return RECOMMENDED.model_copy(update={"batch_size": spec.batch_size}), None
    warning = (
        f"the recommended teacher {RECOMMENDED.model}/{RECOMMENDED.pretrained} is neither cached nor reachable: "
        "labeling with the built-in `offline` teacher, which knows fewer things"
    )
    return spec.model_copy(update={"model": "offline"}), warning


def load(spec: scenario.Teacher) -> Teacher:
    """Load a teacher by its scenario entry; `auto` must have been resolved.

    Raises:
        TeacherError: The model or its weights are unknown, cannot be had, or have been altered.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if spec.model == "offline":
        network, preprocess, tokenizer = build_offline()
        name, license = "offline", LICENSE
    else:
        network, preprocess, tokenizer = _open_clip(spec)
        name = f"{spec.model}/{spec.pretrained}" if spec.pretrained else spec.model
        license = _license(spec)
    side = _image_side(network)
    network = network.eval().to(device).to(memory_format=torch.channels_last)
    return Teacher(
        name=name,
        key=_key(network, preprocess),
        license=license,
        dim=_dimension(network, side),
        image_side=side,
        logit_scale=float(network.state_dict()["logit_scale"].exp()),
        preprocess=preprocess,
        network=network,
        tokenizer=tokenizer,
        device=device,
    )


def _open_clip(spec: scenario.Teacher) -> tuple[Any, Any, Any]:
    import open_clip

    from_hub = spec.model.startswith(("hf-hub:", "local-dir:"))
    if not from_hub:
        _check_known(spec)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # weights_only: open_clip passes it on to torch.load, so that no pickle is ever run
            network, preprocess = open_clip.create_model_from_pretrained(
                spec.model, pretrained=spec.pretrained, weights_only=True
            )
            tokenizer = open_clip.get_tokenizer(spec.model)
    except Exception as error:  # open_clip, the hub and torch raise a dozen kinds of errors here
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TeacherError(
            f"teacher {spec.model}{'/' + spec.pretrained if spec.pretrained else ''}: cannot be loaded ({reason})",
            hint="check the name and the network, or label without one: --teacher offline",
        ) from error
    return network, preprocess, tokenizer


def _check_known(spec: scenario.Teacher) -> None:
    import open_clip

    if spec.model not in open_clip.list_models():
        raise TeacherError(
            f"teacher {spec.model}: open_clip knows no such model",
            hint=f"close by: {', '.join(_closest(spec.model, open_clip.list_models()))}; or `offline`",
        )
    tags = open_clip.list_pretrained_tags_by_model(spec.model)
    if spec.pretrained not in tags:
        raise TeacherError(
            f"teacher {spec.model}: no weights named {spec.pretrained!r}",
            hint=f"set teacher.pretrained to one of: {', '.join(tags)}",
        )


def _closest(name: str, names: list[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3]


def _can_be_had(spec: scenario.Teacher) -> bool:
    """Whether the weights are cached, or the hub answers within a few seconds."""
    import open_clip
    from huggingface_hub import HfApi, try_to_load_from_cache

    hub_id = open_clip.get_pretrained_cfg(spec.model, spec.pretrained).get("hf_hub", "").strip("/")
    for name in HUB_WEIGHTS:
        if isinstance(try_to_load_from_cache(hub_id, name), str):
            return True
    try:
        HfApi().model_info(hub_id, timeout=4)
    except Exception:  # no network, a proxy, a captive portal, HF_HUB_OFFLINE: all mean no
        return False
    return True


def _license(spec: scenario.Teacher) -> str:
    import open_clip

    config = open_clip.get_pretrained_cfg(spec.model, spec.pretrained) if spec.pretrained else {}
    return config.get("license") or "see the teacher's model card"


def _key(network: torch.nn.Module, preprocess: object) -> str:
    digest = hashlib.sha256(repr(preprocess).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:24]


def _image_side(network: torch.nn.Module) -> int:
    import open_clip

    size = open_clip.get_model_preprocess_cfg(network)["size"]
    return int(size if isinstance(size, int) else max(size))


def _dimension(network: torch.nn.Module, side: int) -> int:
    blank = torch.zeros(1, 3, side, side, device=next(network.parameters()).device)
    with torch.inference_mode():
        return int(network.encode_image(blank).shape[1])  # type: ignore[operator]
