"""The rule itself: what passes, what is not proven, what is refused, and that none of it claims what it cannot show."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from clip_factory import statistics
from clip_factory.gate import rule, verdict
from clip_factory.gate.evidence import Evidence
from clip_factory.gate.figures import compute_figures, summarize
from clip_factory.gate.rule import Clause
from clip_factory.gate.verdict import Verdict
from clip_factory.scenario import Scenario, Target
from clip_factory.statistics import Confusion, break_even

SCENARIO = Scenario(name="x", positive=("x",))
FEW_ALARMS = Scenario(name="x", positive=("x",), target=Target(false_alarms=0.01))


def evidence(
    yes: int = 60,
    no: int = 240,
    misses: int = 0,
    false_alarms: int = 0,
    golden: bool | float = False,
    sure: bool = True,
) -> Evidence:
    """A student that misses some yes photos and says yes to some no photos, of its teacher's; people agree with it."""
    truth = np.arange(yes + no) < yes
    answers = truth.copy()
    answers[:misses] = False
    answers[yes : yes + false_alarms] = True
    teacher = np.where(truth, 0.97 if sure else 0.6, 0.03 if sure else 0.4)
    gold = np.where(np.random.default_rng(0).random(yes + no) < float(golden), truth.astype(float), np.nan)
    student = np.where(answers, 0.9, 0.1)
    return Evidence(student, student.copy(), teacher, gold, 0.5, teacher_threshold=break_even(teacher))


def judged(found: Evidence, scenario: Scenario = SCENARIO, size: int = 200_000) -> tuple[Verdict, dict[str, Clause]]:
    clauses = rule.evaluate_clauses(scenario, found, size)
    return rule.decide(scenario, found, clauses), {clause.name: clause for clause in clauses}


def test_people_who_have_said_enough_let_a_good_student_pass() -> None:
    found, clauses = judged(evidence(misses=4, false_alarms=3, golden=True))

    assert found == Verdict(
        "passed", "Finds 56 of 60 (84 to 97 %), misses 4; 3 false alarms among 240 (0 to 4 %), by people's labels.", ()
    )
    assert {name for name, clause in clauses.items() if not clause.decides} == {"agreement", "balanced_agreement"}


def test_words_alone_never_pass() -> None:
    found, _ = judged(evidence())

    assert found.state == "not proven"
    assert found.headline.startswith("Follows its teacher, and nobody has checked the teacher: finds 60 of 60")
    assert found.headline.endswith("by its teacher's word.")
    assert "No test image has a label from a person" in found.reasons[-1]


def test_two_of_twenty_five_is_refused_though_the_teacher_is_sure_of_noes_alone() -> None:
    """Nearly all photos of which the teacher is sure are no: agreement on them is perfect, and means nothing."""
    held = evidence(yes=25, no=155, misses=23)
    held.teacher[:25] = 0.7
    found, clauses = judged(replace(held, teacher_threshold=0.5))

    assert clauses["agreement"].verdict == "pass"
    assert found.state == "refused"
    assert found.headline.startswith("Finds 2 of 25")
    assert "It finds 2 of 25 yes photos, by its teacher's word. Asked is at least 70%." in found.reasons


def test_a_rare_class_cannot_be_satisfied_by_saying_no() -> None:
    found, clauses = judged(evidence(yes=6, no=194, misses=6, golden=True))

    assert found.state == "refused"
    assert clauses["gold_accuracy"].figure == 0.97, "which accuracy alone would let pass"


def test_three_photos_prove_nothing() -> None:
    found, _ = judged(evidence(yes=1, no=2))

    assert found.state == "not proven"
    assert found.headline.startswith("Not shown to follow its teacher")


def test_thirty_two_of_thirty_five_do_not_show_nine_in_ten() -> None:
    found, clauses = judged(evidence(yes=17, no=18, misses=2, false_alarms=1, golden=True))

    assert clauses["gold_accuracy"].figure == pytest.approx(32 / 35)
    assert clauses["gold_accuracy"].verdict == "unproven"
    assert found.state == "not proven"
    assert any("Too few photos to show at least 90%, as is asked." in reason for reason in found.reasons)


@pytest.mark.parametrize("misses", range(0, 61, 4))
def test_recall_passes_on_its_interval_alone(misses: int) -> None:
    _, clauses = judged(evidence(misses=misses, golden=True))
    low, high = statistics.wilson(60 - misses, 60)
    wanted = "pass" if low >= 0.7 else "fail" if high < 0.7 else "unproven"

    assert clauses["recall"].verdict == wanted
    assert clauses["recall"].interval == pytest.approx((low, high))


def test_precision_counts_false_alarms_against_answers() -> None:
    for alarms, wanted in ((5, "pass"), (25, "unproven"), (60, "fail")):
        _, clauses = judged(evidence(false_alarms=alarms, golden=True))
        assert clauses["precision"].verdict == wanted
        assert clauses["precision"].n == 60 + alarms


def test_where_false_alarms_are_the_target_they_are_asked_in_place_of_precision() -> None:
    for alarms, wanted in ((2, "pass"), (12, "unproven"), (40, "fail")):
        _, clauses = judged(evidence(false_alarms=alarms, golden=True), FEW_ALARMS)
        assert "precision" not in clauses
        assert clauses["false_alarms"].verdict == wanted
        assert clauses["false_alarms"].rule == "<= 0.05"


