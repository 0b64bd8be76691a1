"""Calibration: scale, shift and soft truth, against scikit-learn and scipy."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit, xlogy
from sklearn.linear_model import LogisticRegression

from clip_factory.exporters.calibration import Calibration, SoftTruth, calibrate, fit_platt, soft_truth
from support.scores import scored


def test_calibration_undoes_scale_and_shift() -> None:
    random = np.random.default_rng(0)
    z = random.normal(0, 2, 4000)
    answers = (random.random(4000) < 1 / (1 + np.exp(-z))).astype(float)
    found = calibrate(3 * z + 1.5, SoftTruth(answers, 0.5, "gold"))
    assert (found.scale, found.shift) == (pytest.approx(1 / 3, rel=0.1), pytest.approx(-0.5, abs=0.1))
    assert (found.against, found.images) == ("gold", 4000)


def test_scale_and_shift_are_the_optimum_that_scipy_finds() -> None:
    """The likelihood of soft answers and a prior worth one image, by gradients instead of the product's own search."""
    random = np.random.default_rng(0)
    for count in (3, 40, 500):
        logits = random.normal(1, 3, count)
        target = expit(0.5 * logits - 1 + random.normal(0, 1, count))

        def cost(x: np.ndarray, logits: np.ndarray = logits, target: np.ndarray = target) -> float:
            p = expit(np.exp(x[0]) * logits + x[1])
            return -(xlogy(target, p) + xlogy(1 - target, 1 - p)).sum() + x[0] ** 2 + x[1] ** 2

        optimum = minimize(cost, np.zeros(2), method="BFGS").x
        assert fit_platt(logits, target) == pytest.approx((np.exp(optimum[0]), optimum[1]), abs=2e-3)


def test_of_many_images_it_is_scikit_learns_logistic_regression() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(1, 3, 20_000)
    soft = expit(0.4 * logits + 0.7)
    twice = np.concatenate([logits, logits])[:, None]
    answers, weight = np.repeat([1, 0], 20_000), np.concatenate([soft, 1 - soft])
    fitted = LogisticRegression(C=np.inf).fit(twice, answers, sample_weight=weight)
    scale, shift = fit_platt(logits, soft)

    assert (scale, shift) == (
        pytest.approx(fitted.coef_[0, 0], rel=2e-3),
        pytest.approx(fitted.intercept_[0], abs=2e-3),
    )


def test_nothing_to_fit_to_changes_nothing() -> None:
    assert fit_platt(np.zeros(0), np.zeros(0)) == pytest.approx((1, 0), abs=1e-3)


def test_a_calibration_gives_probabilities_and_survives_its_file() -> None:
    found = calibrate(np.linspace(-3, 4, 50), SoftTruth(np.linspace(0, 1, 50), 0.5, "gold and teacher"))
    logits = np.array([-800.0, -1.0, 0.0, 2.0, 800.0])

    assert found.probabilities(logits) == pytest.approx(expit(found.scale * logits + found.shift), rel=1e-6)
    assert found.probabilities(logits).dtype == np.float32
    assert found.to_dict() == {
        "method": "platt",
        "scale": found.scale,
        "shift": found.shift,
        "against": "gold and teacher",
        "images": 50,
    }
    assert Calibration.read(json.dumps(found.to_dict())) == found
    assert (found.scale, found.shift) == (round(found.scale, 6), round(found.shift, 6)), (
        "what is written is what is used"
    )


def test_soft_truth_is_gold_and_else_the_teacher_fitted_to_what_was_asked_at_random() -> None:
    random = np.random.default_rng(0)
    p = np.clip(random.random(60), 0, 1).astype(np.float32)
    p[:2] = 0, 1
    gold = np.where(np.arange(60) % 3 == 0, random.random(60) < p, np.nan)
    unbiased = np.arange(60) % 2 == 0
    asked = ~np.isnan(gold) & unbiased
    log_odds = logit(np.clip(p.astype(float), 1e-4, 1 - 1e-4))
    scale, shift = fit_platt(log_odds[asked], gold[asked])
    found = soft_truth(gold, p, unbiased)

    assert found.probability == pytest.approx(np.where(np.isnan(gold), expit(scale * log_odds + shift), gold))
    assert found.base_rate == pytest.approx(found.probability.mean())
    assert [soft_truth(g, p, unbiased).against for g in (gold, np.zeros(60), np.full(60, np.nan))] == [
        "gold and teacher",
        "gold",
        "teacher",
    ]
    assert soft_truth(np.zeros(0), np.zeros(0), np.zeros(0, bool)).base_rate == 0.5
    part = found.select(np.array([5, 0]))
    assert part.probability.tolist() == found.probability[[5, 0]].tolist()
    assert (part.base_rate, part.against) == (found.base_rate, found.against)


def test_three_images_calibrate_nothing_to_speak_of() -> None:
    found = calibrate(np.array([-3.0, 2.0, 4.0]), SoftTruth(np.array([0.0, 1.0, 1.0]), 0.5, "teacher"))
    assert 0.7 < found.scale < 1.6
    assert abs(found.shift) < 0.7


def test_people_set_the_base_rate() -> None:
    """The teacher thinks half are yes; 200 random answers say a fifth."""
    yes, p = scored(2000)
    teacher = expit(np.log(p / (1 - p)) + 1.6)
    gold = np.where(np.arange(2000) < 200, yes, np.nan)
    right = soft_truth(gold, teacher, np.ones(2000, bool))

    assert teacher.mean() > 0.33
    assert right.base_rate == pytest.approx(yes.mean(), abs=0.03)
    assert right.against == "gold and teacher"


def test_answers_to_doubtful_photos_do_not_set_the_base_rate() -> None:
    yes, p = scored(2000)
    doubtful = np.argsort(np.abs(p - 0.5))[:200]
    gold = np.full(2000, np.nan)
    gold[doubtful] = yes[doubtful]
    right = soft_truth(gold, p, np.zeros(2000, bool))

    assert right.base_rate == pytest.approx(p.mean(), abs=0.01)
    assert right.probability[doubtful].tolist() == yes[doubtful].tolist(), "their own labels count all the same"


def test_without_people_the_teacher_stands_as_it_is() -> None:
    _, p = scored(500)
    right = soft_truth(np.full(500, np.nan), p, np.ones(500, bool))

    assert right.probability == pytest.approx(np.clip(p, 1e-4, 1 - 1e-4), abs=1e-3)
    assert right.against == "teacher"


def test_calibration_keeps_the_share_of_yes() -> None:
    """Doubtful labels count as what they are: the mean of the probabilities is the mean of the labels."""
    yes, p = scored(3000)
    soft = np.where(yes, 0.45, 0.1)
    logits = 3 * (np.log(p / (1 - p)) + 2)
    found = calibrate(logits, SoftTruth(soft, float(soft.mean()), "teacher"))

    assert found.probabilities(logits).mean() == pytest.approx(soft.mean(), abs=0.005)
