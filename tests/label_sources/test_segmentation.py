"""Pixels are those of transformers, and the marked share of a photo decides as the rule says."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from clip_factory.errors import ScenarioError, TeacherError
from clip_factory.images.photo import Photo
from clip_factory.label_sources.localization import NOTHING, Rule, asked_phrases, to_scores
from clip_factory.label_sources.segmentation import DEFAULT, decide_area, load_segmentation
from clip_factory.label_sources.source import Phrases
from clip_factory.scenario import Labeling, Scenario
from support.pictures import draw_shape
from support.tiny_locators import SIDE, make_clipseg, make_owl

RUST = Phrases(("rust",), ("paint", NOTHING))
RULE = Rule(score=0.5, min_area=0.25)


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clipseg(tmp_path_factory.mktemp("clipseg"))


def scenario(folder: Path, **labels: float) -> Scenario:
    made = Labeling(source="segmentation", model=f"local-dir:{folder}", **labels)
    return Scenario(name="disc", positive=("disc", "red disc"), negative=("bar",), labels=made)


def photos(folder: Path) -> list[Photo]:
    for i in range(5):
        draw_shape("disc", i, 120).resize((90, 60)).save(folder / f"{i}.png")
    return [Photo.of(folder / f"{i}.png") for i in range(5)]


def test_pixels_are_those_of_the_networks_own_forward(clipseg: Path) -> None:
    images = [draw_shape("disc", i, 120).resize((90, 60)) for i in range(3)]
    phrases = ["disc", "red disc", "bar"]
    processor = transformers.AutoProcessor.from_pretrained(clipseg)
    network = transformers.CLIPSegForImageSegmentation.from_pretrained(clipseg).eval()
    segmenter = load_segmentation(scenario(clipseg)).locator

    segmented = segmenter.segment(images, phrases)

    assert segmenter.image_size == SIDE
    for image, one in zip(images, segmented, strict=True):
        inputs = processor(text=phrases, images=[image] * 3, padding=True, return_tensors="pt")
        with torch.inference_mode():
            expected = network(**inputs).logits.numpy()
        assert one.shape == (3, SIDE, SIDE)
        assert one == pytest.approx(expected, abs=1e-4)
    assert np.abs(segmented[0] - segmented[1]).max() > 0.01, "photos that are all alike would show nothing"


def test_many_phrases_are_decoded_in_parts(clipseg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = load_segmentation(scenario(clipseg)).locator
    image, phrases = draw_shape("disc", 0), ["disc", "bar", "cat", "dog", "red"]
    whole = segmenter.segment([image], phrases)

    monkeypatch.setattr("clip_factory.label_sources.segmentation.PHRASES_AT_ONCE", 2)

    assert segmenter.segment([image], phrases)[0] == pytest.approx(whole[0], abs=1e-5)


def test_scores_and_masks_of_photos(clipseg: Path, tmp_path: Path) -> None:
    asked = scenario(clipseg, min_area=0.3)
    source = load_segmentation(asked)

    scores = source.score(photos(tmp_path), asked)

    assert scores.phrases == asked_phrases(asked) == Phrases(("disc", "red disc"), ("bar", NOTHING))
    assert scores.evidence is not None and len(scores.evidence) == 5
    for p, one in zip(scores.p, scores.evidence, strict=True):
        assert (p >= 0.5) == (one.mask is not None and one.mask.share >= 0.3)
        assert one.mask is None or one.mask.cells().mean() / 255 == pytest.approx(one.mask.share, abs=0.01)


def pixels(*areas: tuple[float, float, float]) -> np.ndarray:
    """Log-odds `(2, 10, 10)` of two phrases: shares of the photo, each with both probabilities."""
    values = [row for share, *scores in areas for row in [scores] * round(100 * share)]
    p = np.array(values).T.reshape(2, 10, 10)
    return np.log(p) - np.log1p(-p)


@pytest.mark.parametrize(
    ("areas", "p"),
    [
        ([(0.25, 0.5, 0.1), (0.75, 0.1, 0.1)], 0.5),
        ([(0.25, 0.8, 0.1), (0.75, 0.1, 0.1)], 0.8),
        ([(0.24, 0.8, 0.1), (0.76, 0.1, 0.1)], 0.1),
        ([(0.9, 0.8, 0.1), (0.1, 0.1, 0.1)], 0.8),
        ([(0.25, 0.8, 0.8), (0.75, 0.1, 0.1)], 0.5),
        ([(0.25, 0.8, 0.9), (0.75, 0.1, 0.1)], 4 / 13),
        ([(0.25, 0.8, 0.1), (0.75, 0.1, 0.9)], 0.8),
    ],
    ids=[
        "a half at score and area",
        "above the score",
        "too small an area",
        "a larger area",
        "as high as a negative there",
        "below a negative there",
        "a negative elsewhere does not matter",
    ],
)
def test_the_probability_is_a_half_where_the_answer_turns(areas: list[tuple[float, float, float]], p: float) -> None:
    scores = to_scores([decide_area(pixels(*areas), RUST, RULE)], RUST)

    assert scores.p == pytest.approx([p], abs=1e-6)


@given(st.data())
def test_yes_means_that_the_marked_share_is_large_enough(data: st.DataObject) -> None:
    yes, no = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 3))
    random = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    rule = Rule(score=0.45, min_area=data.draw(st.integers(1, 35)) / 35)
    p = random.uniform(0.05, 0.95, (yes + no, 7, 5)).round(2)
    phrases = Phrases(tuple(f"yes {i}" for i in range(yes)), (*(f"no {i}" for i in range(no)), NOTHING))

    answer = decide_area(np.log(p) - np.log1p(-p), phrases, rule)

    marked = (p[:yes].max(axis=0) >= rule.score) & (p[:yes].max(axis=0) >= p[yes:].max(axis=0, initial=0))
    assert (answer.margin >= 0) == (int(marked.sum()) >= round(rule.min_area * 35))
    mask = answer.evidence.mask
    assert (mask is not None) == bool(marked.any())
    if mask is not None:
        assert np.array_equal(mask.cells(), 255 * marked)
        assert mask.share == pytest.approx(marked.mean(), abs=1e-5)
        places = p[:yes].argmax(axis=0)[marked]
        assert mask.phrase == f"yes {np.bincount(places).argmax()}"


def test_without_a_least_area_one_pixel_is_enough() -> None:
    one = decide_area(pixels((0.01, 0.6, 0.1), (0.99, 0.1, 0.1)), RUST, Rule(0.5, 0.0))

    assert one.margin == pytest.approx(math.log(1.5))


def test_templates_are_no_reason_to_ask_again_and_the_rule_is(clipseg: Path) -> None:
    source, asked = load_segmentation(scenario(clipseg)), scenario(clipseg)

    assert source.question(asked) == source.question(asked.model_copy(update={"templates": "plain"}))
    assert source.question(asked) == source.question(scenario(clipseg, score=DEFAULT.score))
    assert source.question(asked) != source.question(scenario(clipseg, min_area=0.2))


def test_a_phrase_that_is_not_read_to_its_end_is_refused(clipseg: Path, tmp_path: Path) -> None:
    long = scenario(clipseg).model_copy(update={"negative": ("a very long stripe",)})

    with pytest.raises(ScenarioError, match=r"has 17 tokens, and the model local-dir:.* reads 16"):
        load_segmentation(long).score(photos(tmp_path), long)


def test_what_marks_nothing_is_refused(tmp_path: Path) -> None:
    folder = make_owl(tmp_path / "owl")

    with pytest.raises(TeacherError) as caught:
        load_segmentation(scenario(folder))
    assert "owlv2 marks nothing that phrases name" in str(caught.value)
