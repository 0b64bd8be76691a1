"""Encoders served through open_clip: its own models, the hub's, folders, and the offline one."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image

from clip_factory.encoders.encoder_catalog import UNKNOWN_LICENSE, weights_license
from clip_factory.encoders.offline import LICENSE, build_offline
from clip_factory.errors import TeacherError
from clip_factory.memory import keep_to_quota
from clip_factory.progress import warn
from clip_factory.runtime.image_steps import middle
from clip_factory.runtime.preprocessing import RULES
from clip_factory.runtime.processors import usable_cpus
from clip_factory.scenario import Teacher

PROBE = "a photo of 2 red apples, please"
"""A text whose tokens tell tokenizers apart."""
SHOWN = (UserWarning, RuntimeWarning)
HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""What open_clip's weights are called on the hub, the better one first."""
TEXTS_AT_ONCE = 256
ENDLESS = 2_000
"""Words that no text tower reads to their end."""


class OpenClipEncoder:
    """A network of open_clip's with its preprocessing and tokenizer; an `Encoder`."""

    def __init__(
        self,
        network: torch.nn.Module,
        preprocess: Callable[[Image.Image], torch.Tensor],
        tokenize: Callable[[list[str]], Any],
        *,
        name: str,
        license: str,
    ) -> None:
        """Move the network to the GPU, where there is one.

        Args:
            network: One of open_clip's models.
            preprocess: RGB image to float32 `(3, S, S)`.
            tokenize: N texts to int64 `(N, L)`.
            name: What users call it.
            license: Of the weights.
        """
        keep_to_quota()
        self.name, self.license = name, license
        self.key = _key(network, preprocess, tokenize)
        self.image_size = _image_size(network)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.eval().to(self.device).to(memory_format=torch.channels_last)
        self.dim = _dimension(self.network, self.image_size)
        weights = network.state_dict()
        self.logit_scale = float(weights["logit_scale"].exp())
        self.logit_bias = float(weights["logit_bias"]) if "logit_bias" in weights else 0.0
        self.transform, self.tokenize = preprocess, tokenize
        self._crops = _crops(preprocess)
        # kept from batch to batch: each new thread that works with tensors starts OpenMP threads of its own
        self._pool = ThreadPoolExecutor(usable_cpus())

    @property
    def about(self) -> dict[str, object]:
        """Name, key, license and length of the vectors."""
        return {"name": self.name, "key": self.key, "license": self.license, "dim": self.dim}

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """N RGB images to float32 `(N, D)`, L2-normalized; bf16 arithmetic on a GPU."""
        if not images:
            return np.empty((0, self.dim), np.float32)
        batch = self.preprocess(images).to(self.device, memory_format=torch.channels_last, non_blocking=True)
        on_gpu = self.device.type == "cuda"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=on_gpu):
            vectors = self.network.encode_image(batch, normalize=True)  # type: ignore[operator]
        return vectors.float().cpu().numpy()  # type: ignore[no-any-return]

    def preprocess(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """What the image tower sees of N images, float32 `(N, 3, S, S)`; threads share the work."""
        return torch.stack(list(self._pool.map(self._seen, images)))

    def _seen(self, image: Image.Image) -> torch.Tensor:
        """What the tower sees of one image; see `image_steps.to_pixels`."""
        return self.transform(middle(image) if self._crops else image)

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that hold something for which the tokenizer has only the sign for the unknown."""
        unknown = unknown_token(self.tokenize)
        if unknown is None:  # CLIP's own tokenizer falls back to bytes, and knows everything
            return []
        return [word for word in text.split() if unknown in torch.as_tensor(self.tokenize([word])).reshape(-1).tolist()]

    @functools.cached_property
    def context_length(self) -> int:
        """How many tokens the text tower sees at most, the signs for start and end included."""
        return len(_tokens(self.tokenize, "a " * ENDLESS))

    def token_count(self, text: str) -> int:
        """How many tokens a text has, seen or not, the signs for start and end included.

        Words are counted one at a time, since tokenizers cut what is too long; one word counts no more than
        `context_length`.
        """
        empty = self._unpadded("")
        return empty + sum(self._unpadded(word) - empty for word in text.split())

    def _unpadded(self, text: str) -> int:
        tokens, empty = _tokens(self.tokenize, text), _tokens(self.tokenize, "")
        if len(empty) < self.context_length:  # this tokenizer fills nothing up
            return len(tokens)
        count = len(tokens)
        while count and tokens[count - 1] == empty[-1]:
            count -= 1
        return count + (empty[0] == empty[-1])  # SigLIP's fills up with the sign for the end: one of them is that

    def is_truncated(self, text: str) -> bool:
        """Whether the network does not see the end of a text, be it a part of its last word."""
        return self.token_count(text) > self.context_length

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """P texts to float32 `(P, D)`, L2-normalized."""
        if not texts:
            return np.empty((0, self.dim), np.float32)
        with torch.inference_mode():
            parts = [
                self.network.encode_text(  # type: ignore[operator]
                    self.tokenize(list(texts[i : i + TEXTS_AT_ONCE])).to(self.device), normalize=True
                )
                for i in range(0, len(texts), TEXTS_AT_ONCE)
            ]
        return torch.cat(parts).float().cpu().numpy()


def load_offline() -> OpenClipEncoder:
    """The encoder of installed packages alone.

    Raises:
        TeacherError: A part is missing or has been altered.
    """
    return OpenClipEncoder(*build_offline(), name="offline", license=LICENSE)


def load_open_clip(teacher: Teacher) -> OpenClipEncoder:
    """A model of open_clip's by name and weights, `hf-hub:OWNER/NAME`, or `local-dir:PATH`.

    Raises:
        TeacherError: The model or its weights are unknown, or cannot be loaded.
    """
    import open_clip

    if ":" not in teacher.model:
        _check_known(teacher)
    try:
        with _warnings_for_people():
            # weights_only: open_clip passes it on to torch.load, so that no pickle is ever run
            network, preprocess = open_clip.create_model_from_pretrained(
                teacher.model, pretrained=teacher.pretrained, weights_only=True, **activation(teacher)
            )
            tokenize = open_clip.get_tokenizer(teacher.model)
    except Exception as error:  # open_clip, the hub and torch raise a dozen kinds of errors here
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TeacherError(
            f"teacher {teacher.name}: cannot be loaded ({reason})",
            hint="check the name and the network, or label without one: --teacher offline",
        ) from error
    return OpenClipEncoder(network, preprocess, tokenize, name=teacher.name, license=_license(teacher))


def activation(teacher: Teacher) -> dict[str, bool]:
    """What open_clip must be told so that the network has the activation that its weights were trained with.

    For `ViT-B-32` with the weights `openai` and two dozen more, open_clip itself builds a network with the wrong one,
    and warns. Weights that do not say keep that of the model's configuration.
    """
    import open_clip

    if ":" in teacher.model or not teacher.pretrained:
        return {}
    tag, config = (
        open_clip.get_pretrained_cfg(teacher.model, teacher.pretrained),
        open_clip.get_model_config(teacher.model),
    )
    quick = bool(tag.get("quick_gelu", (config or {}).get("quick_gelu", False)))
    return {"force_quick_gelu": quick, "quick_gelu": quick}  # the first can only turn it on, the second decides


@contextmanager
def _warnings_for_people() -> Iterator[None]:
    """Say what open_clip and timm warn of, each once; not what they tell programmers."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for message in dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, SHOWN)):
        warn(message)


def weights_available(teacher: Teacher) -> bool:
    """Whether the weights are cached, or the hub answers within a few seconds."""
    import open_clip
    from huggingface_hub import HfApi, try_to_load_from_cache

    hub_id, file = os.path.split(open_clip.get_pretrained_cfg(teacher.model, teacher.pretrained).get("hf_hub", ""))
    for name in (file,) if file else HUB_WEIGHTS:
        if isinstance(try_to_load_from_cache(hub_id, name), str):
            return True
    try:
        HfApi().model_info(hub_id, timeout=4)
    except Exception:  # no network, a proxy, a captive portal, HF_HUB_OFFLINE: all mean no
        return False
    return True


def _check_known(teacher: Teacher) -> None:
    import open_clip

    if teacher.model not in open_clip.list_models():
        raise TeacherError(
            f"teacher {teacher.model}: open_clip knows no such model",
            hint=f"close by: {', '.join(_closest(teacher.model, open_clip.list_models()))}; or `offline`",
        )
    tags = open_clip.list_pretrained_tags_by_model(teacher.model)
    if teacher.pretrained not in tags:
        raise TeacherError(
            f"teacher {teacher.model}: no weights named {teacher.pretrained!r}",
            hint=f"set teacher.pretrained to one of: {', '.join(tags)}",
        )


def _closest(name: str, names: list[str]) -> list[str]:
    import difflib

    return difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3]


