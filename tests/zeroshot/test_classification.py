"""Probabilities of classes: softmax, the sigmoid of one class alone, everyday things, thresholds, and refinement."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax

from clip_factory.scenario.prompts import BACKGROUND
from clip_factory.zeroshot.classes import prompts_of
from clip_factory.zeroshot.classification import OTHER, UNSURE, Classification, classify
from support.axis_encoder import AxisEncoder, unit

TEMPLATES = ("a {}", "the {}")
WORDS = ("cat", "dog", "sea")


def photos(count: int, encoder: AxisEncoder, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, encoder.dim)))


def of(*names: str):
    return prompts_of({name: [name] for name in names}, TEMPLATES)


# Several classes


@pytest.mark.parametrize("scale", [1.0, 20.0, 5000.0])
def test_several_classes_have_scipys_softmax_of_the_scaled_cosines(scale: float) -> None:
    encoder = AxisEncoder(*WORDS, scale=scale)
    vectors = photos(40, encoder)
    result = classify(vectors, of(*WORDS), encoder, TEMPLATES)

    assert result.probabilities == pytest.approx(softmax(scale * vectors[:, :3].astype(float), axis=1), abs=1e-6)
    assert result.probabilities.sum(axis=1) == pytest.approx(np.ones(40))
    assert (result.names, result.says) == (WORDS, "")


def test_the_bias_of_a_sigmoid_encoder_changes_nothing_between_several_classes() -> None:
    vectors = photos(20, AxisEncoder(*WORDS))
    found = [
        classify(vectors, of(*WORDS), AxisEncoder(*WORDS, bias=bias), TEMPLATES).probabilities for bias in (0, -12)
    ]

    assert (found[0] == found[1]).all()


def test_no_everyday_thing_is_embedded_where_none_is_asked_for() -> None:
    encoder = AxisEncoder(*WORDS)
    classify(photos(3, encoder), of(*WORDS), encoder, TEMPLATES)

    assert encoder.embedded == [text for _, text in of(*WORDS).pairs]


# Answers


def test_an_answer_at_the_threshold_counts_and_one_below_it_is_unsure() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.2, 0.5000001, 0.2999999], [0.3, 0.3, 0.4]])
    result = Classification(WORDS, p, threshold=0.5)

    assert result.answers.tolist() == [0, 1, -1]
    assert result.words == ["cat", "dog", UNSURE]


def test_without_a_threshold_every_photo_has_an_answer() -> None:
    assert Classification(WORDS, np.full((1, 3), 1 / 3)).words == ["cat"]


def test_the_likeliest_classes_come_in_order_and_equals_as_they_are_named() -> None:
    p = np.array([[0.1, 0.6, 0.3], [0.25, 0.25, 0.5]])
    result = Classification(WORDS, p)

    assert result.top(2).tolist() == [[1, 2], [2, 0]]
    assert result.top(9).tolist() == [[1, 2, 0], [2, 0, 1]], "not more than there are"


# One class alone


def test_one_class_alone_has_the_encoders_sigmoid_where_it_has_a_bias() -> None:
    encoder = AxisEncoder("cat", scale=110.0, bias=-16.0)
    vectors = photos(60, encoder)
    result = classify(vectors, of("cat"), encoder, TEMPLATES)

    assert result.probabilities[:, 0] == pytest.approx(expit(110.0 * vectors[:, 0].astype(float) - 16.0), abs=1e-4)
    assert result.names == ("cat",) and "sigmoid" in result.says
    assert np.ptp(result.probabilities) > 0.9


def test_one_class_alone_is_a_share_against_each_everyday_thing_where_there_is_no_sigmoid() -> None:
    encoder = AxisEncoder("cat", "person", "food", "street", scale=7.0)
    vectors = photos(30, encoder)
    result = classify(vectors, of("cat"), encoder, TEMPLATES)
    texts = encoder.embed_texts(["a cat", *(one.replace("{}", thing) for thing in BACKGROUND for one in TEMPLATES)])
    wanted = softmax(7.0 * vectors.astype(float) @ texts.T, axis=1)[:, 0]

    assert result.probabilities.shape == (30, 1)
    assert result.probabilities[:, 0] == pytest.approx(wanted, abs=1e-5)
    assert "everyday things" in result.says


def test_one_class_alone_may_be_unsure() -> None:
    encoder = AxisEncoder("cat", bias=-5.0)
    result = classify(unit(np.eye(2)), of("cat"), encoder, TEMPLATES, threshold=0.5)

    assert result.words == ["cat", UNSURE]


# Everyday things


def test_other_is_the_sum_of_the_background_phrases_of_one_softmax() -> None:
    encoder = AxisEncoder("cat", "dog", "person", "sky", scale=5.0)
    vectors = photos(30, encoder)
    result = classify(vectors, of("cat", "dog"), encoder, TEMPLATES, other=True)
    things = [one.replace("{}", thing) for thing in BACKGROUND for one in TEMPLATES]
    texts = encoder.embed_texts(["a cat", "a dog", *things])
    wanted = softmax(5.0 * vectors.astype(float) @ texts.T, axis=1)

    assert result.names == ("cat", "dog", OTHER)
    assert result.probabilities[:, :2] == pytest.approx(wanted[:, :2], abs=1e-5)
    assert result.probabilities[:, 2] == pytest.approx(wanted[:, 2:].sum(axis=1), abs=1e-5)


def test_a_photo_of_an_everyday_thing_is_other_unless_a_class_names_it() -> None:
    encoder = AxisEncoder("cat", "dog", "person")
    person = unit(np.eye(4)[[2]] + 0.05)
    unnamed = classify(person, of("cat", "dog"), encoder, TEMPLATES, other=True)
    named = classify(person, of("cat", "person"), encoder, TEMPLATES, other=True)

    assert unnamed.words == [OTHER] and named.words == ["person"]
    assert classify(person, of("cat", "dog"), encoder, TEMPLATES).words != [OTHER]


def test_other_beside_one_class_leaves_the_rest_of_its_probability() -> None:
    encoder = AxisEncoder("cat", "person")
    vectors = photos(10, encoder)
    both = classify(vectors, of("cat"), encoder, TEMPLATES, other=True)
    alone = classify(vectors, of("cat"), encoder, TEMPLATES)

    assert both.names == ("cat", OTHER)
    assert both.probabilities.sum(axis=1) == pytest.approx(np.ones(10))
    assert both.probabilities[:, 0] == pytest.approx(alone.probabilities[:, 0])


# Refinement


def folder(count: int, seed: int = 0) -> tuple[AxisEncoder, np.ndarray, np.ndarray]:
    """Photos in three groups, all of which lean toward the dog, so that words alone confuse cats and dogs."""
    random = np.random.default_rng(seed)
    kind = np.arange(count) % 3
    encoder = AxisEncoder(*WORDS, *(f"spare {i}" for i in range(20)))
    vectors = 0.5 * np.eye(encoder.dim)[kind] + random.normal(0, 0.1, (count, encoder.dim))
    vectors[:, 1] += 0.5
    vectors[np.arange(count), 8 + kind] += 1.5
    return encoder, unit(vectors), kind


def test_refinement_corrects_a_class_that_words_confuse() -> None:
    encoder, vectors, kind = folder(240)
    words = classify(vectors, of(*WORDS), encoder, TEMPLATES)
    result = classify(vectors, of(*WORDS), encoder, TEMPLATES, refine=True)

    recalls = [[(one.answers[kind == k] == k).mean() for k in range(3)] for one in (words, result)]
    assert min(recalls[0]) < 0.6 < 0.99 <= min(recalls[1])
    assert result.probabilities.sum(axis=1) == pytest.approx(np.ones(240))


def test_refinement_says_how_many_photos_have_another_class_now() -> None:
    encoder, vectors, _ = folder(240)
    words = classify(vectors, of(*WORDS), encoder, TEMPLATES)
    result = classify(vectors, of(*WORDS), encoder, TEMPLATES, refine=True)
    moved = (words.answers != result.answers).sum()

    assert moved > 20
    assert result.says == f"The folder's own groups gave {moved:,} of 240 photos another class."


@pytest.mark.parametrize("other", [False, True])
def test_fewer_than_a_hundred_photos_are_not_refined_and_a_hundred_are(other: bool) -> None:
    encoder, vectors, _ = folder(100)
    few, words, enough = (
        classify(rows, of(*WORDS), encoder, TEMPLATES, other=other, refine=refine)
        for rows, refine in ((vectors[:99], True), (vectors[:99], False), (vectors, True))
    )

    assert "from 100 photos on" in few.says
    assert (few.probabilities == words.probabilities).all()
    assert "of 100 photos another class" in enough.says


def test_refinement_keeps_the_threshold_and_the_class_of_everyday_things() -> None:
    encoder, vectors, _ = folder(240)
    result = classify(vectors, of(*WORDS), encoder, TEMPLATES, refine=True, other=True, threshold=0.25)

    assert result.names == (*WORDS, OTHER) and result.threshold == 0.25
    assert result.probabilities.shape == (240, 4)
    assert result.probabilities.sum(axis=1) == pytest.approx(np.ones(240))


def test_refinement_is_the_same_for_photos_in_another_order() -> None:
    encoder, vectors, _ = folder(150)
    order = np.random.default_rng(1).permutation(150)
    result = classify(vectors, of(*WORDS), encoder, TEMPLATES, refine=True)
    shuffled = classify(vectors[order], of(*WORDS), encoder, TEMPLATES, refine=True)

    assert shuffled.probabilities == pytest.approx(result.probabilities[order], abs=1e-3)
