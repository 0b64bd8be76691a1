"""Transduction: the folder's groups correct the words, and guards keep them where that is not to be believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from clip_factory.label_sources import transduction
from clip_factory.label_sources.probabilities import log_odds, sigmoid
from clip_factory.label_sources.refinement import PseudoLabels
from clip_factory.label_sources.transduction import (
    MAX_GROWTH,
    MIN_PHOTOS,
    SHARPNESS,
    Guards,
    Transduced,
    Transduction,
    transduce,
)

GOOD = Guards(
    growth=1.0, stability=0.9, agreement=1.0, ranked=0.95, sure=0.1, certain=0.5, certain_yes=0.5, two_groups=0.2
)


def pseudo(vectors: np.ndarray, logits: np.ndarray, **other: object) -> PseudoLabels:
    count = len(logits)
    return PseudoLabels(
        **{
            "log_odds": logits,
            "p": sigmoid(logits),
            "vectors": vectors.astype(np.float32),
            "gold": np.full(count, np.nan),
            "groups": np.arange(count),
            "splits": np.full(count, "train"),
            "unbiased": np.ones(count, bool),
            **other,
        }
    )


def folder(yes: int, no: int, *, shift: float = -1.5, seed: int = 0) -> tuple[PseudoLabels, np.ndarray]:
    """Photos in two groups (the no photos in two kinds), words that lean to no, and the truth."""
    random = np.random.default_rng(seed)
    truth = np.arange(yes + no) < yes
    vectors = random.normal(0, 0.35, (yes + no, 16))
    vectors[truth, 0] += 1.2
    vectors[~truth, 1 + random.integers(0, 2, no)] += 1.2
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    logits = shift + np.where(truth, 1.2, -1.2) + random.normal(0, 1.0, yes + no)
    return pseudo(vectors, logits), truth


def recall_and_false_alarms(p: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    return float((p[truth] >= 0.5).mean()), float((p[~truth] >= 0.5).mean())


def test_photos_that_the_words_miss_are_labeled_by_their_group() -> None:
    labels, truth = folder(150, 350, shift=-0.8)
    result = Transduction().refine(labels)

    before, after = recall_and_false_alarms(labels.p, truth), recall_and_false_alarms(result.p, truth)
    assert result.used and before[0] < 0.75
    assert after[0] > before[0] + 0.15 and after[1] < 0.03
    assert f"{result.figures['moved']:,} of 500 photos have another answer" in result.sentence
    assert result.figures["yes"] == [int((labels.p >= 0.5).sum()), int((result.p >= 0.5).sum())]


@pytest.mark.parametrize("seed", range(6))
def test_a_folder_without_a_yes_grows_at_most_by_the_bound(seed: int) -> None:
    labels, _ = folder(0, 400, seed=seed)
    result = Transduction().refine(labels)

    assert result.p.mean() <= MAX_GROWTH * labels.p.mean() + 1e-9


def test_growth_past_the_bound_is_lowered_to_it_and_said() -> None:
    labels, _ = folder(250, 250, shift=-4.0)
    outcome, result = transduce(labels), Transduction(guarded=False).refine(labels)

    assert outcome.guards.growth > MAX_GROWTH
    assert result.p.mean() == pytest.approx(MAX_GROWTH * labels.p.mean(), rel=1e-6)
    assert "held to 1.5 times the yes that they expect" in result.sentence


def test_the_order_of_photos_is_not_changed_by_the_bound() -> None:
    labels, _ = folder(250, 250, shift=-4.0)
    bounded = transduce(labels).log_odds
    free = transduce(replace(labels, p=np.full(500, 0.9))).log_odds

    assert (np.argsort(bounded) == np.argsort(free)).all() and bounded.mean() < free.mean()


def test_log_odds_are_no_surer_than_a_multiple_of_the_words() -> None:
    labels, _ = folder(150, 350, shift=0.0)

    assert transduce(labels).log_odds.std() == pytest.approx(SHARPNESS * labels.log_odds.std(), rel=1e-6)


def test_few_photos_keep_the_words() -> None:
    labels, _ = folder(30, MIN_PHOTOS - 31)
    enough, _ = folder(30, MIN_PHOTOS - 30, shift=0.0)
    result = Transduction().refine(labels)

    assert not result.used and result.p is labels.p and not result.figures
    assert f"from {MIN_PHOTOS} photos on" in result.sentence
    assert Transduction().refine(enough).figures


def test_photos_without_groups_keep_the_words() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(0, 1, (400, 16))
    labels = pseudo(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), random.normal(-2, 1, 400))
    result = Transduction().refine(labels)

    assert not result.used and result.p is labels.p
    assert result.sentence.startswith("Zero-shot labels stay: ")
    assert result.figures["moved"] == 0


def test_groups_are_used_without_guards_where_that_is_asked_for() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(0, 1, (400, 16))
    labels = pseudo(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), random.normal(-2, 1, 400))

    assert Transduction(guarded=False).refine(labels).used


@pytest.mark.parametrize(
    ("guards", "reason"),
    [
        (GOOD, None),
        (replace(GOOD, two_groups=0.0), "two groups"),
        (replace(GOOD, stability=0.54), "two halves of the folder agree on 54%"),
        (replace(GOOD, stability=0.55), None),
        (replace(GOOD, agreement=0.49), "surest of, 49% would stay yes"),
        (replace(GOOD, agreement=0.5), None),
        (replace(GOOD, ranked=0.84), "rank 84% of the new yes photos first"),
        (replace(GOOD, ranked=0.84, sure=0.05), None),
        (replace(GOOD, ranked=0.85), None),
        (replace(GOOD, growth=9.0), None),
        (replace(GOOD, growth=1.3, certain=0.9, certain_yes=0.3), "sure of 90% of the photos"),
        (replace(GOOD, growth=1.2, certain=0.9, certain_yes=0.3), None),
        (replace(GOOD, growth=1.3, certain=0.89, certain_yes=0.3), None),
        (replace(GOOD, growth=1.3, certain=0.9, certain_yes=0.29), None),
        (replace(GOOD, two_groups=float("nan")), "two groups"),
    ],
)
def test_each_guard_keeps_the_words_and_says_why(guards: Guards, reason: str | None) -> None:
    if reason is None:
        assert guards.refusal is None
    else:
        assert reason in (guards.refusal or "")


def test_labels_that_are_not_by_words_are_called_otherwise() -> None:
    labels, _ = folder(150, 350)
    refused = Transduced(labels.log_odds, replace(GOOD, agreement=0.49))
    by_words, asked = (Transduction().decide(replace(labels, source=name), refused) for name in ("zero-shot", "vqa"))

    assert by_words.sentence == "Zero-shot labels stay: of the photos that the words are surest of, 49% would stay yes."
    assert asked.sentence == "Vqa labels stay: of the photos that the answers are surest of, 49% would stay yes."


def test_what_people_say_of_photos_changes_nothing() -> None:
    labels, truth = folder(150, 350)
    told = replace(labels, gold=truth.astype(float))

    assert (transduce(told).log_odds == transduce(labels).log_odds).all()


def test_stability_is_one_where_both_halves_show_the_same_groups() -> None:
    labels, _ = folder(200, 300, shift=0.0)
    guards = transduce(labels).guards

    assert guards.stability > 0.95 and guards.two_groups > 0.1 and guards.agreement > 0.9
    assert guards.ranked == pytest.approx(0.9, abs=0.1)


def test_two_normals_are_compared_with_one_as_scipy_has_them() -> None:
    random = np.random.default_rng(0)
    yes = random.random(400)
    values = np.where(yes > 0.6, 3.0, -3.0) + random.normal(0, 1, 400)
    seen, held = values[:200], values[200:]
    shares = np.array([1 - yes[:200].mean(), yes[:200].mean()])
    means = [np.average(seen, weights=weights) for weights in (1 - yes[:200], yes[:200])]
    variance = sum(
        np.average((seen - mean) ** 2, weights=weights) * share
        for mean, weights, share in zip(means, (1 - yes[:200], yes[:200]), shares, strict=True)
    )
    two = logsumexp([norm.logpdf(held, mean, variance**0.5) for mean in means], axis=0, b=shares[:, None])
    one = norm.logpdf(held, seen.mean(), seen.std())

    assert transduction._two_groups(seen, yes[:200], held) == pytest.approx((two - one).mean(), abs=1e-6)


def test_words_as_probabilities_of_phrases_give_the_log_odds_that_are_refined() -> None:
    scores = np.array([[0.2, 0.5, 0.3], [0.6, 0.2, 0.2]], np.float32)

    assert log_odds(scores, 1) == pytest.approx(np.log([0.2 / 0.8, 0.6 / 0.4]), abs=1e-6)


def test_the_same_photos_are_refined_to_the_same_labels() -> None:
    labels, _ = folder(150, 350)

    assert (Transduction().refine(labels).p == Transduction().refine(labels).p).all()
