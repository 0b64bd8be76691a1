"""The cut: where each need puts the threshold, held against what an exhaustive search over all thresholds finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import confusion_matrix, f1_score, roc_curve

from clip_factory.exporters.calibration import SoftTruth
from clip_factory.exporters.threshold import Curves, choose_threshold
from clip_factory.scenario import Costs, Need, Target
from support.scores import scored


def known(yes: np.ndarray) -> SoftTruth:
    return SoftTruth(yes.astype(float), float(yes.mean()), "gold")


def counts(yes: np.ndarray, p: np.ndarray, threshold: float) -> tuple[int, int, int, int]:
    """(true no, false yes, false no, true yes), by scikit-learn."""
    return tuple(confusion_matrix(yes, p >= threshold, labels=[False, True]).ravel())


def test_break_even_has_as_many_false_alarms_as_misses() -> None:
    yes, p = scored()
    _, alarms, misses, _ = counts(yes, p, choose_threshold(p, known(yes), "break-even").threshold)

    assert abs(alarms - misses) <= 0.02 * len(yes)
    assert min(alarms, misses) > 50


def test_break_even_is_within_a_point_or_two_of_the_best_f1() -> None:
    yes, p = scored()
    best = max(f1_score(yes, p >= threshold) for threshold in np.linspace(0.01, 0.99, 99))

    assert f1_score(yes, p >= choose_threshold(p, known(yes), "break-even").threshold) >= best - 0.015


def test_break_even_follows_the_base_rate_not_the_labels_side_of_a_half() -> None:
    """A teacher that is rarely sure: no label reaches a half, and yet a fifth of the photos are yes."""
    yes, p = scored()
    soft = np.where(yes, 0.42, 0.145)
    cut = choose_threshold(p, SoftTruth(soft, float(soft.mean()), "teacher"), "break-even")

    assert (p >= cut.threshold).mean() == pytest.approx(soft.mean(), abs=0.01)


def test_balanced_reaches_the_best_balanced_accuracy() -> None:
    yes, p = scored(share=0.05)
    alarms, hits, _ = roc_curve(yes, p, drop_intermediate=False)
    true_no, false_yes, false_no, true_yes = counts(yes, p, choose_threshold(p, known(yes), "balanced").threshold)
    reached = (true_yes / (true_yes + false_no) + true_no / (true_no + false_yes)) / 2

    assert reached >= ((hits + 1 - alarms) / 2).max() - 0.01


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_false_alarms_are_kept_to_their_share_on_other_photos(share: float) -> None:
    yes, p = scored()
    cut = choose_threshold(p, known(yes), Target(false_alarms=share))
    other_yes, other = scored(seed=1)
    true_no, false_yes, _, _ = counts(other_yes, other, cut.threshold)

    assert false_yes / (true_no + false_yes) == pytest.approx(share, abs=0.4 * share)
    assert cut.false_alarms == pytest.approx(share, abs=0.2 * share)


def test_recall_and_precision_are_reached_on_other_photos() -> None:
    yes, p = scored()
    other_yes, other = scored(seed=1)
    recall = counts(other_yes, other, choose_threshold(p, known(yes), Target(recall=0.9)).threshold)
    precision = counts(other_yes, other, choose_threshold(p, known(yes), Target(precision=0.9)).threshold)

    assert recall[3] / (recall[3] + recall[2]) == pytest.approx(0.9, abs=0.03)
    assert precision[3] / (precision[3] + precision[1]) == pytest.approx(0.9, abs=0.03)


def test_costs_put_the_line_where_a_calibrated_probability_says() -> None:
    """Elkan 2001: yes from cost(false yes) / (cost(false yes) + cost(false no)) on."""
    yes, p = scored(n=20_000)
    cut = choose_threshold(p, known(yes), Target(costs=Costs(false_yes=1, false_no=4)))

    assert cut.threshold == pytest.approx(0.2, abs=0.05)


def test_a_fixed_threshold_is_taken_as_it_is() -> None:
    yes, p = scored()

    assert choose_threshold(p, known(yes), Target(threshold=0.37)).threshold == 0.37


def test_what_is_expected_at_the_cut_is_what_happens_on_other_photos() -> None:
    yes, p = scored()
    cut = choose_threshold(p, known(yes), "break-even")
    other_yes, other = scored(seed=1)
    true_no, false_yes, false_no, true_yes = counts(other_yes, other, cut.threshold)

    assert cut.recall == pytest.approx(true_yes / (true_yes + false_no), abs=0.03)
    assert cut.precision == pytest.approx(true_yes / (true_yes + false_yes), abs=0.03)
    assert cut.false_alarms == pytest.approx(false_yes / (true_no + false_yes), abs=0.01)


def test_the_interval_holds_the_cut_of_other_photos_and_narrows_with_their_number() -> None:
    few, many = (choose_threshold(p, known(yes), "break-even") for yes, p in (scored(300), scored(20_000)))
    others = [
        choose_threshold(p, known(yes), "break-even", resamples=0).threshold
        for yes, p in (scored(300, seed=s) for s in range(1, 41))
    ]
    inside = [few.interval[0] <= other <= few.interval[1] for other in others]

    assert few.interval[0] < few.threshold < few.interval[1]
    assert sum(inside) >= 30
    assert many.interval[1] - many.interval[0] < (few.interval[1] - few.interval[0]) / 3


def test_near_duplicates_are_drawn_whole() -> None:
    """Ten copies of each photo know no more than one."""
    yes, p = scored(300)
    once = choose_threshold(p, known(yes), "break-even")
    copies = choose_threshold(p.repeat(10), known(yes.repeat(10)), "break-even", np.arange(300).repeat(10))

    assert copies.interval == pytest.approx(once.interval, abs=0.05)


def test_curves_count_what_lies_above() -> None:
    yes, p = scored(500)
    curves = Curves.of(p, known(yes))
    for at in (100, 300, 500):
        assert curves.hits[at] == pytest.approx((yes & (p >= expit(curves.grid[at]))).sum(), abs=3)
        assert curves.alarms[at] == pytest.approx((~yes & (p >= expit(curves.grid[at]))).sum(), abs=3)


def test_no_photos_at_all_still_have_a_threshold() -> None:
    assert 0 < choose_threshold(np.zeros(0), SoftTruth(np.zeros(0), 0.5, "teacher"), "break-even").threshold < 1


@pytest.mark.parametrize(
    ("need", "words"),
    [
        ("balanced", "balanced"),
        (Target(false_alarms=0.01), "false alarms on 1 % of the no photos"),
        (Target(recall=0.9), "finds 90 % of the yes photos"),
        (Target(costs=Costs(false_yes=1, false_no=5)), "a wrong yes costs 1, a wrong no 5"),
    ],
)
def test_the_need_is_said_in_words(need: Need, words: str) -> None:
    yes, p = scored(200)

    assert choose_threshold(p, known(yes), need, resamples=0).target == words


def test_what_no_threshold_reaches_is_said_so() -> None:
    random = np.random.default_rng(0)
    yes, noise = random.random(400) < 0.2, random.random(400)
    right, p = known(yes), 0.2 + 0.1 * noise

    assert not choose_threshold(p, right, Target(precision=0.97)).reached
    assert choose_threshold(p, right, "break-even").reached
    better, sharp = scored()
    assert choose_threshold(sharp, known(better), Target(precision=0.9)).reached


def test_a_fixed_threshold_is_its_own_interval() -> None:
    yes, p = scored(500)

    assert choose_threshold(p, known(yes), Target(threshold=0.615)).interval == (0.615, 0.615)
