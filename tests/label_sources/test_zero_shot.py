"""Zero-shot scores against open_clip's own classifier: prompts, means, softmax and sums."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from scipy.special import softmax

from clip_factory.encoders import EmbeddingStore, Encoder, load_encoder
from clip_factory.images.photo import Photo
from clip_factory.label_sources import zero_shot
from clip_factory.label_sources.source import LOADERS, Phrases
from clip_factory.run_folder import sha256_file
from clip_factory.scenario import Scenario, Teacher
from clip_factory.scenario.prompts import TEMPLATE_SETS, TemplateSet, fill, template_set

POSITIVE, NEGATIVE = ("disc", "round thing"), ("bar", "line", "noise")


@pytest.fixture(scope="module")
def network(tiny_clip: Path) -> torch.nn.Module:
    return open_clip.create_model_from_pretrained(f"local-dir:{tiny_clip}")[0].eval()


@pytest.fixture(scope="module")
def encoder(tiny_clip: Path) -> Encoder:
    return load_encoder(Teacher(model=f"local-dir:{tiny_clip}"))


def classifier(
    network: torch.nn.Module, tiny_clip: Path, phrases: Sequence[str], templates: Sequence[str]
) -> np.ndarray:
    """open_clip's zero-shot weights, `(P, D)`."""
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_clip}")
    weights = open_clip.build_zero_shot_classifier(
        network, tokenizer, list(phrases), list(templates), num_classes_per_batch=None, device="cpu"
    )
    return weights.T.numpy()


@pytest.mark.parametrize("name", TEMPLATE_SETS)
def test_text_vectors_are_those_of_open_clips_zero_shot_classifier(
    name: TemplateSet, encoder: Encoder, network: torch.nn.Module, tiny_clip: Path
) -> None:
    phrases = (*POSITIVE, *NEGATIVE)
    found = zero_shot.text_vectors(encoder, phrases, name)

    assert found == pytest.approx(classifier(network, tiny_clip, phrases, template_set(name)), abs=1e-5)
    assert found.dtype == np.float32


def test_templates_of_the_scenarios_own_change_the_vectors(
    encoder: Encoder, network: torch.nn.Module, tiny_clip: Path
) -> None:
    """The oracle must tell templates apart, else it proves nothing of them."""
    own = ("a {} at night", "one {}, seen from far above")
    found = zero_shot.text_vectors(encoder, POSITIVE, own)

    assert found == pytest.approx(classifier(network, tiny_clip, POSITIVE, own), abs=1e-5)
    for other in (own[:1], own[1:], ("{}",)):
        assert np.abs(found - classifier(network, tiny_clip, POSITIVE, other)).max() > 1e-3


def test_scores_are_open_clips_softmax_on_the_photos_own_pixels(
    encoder: Encoder, network: torch.nn.Module, tiny_clip: Path, shapes: Path
) -> None:
    images = [Image.open(path).convert("RGB") for path in sorted((shapes / "photos").glob("*.png"))[:12]]
    preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tiny_clip}")[1]
    texts = torch.from_numpy(classifier(network, tiny_clip, (*POSITIVE, *NEGATIVE), template_set("photo")))
    with torch.inference_mode():
        vectors = network.encode_image(torch.stack([preprocess(image) for image in images]), normalize=True)
        wanted = (network.logit_scale.exp() * vectors @ texts.T).softmax(dim=-1).numpy()
    scenario = Scenario(name="disc", positive=POSITIVE, negative=NEGATIVE, templates="photo")
    scores = zero_shot.zero_shot(encoder, encoder.embed_images(images), scenario)

    assert scores.by_phrase == pytest.approx(wanted, abs=1e-5)
    assert scores.p == pytest.approx(wanted[:, :2].sum(axis=1), abs=1e-5)
    assert scores.phrases == Phrases(POSITIVE, NEGATIVE)
    assert np.ptp(scores.p) > 1e-4, "photos differ"


class Hashes:
    """An encoder of four dimensions whose vectors follow from the whole prompt: no two prompts are alike."""

    name, key, license = "hashes", "hashes", "none"
    dim, image_size, logit_scale, logit_bias = 4, 32, 7.0, 3.0
    about = {"name": "hashes", "key": "hashes", "license": "none", "dim": 4}  # noqa: RUF012

    def vector(self, text: str) -> np.ndarray:
        drawn = np.random.default_rng(list(text.encode())).normal(size=4)
        return (drawn / np.linalg.norm(drawn)).astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self.vector(text) for text in texts])

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        return np.stack([self.vector(f"{np.asarray(image).sum()}") for image in images])


@pytest.mark.parametrize("templates", [("{}",), ("a {}", "no more than one {}", "{} in {}")])
def test_each_phrase_is_the_mean_of_its_own_prompts(templates: tuple[str, ...]) -> None:
    encoder, phrases = Hashes(), ("cat", "dog", "tree")
    found = zero_shot.text_vectors(encoder, phrases, templates)

    for row, phrase in zip(found, phrases, strict=True):
        mean = np.mean([encoder.vector(prompt) for prompt in fill(templates, phrase)], axis=0)
        assert row == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 7.0, 5000.0])
def test_probabilities_are_scipys_softmax_even_where_exponentials_overflow(scale: float) -> None:
    random = np.random.default_rng(0)
    images, texts = (random.normal(size=(n, 4)).astype(np.float32) for n in (20, 3))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    found = zero_shot.phrase_probabilities(images, texts, scale)

    assert found == pytest.approx(softmax(scale * images @ texts.T, axis=1), abs=1e-5)
    assert found.sum(axis=1) == pytest.approx(np.ones(20), abs=1e-6)
    assert found.dtype == np.float32


def test_the_label_source_embeds_what_is_new_and_scores_it(shapes: Path, tmp_path: Path) -> None:
    paths = sorted((shapes / "photos").glob("*.png"))[:5]
    photos = [Photo(sha256_file(path), path) for path in paths]
    store, encoder = EmbeddingStore(tmp_path), Hashes()
    scenario = Scenario(name="disc", positive=POSITIVE, negative=NEGATIVE, templates=("a {}", "{}s"))
    source = LOADERS.find("zero-shot")(scenario, encoder, store)
    source.score(photos[:2], scenario)
    scores = source.score(photos[::-1], scenario)
    vectors = encoder.embed_images([Image.open(path).convert("RGB") for path in paths[::-1]])
    texts = zero_shot.text_vectors(encoder, (*POSITIVE, *NEGATIVE), ("a {}", "{}s"))

    assert scores.by_phrase == pytest.approx(softmax(7 * vectors @ texts.T, axis=1), abs=5e-3), "stored in 16 bits"
    assert store.known("hashes") == {photo.sha256 for photo in photos}
    assert (source.key, dict(source.about)) == ("zero-shot-hashes", Hashes.about)
