"""Calibration: scale, shift and soft truth, against scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from clip_factory.exporters.calibration import SoftTruth, calibrate, soft_truth


def sample(n: int = 4000, share: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Answers, and calibrated probabilities of a student with an AUC near .95."""
    random = np.random.default_rng(seed)
    yes = random.random(n) < share
    scores = random.normal(0, 1, n) + 2.3 * yes
    return yes, expit(2.3 * scores - 2.3**2 / 2 + np.log(share / (1 - share)))


def test_calibration_undoes_scale_and_shift() -> None:
    random = np.random.default_rng(0)
    z = random.normal(0, 2, 4000)
    answers = (random.random(4000) < 1 / (1 + np.exp(-z))).astype(float)
    found = calibrate(3 * z + 1.5, SoftTruth(answers, 0.5, "gold"))
    assert (found.scale, found.shift) == (pytest.approx(1 / 3, rel=0.1), pytest.approx(-0.5, abs=0.1))


def test_three_images_calibrate_nothing_to_speak_of() -> None:
    found = calibrate(np.array([-3.0, 2.0, 4.0]), SoftTruth(np.array([0.0, 1.0, 1.0]), 0.5, "teacher"))
    assert 0.7 < found.scale < 1.6
    assert abs(found.shift) < 0.7


def test_people_set_the_base_rate() -> None:
    """The teacher thinks half are yes; 200 random answers say a fifth."""
    yes, p = sample(2000)
    teacher = expit(np.log(p / (1 - p)) + 1.6)
    gold = np.where(np.arange(2000) < 200, yes, np.nan)
    right = soft_truth(gold, teacher, np.ones(2000, bool))

    assert teacher.mean() > 0.33
    assert right.base_rate == pytest.approx(yes.mean(), abs=0.03)
    assert right.against == "gold and teacher"


def test_answers_to_doubtful_photos_do_not_set_the_base_rate() -> None:
    yes, p = sample(2000)
    doubtful = np.argsort(np.abs(p - 0.5))[:200]
    gold = np.full(2000, np.nan)
    gold[doubtful] = yes[doubtful]
    right = soft_truth(gold, p, np.zeros(2000, bool))

    assert right.base_rate == pytest.approx(p.mean(), abs=0.01)
    assert right.probability[doubtful].tolist() == yes[doubtful].tolist(), "their own labels count all the same"


def test_without_people_the_teacher_stands_as_it_is() -> None:
    _, p = sample(500)
    right = soft_truth(np.full(500, np.nan), p, np.ones(500, bool))

    assert right.probability == pytest.approx(np.clip(p, 1e-4, 1 - 1e-4), abs=1e-3)
    assert right.against == "teacher"


def test_calibration_keeps_the_share_of_yes() -> None:
    """Doubtful labels count as what they are: the mean of the probabilities is the mean of the labels."""
    yes, p = sample(3000)
    soft = np.where(yes, 0.45, 0.1)
    logits = 3 * (np.log(p / (1 - p)) + 2)
    found = calibrate(logits, SoftTruth(soft, float(soft.mean()), "teacher"))

    assert found.probabilities(logits).mean() == pytest.approx(soft.mean(), abs=0.005)
