"""Every pair of a model and weights that open_clip lists: the network is the one that the weights were trained in."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from clip_factory import encoders
from clip_factory.encoders import open_clip as room
from clip_factory.encoders.open_clip import OpenClipEncoder, activation, load_open_clip
from clip_factory.progress import console
from clip_factory.runtime.image_steps import MAX_ASPECT
from clip_factory.scenario import Teacher

PAIRS = open_clip.list_pretrained()
NAME = "test-tiny"


def recorded(model: str, tag: str) -> dict:
    """What open_clip has written down about weights."""
    return open_clip.get_pretrained_cfg(model, tag)


def preprocessing_of(tag: dict) -> tuple:
    default = open_clip.transform.PreprocessCfg()
    keys = ("mean", "std", "interpolation", "resize_mode")
    return tuple(tag.get(key) or getattr(default, key) for key in keys)


@pytest.mark.parametrize(("model", "tag"), PAIRS, ids=lambda one: one)
def test_the_activation_is_the_one_of_the_weights(model: str, tag: str) -> None:
    said, config = recorded(model, tag), open_clip.get_model_config(model)
    wanted = said["quick_gelu"] if "quick_gelu" in said else config.get("quick_gelu", False)
    assert activation(Teacher(model=model, pretrained=tag)) == {"force_quick_gelu": wanted, "quick_gelu": wanted}


def test_the_most_used_clip_of_all_has_its_own_activation() -> None:
    assert activation(Teacher(model="ViT-B-32", pretrained="openai"))["quick_gelu"] is True
    assert activation(Teacher(model="ViT-B-32", pretrained="laion2b_s34b_b79k"))["quick_gelu"] is False
    assert activation(Teacher(model="local-dir:/somewhere")) == {}


@pytest.fixture(scope="module")
def tiny_config() -> dict:
    return {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }


@pytest.fixture
def weights(tiny_config: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict]:
    """Tags of a tiny model of open_clip's list, whose weights are at hand: the edge of the network."""
    torch.manual_seed(0)
    torch.save(open_clip.CLIP(**tiny_config).state_dict(), tmp_path / "weights.pt")
    (tmp_path / f"{NAME}.json").write_text(json.dumps(tiny_config))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    open_clip.add_model_config(tmp_path / f"{NAME}.json")
    tags: dict[str, dict] = {}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, NAME, tags)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *_, **__: str(tmp_path / "weights.pt"))
    return tags


def load(tag: str) -> OpenClipEncoder:
    return load_open_clip(Teacher(model=NAME, pretrained=tag))


def test_image_statistics_and_activation_follow_every_kind_of_tag(weights: dict[str, dict]) -> None:
    kinds = {}
    for model, tag in PAIRS:
        said = recorded(model, tag)
        kinds[(*preprocessing_of(said), said.get("quick_gelu", False))] = said
    assert len(kinds) > 8
    keys = set()
    for number, (wanted, said) in enumerate(kinds.items()):
        weights[f"t{number}"] = said
        encoder = load(f"t{number}")
        stated = open_clip.get_model_preprocess_cfg(encoder.network)
        assert tuple(stated[key] for key in ("mean", "std", "interpolation", "resize_mode")) == wanted[:4]
        quick = [type(one).__name__ == "QuickGELU" for one in encoder.network.modules() if "GELU" in type(one).__name__]
        assert quick == [wanted[4]] * 2, "one layer of each tower"
        assert encoder.tokenize(["x"]).shape == (1, 12), "the context of the model's configuration"
        keys.add(encoder.key)
    assert len(keys) == len(kinds), "no two of them share their vectors"


def test_what_open_clip_warns_of_reaches_the_user(weights: dict[str, dict], monkeypatch: pytest.MonkeyPatch) -> None:
    weights["loud"] = {"quick_gelu": True}
    real = open_clip.create_model_from_pretrained

    def loud(*arguments: object, **options: object) -> object:
        for text, kind in (("mind the gap", UserWarning), ("mind the gap", UserWarning), ("old API", FutureWarning)):
            warnings.warn(text, kind, stacklevel=1)
        return real(*arguments, **options)

    monkeypatch.setattr(open_clip, "create_model_from_pretrained", loud)
    with console.capture() as said:
        load("loud")
    assert said.get() == "warning: mind the gap\n"


# --- keys


def made(config: dict, preprocess: object = None, tokenizer: object = None, **changes: object) -> OpenClipEncoder:
    torch.manual_seed(0)
    network = open_clip.CLIP(**{**config, **changes})
    open_clip.model.set_model_preprocess_cfg(network, asdict(open_clip.transform.PreprocessCfg(size=32)))
    transform = preprocess or open_clip.transform.image_transform(32, is_train=False)
    return OpenClipEncoder(
        network, transform, tokenizer or open_clip.SimpleTokenizer(context_length=12), name="x", license="x"
    )


def test_the_key_covers_what_weights_do_not_show(tiny_config: dict) -> None:
    heads = tiny_config | {"vision_cfg": tiny_config["vision_cfg"] | {"head_width": 8}}
    pool = tiny_config | {"vision_cfg": tiny_config["vision_cfg"] | {"pool_type": "avg"}}
    first = made(tiny_config)
    others = [
        made(tiny_config, quick_gelu=True),
        made(heads),
        made(pool),
        made(tiny_config, open_clip.transform.image_transform(32, is_train=False, interpolation="bilinear")),
        made(tiny_config, tokenizer=open_clip.SimpleTokenizer(context_length=12, clean="whitespace")),
    ]
    states = [one.network.state_dict() for one in others]
    assert all(
        torch.equal(state[name], value) for state in states for name, value in first.network.state_dict().items()
    )
    assert len({first.key, *(one.key for one in others)}) == 5, "this tokenizer splits the probe alike"
    assert made(tiny_config).key == first.key


def test_the_key_covers_how_photos_are_decoded(tiny_config: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    before = made(tiny_config).key
    monkeypatch.setattr(room, "RULES", 99)
    assert made(tiny_config).key != before


def test_the_key_is_that_of_every_process(tiny_config: dict) -> None:
    def lines(config: dict) -> list[str]:
        return list(room._architecture(made(config).network))

    assert lines(tiny_config) == lines(tiny_config)
    assert not any("0x" in line for line in lines(tiny_config))
    assert encoders.load_encoder(Teacher(model="offline")).key == encoders.load_encoder(Teacher(model="offline")).key


# --- long images


@pytest.mark.parametrize("size", [(32 * MAX_ASPECT * 3, 32), (32, 32 * MAX_ASPECT * 5)])
def test_of_a_long_image_the_middle_is_seen_as_before(tiny_config: dict, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    encoder, image = made(tiny_config), Image.fromarray(pixels)
    assert torch.equal(encoder.preprocess([image])[0], encoder.transform(image))


def test_a_line_of_pixels_costs_no_memory(tiny_config: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    largest: list[int] = []
    real = Image.Image.resize

    def measured(image: Image.Image, size: tuple[int, int], *arguments: object, **options: object) -> Image.Image:
        largest.append(size[0] * size[1])
        return real(image, size, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", measured)
    encoder = made(tiny_config)
    assert encoder.embed_images([Image.new("RGB", (60_000, 1), "red")]).shape == (1, 16)
    assert max(largest) <= MAX_ASPECT * 32 * 32
    squash = open_clip.transform.image_transform(32, is_train=False, resize_mode="squash")
    assert made(tiny_config, squash).embed_images([Image.new("RGB", (60_000, 1), "red")]).shape == (1, 16)
