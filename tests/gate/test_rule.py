"""The rule itself: what passes, what is not proven, what is refused, and that none of it claims what it cannot show."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from clip_factory import statistics
from clip_factory.gate import rule, verdict
from clip_factory.gate.evidence import Evidence
from clip_factory.gate.evidence import collect as evidence_of_labels
from clip_factory.gate.figures import compute_figures, summarize
from clip_factory.gate.rule import Clause
from clip_factory.gate.verdict import Verdict
from clip_factory.labels import Labels
from clip_factory.scenario import Gate, Scenario, Target
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


def differing(by: float) -> Evidence:
    """A perfect student with ten labels picked for their doubt, and a file of another format that is off by so much."""
    held = evidence(golden=True)
    answers = {"tflite": held.student + 0.001 - by}
    return replace(held, picked=np.arange(300) < 10, network=held.student + 0.001, other_formats=answers)


CASES = {
    "people's labels pass it": (evidence(misses=4, false_alarms=3, golden=True), SCENARIO, 200_000),
    "people's labels refuse it": (evidence(misses=30, false_alarms=40, golden=True), FEW_ALARMS, 400_000),
    "the teacher is never sure": (evidence(misses=30, false_alarms=20, sure=False), SCENARIO, 200_000),
    "the teacher gives one answer": (evidence(yes=0, no=12), SCENARIO, 200_000),
    "the student gives one answer": (evidence(yes=10, no=40, misses=10, golden=True), SCENARIO, 200_000),
    "another format differs": (differing(0.021), SCENARIO, 200_000),
    "all were picked for doubt": (replace(evidence(golden=True), picked=np.full(300, True)), SCENARIO, 200_000),
}
CLAUSES = """
people's labels pass it
recall >= 0.7, 0.9333 of 60: pass
    It finds 56 of 60 yes photos, by people's labels.
precision >= 0.7, 0.9492 of 59: pass
    Of its 59 yeses 56 are right, by people's labels.
balanced_agreement >= 0.75, 0.9604 of 300: pass, does not decide
    On all 300 test images, its yes and no photos weighed alike, it agrees with its teacher on 96.0%.
agreement >= 0.95, 0.9767 of 300: pass, does not decide
    Student and teacher agree on 97.7% of the 300 test images that the teacher is sure of.
gold_accuracy >= 0.9, 0.9767 of 300: pass
    The student is right on 97.7% of the 300 test images that a person has labeled.
parity <= 0.01, 0 of 300: pass
    The shipped file's probabilities differ from the trained network's by 0 in the mean.
bytes <= 300000, 2e+05 of 1: pass
    The file has 200,000 bytes; 300,000 are allowed.
both_classes >= 1, 59 of 300: pass
    The test images hold both answers, and the student gives both.

people's labels refuse it
recall >= 0.7, 0.5 of 60: fail
    It finds 30 of 60 yes photos, by people's labels. Asked is at least 70%.
false_alarms <= 0.05, 0.1667 of 240: fail
    It says yes to 40 of 240 no photos, by people's labels. Asked is at most 5%.
balanced_agreement >= 0.75, 0.6667 of 300: fail, does not decide
    On all 300 test images, its yes and no photos weighed alike, it agrees with its teacher on 66.7%. \
Asked is at least 75%.
agreement >= 0.95, 0.7667 of 300: fail, does not decide
    Student and teacher agree on 76.7% of the 300 test images that the teacher is sure of. Asked is at least 95%.
gold_accuracy >= 0.9, 0.7667 of 300: fail
    The student is right on 76.7% of the 300 test images that a person has labeled. Asked is at least 90%.
bytes <= 300000, 4e+05 of 1: fail
    The file has 400,000 bytes; 300,000 are allowed.

the teacher is never sure
precision >= 0.7, 0.6 of 50: unproven
    Of its 50 yeses 30 are right, by its teacher's word. Too few photos to show at least 70%, as is asked.
balanced_agreement >= 0.75, 0.7083 of 300: unproven
    On all 300 test images, its yes and no photos weighed alike, it agrees with its teacher on 70.8%. \
Too few photos to show at least 75%, as is asked.
agreement >= 0.95, - of 0: not measured
    The teacher is nowhere confident: no test image has 0.9 on either side.
gold_accuracy >= 0.9, - of 0: not measured
    No test image has a label from a person: how often it is right is not known.

the teacher gives one answer
precision >= 0.7, - of 0: not measured
    It says yes to no photo.
balanced_agreement >= 0.75, - of 0: not measured
    The teacher gives but one answer to all test images.
agreement >= 0.95, 1 of 12: unproven
    Student and teacher agree on 100.0% of the 12 test images that the teacher is sure of. \
Too few photos to show at least 95%, as is asked.
both_classes >= 1, 0 of 12: fail
    The test images hold only one of yes and no: nothing is shown of the other.

the student gives one answer
both_classes >= 1, 0 of 50: fail
    The student answers only one of yes and no: nothing is shown of the other.

another format differs
gold_accuracy >= 0.9, 1 of 290: pass
    The student is right on 100.0% of the 290 test images that a person has labeled. \
