"""Shares, intervals and counts, held against scikit-learn and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
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


@given(st.integers(1, 400), st.data())
def test_wilson_is_scipys(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    interval = binomtest(hits, n).proportion_ci(0.95, "wilson")

    assert statistics.wilson(hits, n) == pytest.approx((interval.low, interval.high), abs=1e-6)


@pytest.mark.parametrize("bar", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95])
def test_the_smallest_sample_is_the_smallest(bar: float) -> None:
    perfect = (binomtest(n, n).proportion_ci(0.95, "wilson").low for n in range(1, 200))

    assert statistics.min_sample_size(bar) == next(n for n, low in enumerate(perfect, 1) if low >= bar)


def test_a_sample_whose_interval_ends_at_the_bar_is_enough_and_no_sample_shows_a_certainty() -> None:
    assert statistics.min_sample_size(statistics.wilson(7, 7)[0]) == 7
    assert statistics.min_sample_size(1.0) == 1, "what cannot be shown asks for no more than one"


def test_a_share_of_nothing_is_no_number() -> None:
    found = statistics.proportion(0, 0)

    assert math.isnan(found.figure) and (found.n, found.interval) == (0, (0.0, 1.0))
    assert statistics.share(np.array([True, False, True, True])) == statistics.proportion(3, 4)


def test_the_interval_of_a_mean_of_two_shares_is_that_of_zou_and_donner() -> None:
    """MOVER: the distances of the ends from the estimates, added as squares; here for the mean of two, so halved."""
    found = Confusion(hits=30, misses=10, false_alarms=15, correct_rejections=75).balanced_accuracy
    (l1, u1), (l2, u2) = (binomtest(k, n).proportion_ci(0.95, "wilson") for k, n in ((30, 40), (75, 90)))
    below, above = np.hypot(30 / 40 - l1, 75 / 90 - l2) / 2, np.hypot(u1 - 30 / 40, u2 - 75 / 90) / 2
    middle = (30 / 40 + 75 / 90) / 2

    assert (found.figure, found.n) == (pytest.approx(middle), 130)
    assert found.interval == pytest.approx((middle - below, middle + above), abs=1e-6)


def test_break_even_of_nothing_is_a_half() -> None:
    assert break_even(np.zeros(0)) == 0.5


def test_break_even_adds_up_in_double_precision() -> None:
    """In single precision these two add up to 1.5, and one and two are equally near."""
    probability = np.array([np.nextafter(np.float32(0.5), np.float32(0)), 1], np.float32)

    assert break_even(probability) == 1.0


@pytest.mark.parametrize("bins", [10, 4])
def test_calibration_error_is_the_mean_gap_of_scikit_learns_curve(bins: int) -> None:
    random = np.random.default_rng(0)
    probability = np.append(random.random(1000) ** 2, np.ones(5))  # 1 itself belongs to the last bin
    share = np.where(probability < 0.9, 0.25 + 0.5 * probability, 1)  # errs both ways, lest bins do not matter
    truth = np.append(random.random(1000) < share[:1000], [True, True, True, False, False])
    right, said = calibration_curve(truth, probability, n_bins=bins)
    counts = np.histogram(probability, bins, (0, 1))[0]
    found = statistics.calibration_error(truth, probability, *([bins] if bins != 10 else []))

    assert found == pytest.approx((np.abs(right - said) * counts).sum() / counts.sum(), abs=1e-12)
    assert found > 0.05
    assert statistics.calibration_error(truth[:0], probability[:0]) is None


def test_balanced_accuracy_has_an_interval_even_when_nothing_is_wrong() -> None:
    truth = np.arange(26) % 2 == 0
    found = statistics.balanced_accuracy(truth, truth)

    assert found.figure == 1.0
    assert found.interval == pytest.approx((0.839, 1.0), abs=0.001)
    half_right = statistics.balanced_accuracy(truth, np.ones(26, bool))
    assert half_right.figure == 0.5
