"""Log-odds, sigmoid, doubt and cost, against scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn.metrics import log_loss as scikit_learns

from clip_factory.label_sources import probabilities


def test_log_odds_are_scipys_of_the_summed_sides() -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(5), 50).astype(np.float32)
    found = probabilities.log_odds(scores, 2)

    assert found == pytest.approx(logit(scores[:, :2].sum(axis=1, dtype=np.float64)), abs=1e-5)
    assert found.dtype == np.float64
    assert probabilities.sigmoid(found) == pytest.approx(scores[:, :2].sum(axis=1), abs=1e-6)


def test_log_odds_of_certainty_are_finite_and_keep_what_a_float_has_lost() -> None:
    one = np.array([[1, 0], [0, 1], [1, 1e-20], [1e-20, 1]], np.float32)

    assert probabilities.log_odds(one, 1) == pytest.approx(np.log([1e30, 1e-30, 1e20, 1e-20]), rel=1e-6)


def test_the_sigmoid_is_scipys_and_never_overflows() -> None:
    logits = np.array([-1e6, -600, -499, -3, 0, 3, 499, 600, 1e6], np.float32)
    with np.errstate(all="raise"):
        found = probabilities.sigmoid(logits)

    assert found == pytest.approx(expit(np.clip(logits.astype(float), -500, 500)), rel=1e-12, abs=0)
    assert found.dtype == np.float64
    assert found[0] > 0


def test_doubt_is_the_entropy_in_bits() -> None:
    p = np.array([0, 1e-9, 0.1, 0.5, 0.8, 1], np.float32)
    wanted = stats.entropy(np.stack([p.astype(float), 1 - p.astype(float)]), base=2)

    assert probabilities.entropy(p) == pytest.approx(wanted, abs=1e-9)
    assert probabilities.entropy(p)[[0, 3, 5]] == pytest.approx([0, 1, 0], abs=1e-9)


def test_costs_are_scikit_learns_and_bounded() -> None:
    answers, p = np.array([1, 0, 1, 0]), np.array([0.8, 0.3, 0.05, 0.99])
    each = [scikit_learns([a], [x], labels=[0, 1]) for a, x in zip(answers, p, strict=True)]

    assert probabilities.log_loss(answers, p) == pytest.approx(each, abs=1e-12)
    assert probabilities.log_loss(np.array([1, 0, 1, 0]), np.array([0, 1, 1, 0])) == pytest.approx(
        -np.log([1e-4, 1e-4, 1 - 1e-4, 1 - 1e-4])
    )
