"""The rule itself: what passes, what fails, and what the gate declines to claim."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory import statistics
from factory.gate import rule
from factory.gate.rule import Clause, Evidence
from factory.scenario import Scenario

SCENARIO = Scenario(name="x", positive=("x",))


def evidence(n: int = 200, wrong: int = 0, golden: int = 0, gold_wrong: int = 0) -> Evidence:
    """Half yes, half no; the student differs from the teacher on the first `wrong`, from gold on `gold_wrong`."""
    teacher = np.where(np.arange(n) % 2 == 0, 0.97, 0.03).astype(np.float32)
    student = teacher.copy()
    student[:wrong] = 1 - student[:wrong]
    gold = np.full(n, -1)
    gold[:golden] = (student[:golden] >= 0.5).astype(int)
    gold[:gold_wrong] = 1 - gold[:gold_wrong]
    return Evidence(student, student.copy(), teacher, gold, 0.5)


def clauses(found: Evidence, size: int = 200_000) -> dict[str, Clause]:
    return {clause.name: clause for clause in rule.weigh(SCENARIO, found, size)}


def test_a_good_student_passes_and_says_what_was_not_measured() -> None:
    found = clauses(evidence())

    assert rule.is_passed(list(found.values()))
    assert found["agreement"].figure == 1.0
    assert found["gold_accuracy"].verdict == "not measured"
    assert "accuracy is not known" in found["gold_accuracy"].says


@pytest.mark.parametrize(("wrong", "verdict"), [(10, "pass"), (11, "fail")])
def test_agreement_is_held_to_its_bar(wrong: int, verdict: str) -> None:
    found = clauses(evidence(wrong=wrong))["agreement"]

    assert (found.verdict, found.n) == (verdict, 200)
    assert found.interval is not None and found.interval[0] < (found.figure or 0) < found.interval[1]


def test_images_on_which_the_teacher_is_unsure_do_not_count() -> None:
    sample = evidence(wrong=50)
    sample.teacher[:50] = 0.6

    assert clauses(sample)["agreement"].n == 150


def test_a_gate_that_shows_nothing_refuses() -> None:
    unsure = dataclasses.replace(evidence(), teacher=np.full(200, 0.6, np.float32))
    found = clauses(unsure)

    assert found["agreement"].verdict == "not measured"
    assert not rule.is_passed(list(found.values()))


@pytest.mark.parametrize(
    ("golden", "gold_wrong", "verdict"),
    [(100, 10, "pass"), (100, 11, "fail"), (34, 0, "unproven"), (35, 0, "pass"), (20, 3, "unproven"), (20, 10, "fail")],
)
def test_gold_claims_only_what_the_sample_can_show(golden: int, gold_wrong: int, verdict: str) -> None:
    found = clauses(evidence(golden=golden, gold_wrong=gold_wrong))["gold_accuracy"]

    assert found.verdict == verdict
    assert ("label at least 35" in found.says) == (verdict == "unproven")


def test_unproven_gold_does_not_refuse_a_student_that_agrees() -> None:
    assert rule.is_passed(list(clauses(evidence(golden=10)).values()))


def test_parity_size_and_both_classes() -> None:
    drifted = dataclasses.replace(evidence(), network=evidence().student - 0.02)
    one_sided = dataclasses.replace(evidence(), student=np.full(200, 0.9, np.float32))

    assert clauses(drifted)["parity"].verdict == "fail"
    assert clauses(evidence(), 300_000)["bytes"].verdict == "pass"
    assert clauses(evidence(), 300_001)["bytes"].verdict == "fail"
    assert "student answers only one" in clauses(one_sided)["both_classes"].says


def test_labels_picked_for_their_doubt_measure_nothing() -> None:
    held = evidence(n=200, golden=60, gold_wrong=10)
    picked = dataclasses.replace(held, picked=np.arange(200) < 20)
    clause = clauses(picked)["gold_accuracy"]

    assert (clauses(held)["gold_accuracy"].n, clause.n, clause.figure) == (60, 40, 1.0)
    assert "20 picked for their doubt" in clause.says
    assert rule.figures(picked)["gold"]["student"]["accuracy"]["n"] == 40
    assert rule.figures(picked)["confusion"] == rule.figures(held)["confusion"], "they are known all the same"
    nothing_fair = dataclasses.replace(held, picked=np.full(200, True))
    assert clauses(nothing_fair)["gold_accuracy"].verdict == "not measured"


def test_figures_hide_nothing() -> None:
    found = rule.figures(evidence(n=100, wrong=10, golden=60, gold_wrong=6))

    assert found["agreement_all"]["figure"] == pytest.approx(0.9)
    assert found["gold"]["student"]["accuracy"]["n"] == 60
    assert found["gold"]["teacher"]["accuracy"]["figure"] < 1
    assert found["parity"] == {"mean": 0.0, "max": 0.0, "flips": 0, "n": 100}
    assert sum(found["confusion"][k] for k in ("true_yes", "false_yes", "true_no", "false_no")) == 100
    assert found["confusion"]["reference"] == "gold and teacher"


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


def test_least_sample_is_the_least() -> None:
    n = statistics.least_sample(0.9)

    assert statistics.wilson(n, n)[0] >= 0.9 > statistics.wilson(n - 1, n - 1)[0]


def test_calibration_error() -> None:
    probability = np.repeat([0.25, 0.85], 100)
    truth = np.concatenate([np.arange(100) < 25, np.arange(100) < 65])

    assert statistics.calibration_error(truth, probability) == pytest.approx(0.1)
    assert statistics.calibration_error(truth[:0], probability[:0]) is None


def test_no_test_images_is_no_crash() -> None:
    found = rule.figures(evidence(n=0))

    assert math.isnan(found["agreement_all"]["figure"])


def test_balanced_accuracy_has_an_interval_even_when_nothing_is_wrong() -> None:
    truth = np.arange(26) % 2 == 0
    found = statistics.balanced_accuracy(truth, truth)

    assert found.figure == 1.0
    assert found.interval == pytest.approx((0.839, 1.0), abs=0.001)
    half_right = statistics.balanced_accuracy(truth, np.ones(26, bool))
    assert half_right.figure == 0.5
