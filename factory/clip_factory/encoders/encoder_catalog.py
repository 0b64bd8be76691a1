"""Every encoder that can be named: open_clip's models with their weights, what is published of them, and `offline`.

Which of them exist is read from the installed open_clip. Figures and licenses come from `assets/encoder_facts.json`,
which names its sources; what no source states is None.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

FACTS = Path(__file__).parent / "assets" / "encoder_facts.json"
FAST_GFLOPS = 20
"""At most this is fast: up to ViT-B/32 at 256 px (11.5), and fit for a processor."""
MEDIUM_GFLOPS = 200
"""At most this is medium: up to ViT-L/14 at 224 px (162). What is above wants a GPU."""
UNKNOWN_LICENSE = "see the teacher's model card"


@dataclass(frozen=True)
class CatalogEntry:
    """A model with its weights."""

    model: str
    pretrained: str | None
    """open_clip's tag of the weights; None for `offline`."""
    parameters_m: float | None
    """Of both towers, in millions; a download in fp32 has four bytes for each."""
    gflops: float | None
    """Of the image tower for one image, in 10^9 operations, a multiplication and an addition counted as two."""
    image_size: int
    """Side in pixels of the square that the image tower sees."""
    top1: float | None
    """Published zero-shot accuracy on ImageNet-1k, in [0, 1]."""
    license: str
    """Of the weights, in words."""
    commercial: bool | None
    """Whether the license allows commercial use; None where the license is unknown."""
    cached: bool
    """Whether the weights are on this machine; SigLIP and multilingual models need their tokenizer as well."""

    @property
    def name(self) -> str:
        """What `--teacher` reads: MODEL/WEIGHTS, or the model alone."""
        return f"{self.model}/{self.pretrained}" if self.pretrained else self.model

    @property
    def speed(self) -> Literal["fast", "medium", "slow"] | None:
        """By `gflops`, with the limits `FAST_GFLOPS` and `MEDIUM_GFLOPS`; None where these are unknown."""
        if self.gflops is None:
            return None
        return "fast" if self.gflops <= FAST_GFLOPS else "medium" if self.gflops <= MEDIUM_GFLOPS else "slow"


def catalog() -> list[CatalogEntry]:
    """`offline`, then every pair of a model and weights that the installed open_clip lists, in its order.

    Asks no network. Pulls torch.
    """
    import open_clip

    return [_offline(), *(_entry(model, tag) for model, tag in open_clip.list_pretrained())]


def weights_license(model: str, pretrained: str) -> tuple[str, bool | None]:
    """License of open_clip's weights, in words, and whether it allows commercial use.

    What open_clip itself states goes before the facts. Not known: `UNKNOWN_LICENSE` or what is stated, and None.
    """
    import open_clip

    config = open_clip.get_pretrained_cfg(model, pretrained)
    stated, repository = config.get("license"), _hub_file(config)[0]
    for known in _facts()["licenses"]:
        if stated:
            matches = stated.casefold() == known["license"].casefold()
        else:
            matches = any(fnmatchcase(repository, pattern) for pattern in known["hub"])
        if matches:
            return known["license"], known["commercial"]
    return stated or UNKNOWN_LICENSE, None


def _entry(model: str, tag: str) -> CatalogEntry:
    import open_clip

    # `X-quickgelu` is X with another activation; weights get the one they were trained with under either name
    plain = model.removesuffix("-quickgelu")
    figures = _figures().get(plain, {})
    license, commercial = weights_license(model, tag)
    return CatalogEntry(
        model=model,
        pretrained=tag,
        parameters_m=figures.get("parameters_m"),
        gflops=figures.get("gflops"),
        image_size=_side(open_clip.get_model_config(model)),
        top1=_accuracies().get(f"{plain}/{tag}"),
        license=license,
        commercial=commercial,
        cached=_cached(open_clip.get_pretrained_cfg(model, tag)),
    )


def _offline() -> CatalogEntry:
    from clip_factory.encoders import offline

    return CatalogEntry(
        model="offline",
        pretrained=None,
        **_figures()["offline"],
        image_size=_side(json.loads(offline.CONFIG.read_text())),
        top1=None,
        license=offline.LICENSE,
        commercial=True,  # both towers and the heads are Apache-2.0
        cached=_installed(offline.IMAGE_TOWER) and _installed(offline.TEXT_TOWER),
    )


def _side(config: dict[str, Any]) -> int:
    size = config["vision_cfg"].get("image_size", 224)  # open_clip's own default
    return int(size if isinstance(size, int) else max(size))


def _cached(config: dict[str, Any]) -> bool:
    """Whether one of the files that open_clip would load is in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    from clip_factory.encoders.open_clip import HUB_WEIGHTS

    repository, file = _hub_file(config)
    names = (file,) if file else HUB_WEIGHTS
    return bool(repository) and any(isinstance(try_to_load_from_cache(repository, name), str) for name in names)


def _hub_file(config: dict[str, Any]) -> tuple[str, str]:
    """OWNER/NAME and the file, from open_clip's OWNER/NAME/FILE; no file means the usual ones."""
    return os.path.split(config.get("hf_hub", ""))


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@functools.cache
def _facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(FACTS.read_text(encoding="utf-8"))
    return facts


def _figures() -> dict[str, dict[str, float]]:
    """Model to `parameters_m` and `gflops`, whatever their source."""
    return {model: figures for source in _facts()["models"].values() for model, figures in source.items()}


def _accuracies() -> dict[str, float]:
    """MODEL/WEIGHTS to top-1, whatever its source."""
    return {name: share for source in _facts()["top1"].values() for name, share in source.items()}