def test_a_few_answers_cannot_pass_and_can_refuse() -> None:
    right = evidence(yes=60, no=240)
    right.gold[:5], right.gold[60:80] = 1, 0
    wrong = evidence(yes=60, no=240)
    wrong.gold[60:66], wrong.gold[80:100] = 1, 0  # all that people call yes, it calls no

    assert judged(right)[0].state == "not proven"
    assert "25 labels from people are too few to check the teacher" in judged(right)[0].headline
    assert "by its teacher's word" in judged(right)[0].headline
    refused = judged(wrong)[0]
    assert refused.state == "refused"
    assert refused.headline.startswith("Finds 0 of 6")
    assert refused.headline.endswith("by people's labels.")


def test_where_people_have_said_enough_the_teacher_cannot_refuse() -> None:
    """The student is right and the teacher is wrong on half of the yes photos."""
    held = evidence(golden=True)
    held.teacher[:30] = 0.03
    held.teacher[60:90] = 0.97
    found, clauses = judged(held)

    assert clauses["agreement"].verdict == "fail"
    assert found.state == "passed"


def test_a_rarely_sure_teacher_is_followed_at_its_own_base_rate() -> None:
    """No probability reaches a half; as many as they promise are its yeses."""
    teacher = np.concatenate([np.linspace(0.35, 0.45, 60), np.linspace(0.05, 0.25, 240)])
    answers = np.arange(300) < round(teacher.sum())
    student = np.where(answers, 0.9, 0.1)
    held = Evidence(student, student, teacher, np.full(300, np.nan), 0.5, teacher_threshold=break_even(teacher))

    assert held.teacher_answers.sum() == answers.sum()
    assert judged(held)[1]["recall"].figure == 1.0
    assert judged(held)[1]["recall"].n == round(teacher.sum())


def test_parity_size_and_both_classes_refuse() -> None:
    good = evidence(golden=True)
    drifted = replace(good, network=good.student - 0.02)
    one_sided = replace(good, student=np.full(300, 0.9))

    assert judged(drifted)[0].state == "refused"
    assert judged(drifted)[1]["parity"].verdict == "fail"
    assert judged(good, size=300_000)[0].state == "passed"
    assert judged(good, size=300_001)[0].state == "refused"
    assert "student answers only one" in judged(one_sided)[1]["both_classes"].says


def test_labels_picked_for_their_doubt_measure_nothing() -> None:
    held = evidence(golden=True)
    held.gold[:10] = 0
    picked = replace(held, picked=np.arange(300) < 10)

    assert judged(held)[1]["gold_accuracy"].n == 300
    assert judged(picked)[1]["gold_accuracy"].n == 290
    assert judged(picked)[1]["gold_accuracy"].figure == 1.0
    assert "10 picked for their doubt" in judged(picked)[1]["gold_accuracy"].says
    assert compute_figures(SCENARIO, picked)["confusion"] == compute_figures(SCENARIO, held)["confusion"], (
        "known all the same"
    )
    nothing_fair = replace(held, picked=np.full(300, True))
    assert judged(nothing_fair)[1]["gold_accuracy"].verdict == "not measured"
    assert judged(nothing_fair)[0].state == "not proven"


@pytest.mark.parametrize("truth", [0.66, 0.69])
def test_a_student_below_the_bar_passes_three_times_in_a_hundred_at_most(truth: float) -> None:
    random = np.random.default_rng(0)
    passed = 0
    for _ in range(2000):
        misses = 60 - random.binomial(60, truth)
        passed += judged_recall(misses) == "pass"

    assert passed / 2000 <= 0.03


def judged_recall(misses: int) -> str:
    found = Confusion(60 - misses, misses, 0, 240)
    return rule._recall_and_precision(SCENARIO, found, "")[0].verdict


def test_figures_hide_nothing() -> None:
    held = evidence(misses=6, false_alarms=10, golden=0.5)
    found = compute_figures(SCENARIO, held)

    assert found["outcome"]["against"] == "people"
    assert found["agreement_all"]["figure"] == pytest.approx(1 - 16 / 300)
    assert found["gold"]["student"]["accuracy"]["n"] == held.labeled.sum()
    assert found["gold"]["teacher"]["accuracy"]["figure"] == 1
    assert found["parity"] == {"mean": 0.0, "max": 0.0, "flips": 0, "n": 300}
    assert sum(found["confusion"][k] for k in ("true_yes", "false_yes", "true_no", "false_no")) == 300
    assert found["confusion"]["reference"] == "gold and teacher"


def test_no_test_images_is_no_crash() -> None:
    none = evidence(yes=0, no=0)

    assert math.isnan(compute_figures(SCENARIO, none)["agreement_all"]["figure"])
    assert judged(none)[0].state == "refused"


def test_the_model_says_what_the_gate_says() -> None:
    found, clauses = judged(evidence(golden=True))
    said = summarize(list(clauses.values()), found)

    assert (said["passed"], said["verdict"], said["headline"]) == (True, "passed", found.headline)
    assert "bytes" not in said


def test_gate_files_of_earlier_versions_are_read() -> None:
    broken = {"name": "agreement", "verdict": "fail", "says": "They agree on 60%."}

    assert verdict.read({"passed": True, "clauses": []}).state == "passed"
    assert verdict.read({"passed": False, "clauses": [broken]}) == Verdict(
        "refused", "They agree on 60%.", ("They agree on 60%.",)
    )
    with pytest.raises(ValueError, match="does not say whether the model passed"):
        verdict.read({"clauses": []})
    with pytest.raises(ValueError, match="does not say"):
        verdict.read({"passed": "no"})


def test_one_wrong_answer_breaks_nothing_and_ten_can() -> None:
    one, ten = evidence(), evidence()
    one.gold[60] = 1
    ten.gold[60:70] = 1

    assert judged(one)[0].state == "not proven"
    assert "1 label from people is too few to check the teacher" in judged(one)[0].headline
    assert judged(one)[1]["gold_accuracy"].verdict == "unproven"
    assert judged(ten)[0].state == "refused"
