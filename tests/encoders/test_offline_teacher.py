"""The offline teacher: verified parts, one space for images and texts, no network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from clip_factory.encoders import offline
from clip_factory.encoders.offline_heads import WORDS, ImageHead, TextHead
from clip_factory.errors import TeacherError

Built = tuple[torch.nn.Module, offline.Preprocess, offline.Tokenize]


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("the offline teacher asked for the network")


@pytest.fixture(scope="module")
def built() -> Iterator[Built]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield offline.build_offline()


def pictures() -> list[Image.Image]:
    """A striped and a round thing: not photos, but two different pictures."""
    striped, round_ = (Image.new("RGB", size, (90, 140, 200)) for size in ((320, 200), (70, 300)))
    for x in range(0, 320, 20):
        ImageDraw.Draw(striped).rectangle((x, 0, x + 9, 200), fill=(10, 10, 10))
    ImageDraw.Draw(round_).ellipse((5, 100, 65, 160), fill=(255, 140, 0))
    return [striped, round_]


def test_images_and_texts_are_unit_vectors_of_one_space(built: Built) -> None:
    model, preprocess, tokenize = built
    batch = torch.stack([preprocess(picture) for picture in pictures()])
    with torch.inference_mode():
        images = model.encode_image(batch, normalize=True)
        texts = model.encode_text(tokenize(["zebra", "a photo of an orange", "traffic cone"]), normalize=True)

    assert batch.shape == (2, 3, 260, 260)
    assert images.shape == (2, WORDS)
    assert texts.shape == (3, WORDS)
    assert images.dtype == texts.dtype == torch.float32
    torch.testing.assert_close(torch.cat([images, texts]).norm(dim=1), torch.ones(5))
    assert not model.training
    assert 5 < float(model.logit_scale.detach().exp()) < 100


def test_words_of_one_meaning_lie_closer_than_others(built: Built) -> None:
    model, _, tokenize = built
    with torch.inference_mode():
        dog, puppy, truck = model.encode_text(tokenize(["dog", "puppy", "truck"]), normalize=True)

    assert dog @ puppy > dog @ truck + 0.2


def test_padding_does_not_change_a_text(built: Built) -> None:
    model, _, tokenize = built
    with torch.inference_mode():
        alone = model.encode_text(tokenize(["dog"]), normalize=True)
        beside = model.encode_text(tokenize(["dog", "a very long phrase about some other thing"]), normalize=True)

    torch.testing.assert_close(alone[0], beside[0], atol=1e-5, rtol=0)


def test_long_texts_are_cut_at_the_context_length(built: Built) -> None:
    assert built[2](["word " * 1000]).shape == (1, 128)


def test_altered_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    altered = bytearray(offline.HEADS.read_bytes())
    altered[-1] ^= 1
    (tmp_path / offline.HEADS.name).write_bytes(altered)
    monkeypatch.setattr(offline, "HEADS", tmp_path / offline.HEADS.name)

    with pytest.raises(TeacherError, match=r"offline\.safetensors has been altered") as caught:
        offline.build_offline()
    assert "pip install --force-reinstall 'clip-factory[train]'" in str(caught.value)


@pytest.mark.parametrize("name", [offline.IMAGE_WEIGHTS, offline.TEXT_WEIGHTS, offline.TEXT_CONFIG, offline.TOKENIZER])
def test_every_part_is_held_to_its_hash(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(offline.SHA256, name, "0" * 64)

    with pytest.raises(TeacherError, match=f"{Path(name).name} has been altered"):
        offline.build_offline()


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "IMAGE_TOWER", "no_such_package")

    with pytest.raises(TeacherError, match="no-such-package is not installed") as caught:
        offline.build_offline()
    assert "clip-factory[train]" in str(caught.value)


def test_a_missing_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(offline, "HEADS", tmp_path / offline.HEADS.name)

    with pytest.raises(TeacherError, match=r"offline\.safetensors is missing"):
        offline.build_offline()


def test_an_untrained_image_head_without_correction_is_conse() -> None:
    image = ImageHead().eval()
    image.prototypes = torch.nn.functional.normalize(torch.randn(image.prototypes.shape), dim=-1)
    torch.nn.init.eye_(image.anchor.weight)
    torch.nn.init.zeros_(image.correction[-1].weight)
    torch.nn.init.zeros_(image.correction[-1].bias)
    torch.nn.init.zeros_(image.classifier.weight)
    image.classifier.bias.data = torch.full((1000,), -100.0).index_fill(0, torch.tensor([7]), 100.0)

    torch.testing.assert_close(image(torch.randn(1, 1280))[0], image.prototypes[7])


def test_the_text_head_drops_what_all_names_share() -> None:
    text = TextHead()
    words = torch.nn.functional.normalize(torch.randn(5, WORDS) + 3, dim=-1)
    text.mean = words.mean(0)

    assert text.centered(words).norm(dim=1).allclose(torch.ones(5))
    assert float(text.centered(words).mean(0).norm()) < 0.2