def _license(teacher: Teacher) -> str:
    return weights_license(teacher.model, teacher.pretrained)[0] if teacher.pretrained else UNKNOWN_LICENSE


def _key(network: torch.nn.Module, preprocess: object, tokenize: Callable[[list[str]], Any]) -> str:
    """Hash of all that decides a vector: weights, architecture, preprocessing, tokenizer, how photos are decoded."""
    steps = re.sub("0x[0-9a-f]+", "", repr(preprocess))  # of functions, an address that each process has its own of
    digest = hashlib.sha256(f"{steps}\n{_tokens(tokenize, PROBE)}\nrules {RULES}\n".encode())
    digest.update("\n".join(_architecture(network)).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:24]


def imagenet_names() -> list[str]:
    """What CLIP calls the 1,000 classes of ImageNet, in their order."""
    import open_clip

    return list(open_clip.IMAGENET_CLASSNAMES)


def unknown_token(tokenize: Any) -> int | None:
    """The id that a tokenizer gives to what it does not know; None where there is no such thing."""
    inner = getattr(tokenize, "tokenizer", tokenize)
    known: int | None = getattr(inner, "unk_token_id", None)
    return known


def _tokens(tokenize: Callable[[list[str]], Any], text: str) -> list[int]:
    return [int(token) for token in torch.as_tensor(tokenize([text])).reshape(-1)]