10 picked for their doubt, which are harder than the rest, are left out.
parity <= 0.01, 0.001 of 300: pass
    The shipped file's probabilities differ from the trained network's by 0.001 in the mean.
parity_tflite <= 0.01, 0.021 of 300: fail
    The tflite file's probabilities differ from the trained network's by 0.021 in the mean.

all were picked for doubt
gold_accuracy >= 0.9, - of 0: not measured
    All 300 labels of test images were picked for their doubt: they measure nothing fairly.
"""
"""What some clauses of each case say, in full: what a user reads in the report."""


def in_words(clause: Clause) -> str:
    figure = "-" if clause.figure is None else f"{clause.figure:.4g}"
    side = "" if clause.decides is True else ", does not decide" if clause.decides is False else repr(clause.decides)
    return f"{clause.name} {clause.rule}, {figure} of {clause.n}: {clause.verdict}{side}\n    {clause.says}"


@pytest.mark.parametrize("case", CASES)
def test_every_clause_says_what_it_found_and_what_was_asked(case: str) -> None:
    (expected,) = [text for text in CLAUSES.strip().split("\n\n") if text.startswith(f"{case}\n")]
    names = [line.split()[0] for line in expected.splitlines()[1:] if line[0] != " "]
    _, clauses = judged(*CASES[case])

    assert "\n".join([case, *(in_words(clauses[name]) for name in names)]) == expected


@pytest.mark.parametrize("case", CASES)
def test_every_interval_is_scipys_where_there_is_one(case: str) -> None:
    for clause in judged(*CASES[case])[1].values():
        if clause.name.startswith(("parity", "bytes", "both")) or clause.figure is None:
            assert clause.interval is None
        elif clause.name != "balanced_agreement":
            wanted = binomtest(round(clause.figure * clause.n), clause.n).proportion_ci(0.95, "wilson")
            assert clause.interval == pytest.approx((wanted.low, wanted.high), abs=1e-6)


def test_a_folder_without_a_yes_says_so() -> None:
    recall, alarms = rule._recall_and_precision(FEW_ALARMS, Confusion(0, 0, 1, 11), "by people's labels")

    assert (recall.verdict, recall.says) == ("not measured", "No photo is a yes, by people's labels.")
    assert alarms.says.startswith("It says yes to 1 of 12 no photos, by people's labels. Too few photos to show")
    none = rule._recall_and_precision(FEW_ALARMS, Confusion(9, 1, 0, 0), "by people's labels")[1]
    assert (none.figure, none.n, none.verdict) == (None, 0, "unproven")


@pytest.mark.parametrize(("misses", "alarms"), [(10, 0), (0, 12)])
def test_an_interval_that_ends_at_the_bar_clears_it_and_one_that_begins_there_does_not_miss_it(
    misses: int, alarms: int
) -> None:
    found = Confusion(60 - misses, misses, alarms, 240 - alarms)
    (low, high), (lowest, highest) = found.recall.interval, found.false_alarm_rate.interval

    def at(**bars: float) -> list[str]:
        scenario = FEW_ALARMS.model_copy(update={"gate": Gate(**bars)})
        return [clause.verdict for clause in rule._recall_and_precision(scenario, found, "")]

    assert at(recall=low, false_alarms=highest) == ["pass", "pass"]
    assert at(recall=high, false_alarms=max(lowest, 1e-9))[0] == "unproven"
    assert at(recall=min(1, high + 1e-9), false_alarms=highest - 1e-9) == ["fail" if misses else "unproven", "unproven"]
    if alarms:
        assert at(recall=low, false_alarms=lowest)[1] == "unproven"
        assert at(recall=low, false_alarms=lowest - 1e-9)[1] == "fail"


def test_parity_at_the_bar_passes_and_is_the_mean_of_the_absolute_differences() -> None:
    good = evidence(golden=True)
    both_ways = np.where(np.arange(300) % 2 == 0, 0.25, -0.25)  # exact in binary, and so is their mean
    wide = SCENARIO.model_copy(update={"gate": Gate(parity=0.25)})
    drifted = replace(good, network=np.full(300, 0.5), student=0.5 + both_ways, threshold=0.6)

    assert judged(drifted, wide)[1]["parity"].figure == 0.25
    assert judged(drifted, wide)[1]["parity"].verdict == "pass"


def test_ten_labels_that_break_a_clause_are_enough_to_be_held_against() -> None:
    for count, reference in ((9, "teacher"), (10, "people")):
        held = evidence()
        held.gold[60 : 60 + count] = 1

        assert rule.choose_reference(SCENARIO, held) == reference


def test_a_teacher_that_is_sure_is_so_from_nine_tenths_on_and_answers_by_a_half() -> None:
    held = evidence(yes=60, no=240)
    held.teacher[:30], held.teacher[60:180] = 0.9, 0.1
    held.teacher[30:60], held.teacher[180:] = 0.89, 0.11
    found = judged(held)[1]["agreement"]

    assert (found.n, found.figure) == (150, 1.0)


def test_the_verdict_gives_every_reason_but_a_missing_check_twice() -> None:
    found, _ = judged(evidence(misses=15, sure=False))

    assert found.state == "not proven"
    assert found.reasons == (
        "It finds 45 of 60 yes photos, by its teacher's word. Too few photos to show at least 70%, as is asked.",
        "The teacher is nowhere confident: no test image has 0.9 on either side.",
        "No test image has a label from a person: how often it is right is not known.",
    )
    refused, clauses = judged(evidence(misses=30, false_alarms=40, golden=True), size=400_000)
    assert refused.reasons == tuple(c.says for c in clauses.values() if c.decides and c.verdict == "fail")
    assert len(refused.reasons) == 4
    unproven, _ = judged(evidence(yes=17, no=18, misses=2, false_alarms=1, golden=True))
    assert unproven.state == "not proven"
    assert unproven.headline == (
        "Finds 15 of 17 (66 to 97 %), misses 2; 1 false alarm among 18 (1 to 26 %), by people's labels."
    )


def test_how_many_people_have_answered_is_said() -> None:
    few = evidence()
    few.gold[:5] = 1

    assert judged(few)[0].headline == (
        "Follows its teacher, and 5 labels from people are too few to check the teacher: finds 60 of 60 (94 to 100 %), "
        "misses 0; 0 false alarms among 240 (0 to 2 %), by its teacher's word."
    )
    one = evidence()
    one.gold[0] = 1
    assert "and 1 label from people is too few to check the teacher: " in judged(one)[0].headline


def test_evidence_is_the_test_split_beside_what_all_photos_say_of_the_teacher() -> None:
    count = 40
    p = np.linspace(0.05, 0.75, count).astype(np.float32)
    split = np.array(["train", "test", "val", "test"] * 10)
    labels = Labels(
        sha256=np.array([f"{i:064x}" for i in range(count)], object),
        path=np.array([f"{i}.jpg" for i in range(count)], object),
        group=np.arange(count, dtype=np.int32),
        p_teacher=p,
        scores=np.zeros((count, 0), np.float32),
        gold=np.where(np.arange(count) % 3 == 0, 1.0, np.nan),
        picked=np.arange(count) % 9 == 0,
        split=split,
        weight=np.ones(count, np.float32),
    )
    test, answers, network = split == "test", np.linspace(0, 1, 20), np.linspace(0, 0.9, 20)
    alone = evidence_of_labels(labels, 0.4, answers)
    full = evidence_of_labels(labels, 0.4, answers, network, {"tflite": answers})

    assert alone.network.tolist() == alone.student.tolist() == answers.tolist()
    assert full.network.tolist() == network.tolist()
    assert (dict(alone.other_formats), list(full.other_formats)) == ({}, ["tflite"])
    assert alone.teacher.tolist() == p[test].tolist()
    assert np.array_equal(alone.gold, labels.gold[test], equal_nan=True)
    assert alone.picked.tolist() == labels.picked[test].tolist()
    assert (alone.threshold, alone.teacher_threshold) == (0.4, break_even(p))
    assert alone.unbiased.tolist() == (labels.labeled & ~labels.picked)[test].tolist()
    assert alone.answers.tolist() == (answers >= 0.4).tolist()
    assert alone.truth.tolist() == np.where(labels.labeled, labels.gold == 1, p >= break_even(p))[test].tolist()
    assert alone.against("people") == Confusion.of(alone.gold[alone.unbiased] == 1, alone.answers[alone.unbiased])
    assert alone.against("teacher") == Confusion.of(p[test] >= break_even(p), alone.answers)


def test_a_teacher_that_says_one_thing_does_not_decide_where_people_have_said_enough() -> None:
    held = evidence(golden=True)
    held.teacher[:] = 0.6
    found, clauses = judged(held)

    assert (clauses["balanced_agreement"].verdict, clauses["balanced_agreement"].decides) == ("not measured", False)
    assert (clauses["agreement"].verdict, clauses["agreement"].decides) == ("not measured", False)
    assert found.state == "passed"


def test_a_few_wrong_answers_are_said_to_be_few() -> None:
    held = evidence()
    held.gold[60:65] = 1

    assert judged(held)[0].reasons == (
        "The student is right on 0.0% of the 5 test images that a person has labeled. "
        "Too few photos to show at least 90%, as is asked.",
    )
    assert judged(held)[1]["gold_accuracy"].says == judged(held)[0].reasons[0]


def test_one_yes_among_the_test_photos_is_both_answers() -> None:
    _, clauses = judged(evidence(yes=1, no=20, misses=1, golden=True))

    assert clauses["both_classes"].says == "The student answers only one of yes and no: nothing is shown of the other."
    _, clauses = judged(evidence(yes=0, no=20, golden=True))
    assert clauses["both_classes"].says == "The test images hold only one of yes and no: nothing is shown of the other."


def test_no_photos_differ_by_nothing() -> None:
    clause = judged(evidence(yes=0, no=0))[1]["parity"]

    assert (clause.figure, clause.n, clause.verdict) == (0.0, 0, "pass")
