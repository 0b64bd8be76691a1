"""Shares, intervals and counts, held against scikit-learn and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from clip_factory import statistics
from clip_factory.statistics import Confusion, break_even


def test_confusion_counts_as_scikit_learn_does() -> None:
    random = np.random.default_rng(0)
    truth, answers = random.random(500) < 0.2, random.random(500) < 0.3
    found = Confusion.of(truth, answers)

    assert [found.correct_rejections, found.false_alarms, found.misses, found.hits] == confusion_matrix(
        truth, answers
    ).ravel().tolist()
    assert found.recall.figure == pytest.approx(recall_score(truth, answers))
    assert found.precision.figure == pytest.approx(precision_score(truth, answers))
    assert found.f1 == pytest.approx(f1_score(truth, answers))
    assert found.balanced_accuracy.figure == pytest.approx(balanced_accuracy_score(truth, answers))
    assert found.false_alarm_rate.figure == pytest.approx(answers[~truth].mean())
    assert math.isnan(Confusion(0, 0, 0, 3).f1)


def test_the_sentence_counts_in_words() -> None:
    assert Confusion(31, 4, 1, 174).sentence == (
        "finds 31 of 35 (74 to 95 %), misses 4; 1 false alarm among 175 (0 to 3 %)"
    )
    assert Confusion(0, 0, 2, 8).sentence == "finds 0 of 0, misses 0; 2 false alarms among 10 (6 to 51 %)"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200, unique=True))
def test_break_even_calls_as_many_yes_as_the_probabilities_promise(values: list[float]) -> None:
    p = np.array(values)

    assert abs((p >= break_even(p)).sum() - min(max(p.sum(), 1), len(p))) <= 0.5


def test_break_even_of_equal_probabilities_takes_the_nearest_number() -> None:
    assert break_even(np.array([0.97] * 60 + [0.03] * 240)) == 0.97
    assert break_even(np.array([0.9, 0.6, 0.6])) == 0.6


def test_wilson_matches_published_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, and 0 of 20
    assert statistics.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert statistics.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert statistics.wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 400), st.data())
def test_wilson_holds_the_share(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    low, high = statistics.wilson(hits, n)

    assert 0 <= low <= hits / n + 1e-12 and hits / n - 1e-12 <= high <= 1


def test_the_smallest_sample_is_the_smallest() -> None:
    n = statistics.min_sample_size(0.9)

    assert statistics.wilson(n, n)[0] >= 0.9 > statistics.wilson(n - 1, n - 1)[0]


def test_calibration_error() -> None:
    probability = np.repeat([0.25, 0.85], 100)
    truth = np.concatenate([np.arange(100) < 25, np.arange(100) < 65])

    assert statistics.calibration_error(truth, probability) == pytest.approx(0.1)
    assert statistics.calibration_error(truth[:0], probability[:0]) is None


def test_balanced_accuracy_has_an_interval_even_when_nothing_is_wrong() -> None:
    truth = np.arange(26) % 2 == 0
    found = statistics.balanced_accuracy(truth, truth)

    assert found.figure == 1.0
    assert found.interval == pytest.approx((0.839, 1.0), abs=0.001)
    half_right = statistics.balanced_accuracy(truth, np.ones(26, bool))
    assert half_right.figure == 0.5