def _architecture(network: torch.nn.Module) -> Iterator[str]:
    """What a network's layers are and do beside their weights: kinds, activations, numbers of heads, pooling."""
    for name, module in network.named_modules():
        settings = (f"{key}={_setting(value)}" for key, value in sorted(vars(module).items()) if key[0] != "_")
        yield " ".join([name, type(module).__qualname__, *(one for one in settings if not one.startswith("training="))])


def _setting(value: object) -> str:
    """A setting as text that is the same in every process."""
    if isinstance(value, bool | int | float | str | tuple | type(None)):
        return repr(value) if "0x" not in repr(value) else type(value).__qualname__
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def _crops(preprocess: Any) -> bool:
    """Whether a transform resizes the shorter side and keeps the middle, and so sees no more of a long image."""
    steps: list[Any] = list(getattr(preprocess, "transforms", ()))
    kinds = [type(step).__name__ for step in steps]
    return kinds[:2] == ["Resize", "CenterCrop"] and isinstance(steps[0].size, int)


def _image_size(network: torch.nn.Module) -> int:
    import open_clip

    size = open_clip.get_model_preprocess_cfg(network)["size"]
    return int(size if isinstance(size, int) else max(size))


def _dimension(network: torch.nn.Module, size: int) -> int:
    blank = torch.zeros(1, 3, size, size, device=next(network.parameters()).device)
    with torch.inference_mode():
        return int(network.encode_image(blank).shape[1])  # type: ignore[operator]
