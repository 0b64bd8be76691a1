"""The tables of `benchmarks/verdict.py`: verdicts, cuts and students, held against the photos kept apart."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from clip_factory.evaluation import compare_answers
from clip_factory.exporters.calibration import SoftTruth
from clip_factory.exporters.threshold import Curves, choose_threshold
from clip_factory.scenario import Costs, Need, Target
from clip_factory.statistics import Confusion, wilson

SURE, AGREEMENT = 0.9, 0.95
"""Of the rule before: the teacher is sure from here on, and there the student had to agree with it so often."""
COSTS = Target(costs=Costs(false_yes=1, false_no=5))


def rows(path: Path) -> list[dict[str, Any]]:
    """What has been measured so far."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def show(path: Path) -> None:
    """Print all tables."""
    trainings = rows(path)
    print(f"{len(trainings)} trainings")
    compared(trainings)
    for answers in sorted({row["answers"] for row in trainings}):
        chosen = [row for row in trainings if row["answers"] == answers]
        print(f"\n== after {answers} answers: {len(chosen)} trainings")
        verdicts("rule before", chosen, verdict_before)
        verdicts("rule now", chosen, lambda row: (row["verdict"]["state"], row["cut"]["threshold"]))
        verdicts("now, all test photos answered", chosen, lambda row: (row["proven"]["state"], row["cut"]["threshold"]))
        regrets(chosen)
        stated(chosen)
        if not answers:
            followers(chosen)


def compared(trainings: list[dict[str, Any]]) -> None:
    """Whether what `factory compare` says of two runs, by people's answers to all test photos, is so.

    The same question before and after answers; the truth is the same comparison on the photos kept apart.
    """
    by_question: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in trainings:
        by_question.setdefault((row["question"], row["seed"]), []).append(row)
    print("\ncompare on test photos: verdict there, verdict on the photos kept apart, number of pairs")
    pairs: Counter[tuple[str, str]] = Counter()
    for rows_of in by_question.values():
        first, *later = sorted(rows_of, key=lambda row: row["answers"])
        for other in later:
            if _test_names(first) == _test_names(other):
                pairs[_verdict_of(first, other, "test"), _verdict_of(first, other, "apart")] += 1
    for (here, there), count in sorted(pairs.items()):
        print(f"  {here:10} {there:10} {count}")
    sure = {pair: n for pair, n in pairs.items() if set(pair) <= {"first", "second"}}
    agreed = sum(n for (here, there), n in sure.items() if here == there)
    print(f"  one is better outside chance on both: {sum(sure.values())}, of which the same one {agreed}")


def _test_names(row: dict[str, Any]) -> list[int]:
    """The rows of labels.parquet in the test split; rows are sorted by name, and names do not depend on answers."""
    return [i for i, split in enumerate(row["labels"]["split"]) if split == "test"]


def _verdict_of(first: dict[str, Any], second: dict[str, Any], where: str) -> str:
    truth = np.array(first["apart"]["truth"] if where == "apart" else first["labels"]["truth"])
    truth = (truth if where == "apart" else truth[_test_names(first)]) == 1
    scores = [np.array(row[where]["student"]) for row in (first, second)]
    answers = [p >= row["cut"]["threshold"] for p, row in zip(scores, (first, second), strict=True)]
    return compare_answers(truth, *answers, *scores).verdict


def verdicts(
    name: str, chosen: list[dict[str, Any]], verdict_of: Callable[[dict[str, Any]], tuple[str, float]]
) -> None:
    """How often each verdict, and how often `passed` goes with less than its bars on the photos kept apart."""
    states, false, worst = Counter[str](), 0, []
    for row in chosen:
        state, threshold = verdict_of(row)
        states[state] += 1
        if state == "passed":
            confusion = apart(row, threshold)
            low = min(
                confusion.recall.figure - row["bars"][0],
                (confusion.precision.figure if confusion.precision.n else 0.0) - row["bars"][1],
            )
            false += low < 0
            worst.append(
                f"{row['question']} recall {confusion.recall.figure:.2f} precision {confusion.precision.figure:.2f}"
            )
    counts = ", ".join(f"{states[state]} {state}" for state in ("passed", "not proven", "refused"))
    print(f"{name:32} {counts}; passed below its bars: {false} of {states['passed']}")
    for line in sorted(worst)[:6] if false else ():
        print(f"{'':34}{line}")


def apart(row: dict[str, Any], threshold: float) -> Confusion:
    """The student's answers on the photos kept apart."""
    truth, student = (np.array(row["apart"][key]) for key in ("truth", "student"))
    return Confusion.of(truth == 1, student >= threshold)


def verdict_before(row: dict[str, Any]) -> tuple[str, float]:
    """What the rule and the cut of the version before say of the same student.

    The cut: least errors on val, its labels weighted by the teacher's certainty. The rule: agreement with the teacher
    on the test photos that it is sure of.
    """
    threshold = threshold_before(row)
    student, teacher = np.array(row["test"]["student"]), np.array(row["test"]["teacher"])
    answers, sure = student >= threshold, np.maximum(teacher, 1 - teacher) >= SURE
    truth = teacher >= 0.5
    both = 0 < truth.sum() < len(truth) and 0 < answers.sum() < len(answers)
    agreed = sure.any() and (answers == truth)[sure].mean() >= AGREEMENT
    return ("passed" if both and agreed else "refused"), threshold


def threshold_before(row: dict[str, Any]) -> float:
    """The threshold of least expected errors on val, doubtful labels counted less."""
    unseen, calibration = row["unseen"], row["calibration"]
    val = np.array(unseen["split"]) == "val"
    label = np.array(unseen["label"])[val]
    probability = expit(calibration["scale"] * np.array(unseen["logit"])[val] + calibration["shift"])
    weight = np.maximum(0.05, np.abs(2 * label - 1))
    curves = Curves.of(probability, SoftTruth(label, 0.5, ""), weight)
    return float(expit(curves.grid[(curves.alarms + curves.yes - curves.hits).argmin()]))


def regrets(chosen: list[dict[str, Any]]) -> None:
    """What the chosen cut loses against the best one, on the photos kept apart."""
    print(f"{'regret':32} mean, largest, over .08")
    for name, need, loss in (
        ("F1, break-even", "break-even", _f1_loss),
        ("balanced accuracy, balanced", "balanced", _balanced_loss),
        ("cost 1:5, costs", COSTS, _cost_loss),
    ):
        now = [loss(row, threshold_for(row, need)) for row in chosen]  # type: ignore[arg-type]
        before = [loss(row, threshold_before(row)) for row in chosen]
        print(f"  {name:30} {_summary(now)}   cut before: {_summary(before)}")


def threshold_for(row: dict[str, Any], need: Need) -> float:
    """Where a need would have put the threshold."""
    unseen, calibration = row["unseen"], row["calibration"]
    probability = expit(calibration["scale"] * np.array(unseen["logit"]) + calibration["shift"])
    truth = SoftTruth(np.array(unseen["label"]), row["cut"]["base_rate"], "")
    return choose_threshold(probability, truth, need, resamples=0).threshold


def stated(chosen: list[dict[str, Any]]) -> None:
    """Whether stated needs are kept: the share on the photos kept apart has an interval that holds the target."""
    for name, need, figure in (
        ("false alarms 1 %", Target(false_alarms=0.01), lambda c: (c.false_alarms, c.no)),
        ("false alarms 5 %", Target(false_alarms=0.05), lambda c: (c.false_alarms, c.no)),
        ("recall 90 %", Target(recall=0.9), lambda c: (c.hits, c.yes)),
    ):
        wanted = need.false_alarms or need.recall or 0.0
        counts = [figure(apart(row, threshold_for(row, need))) for row in chosen]
        kept = sum(wilson(hits, n)[0] <= wanted <= wilson(hits, n)[1] for hits, n in counts)
        shares = np.array([hits / max(n, 1) for hits, n in counts])
        print(f"  {name:30} within its interval {kept} of {len(chosen)}; mean {shares.mean():.3f}")


def followers(chosen: Iterable[dict[str, Any]]) -> None:
    """Student and teacher by the truth, words alone, where the teacher's AUC is .8 or more."""
    print("student and teacher (from .5 on), words alone: question, teacher's AUC and student's; recall, precision")
    kept = []
    for row in chosen:
        truth, student, words = (np.array(row["apart"][key]) for key in ("truth", "student", "words"))
        auc = roc_auc_score(truth, words)
        if auc < 0.8:
            continue
        ours, theirs = apart(row, row["cut"]["threshold"]), Confusion.of(truth == 1, words >= 0.5)
        enough = ours.recall.figure >= 0.9 * theirs.recall.figure
        curve = precision_recall_curve(truth, student)
        there = curve[0][:-1][curve[1][:-1] >= 0.9 * theirs.recall.figure].max()
        kept.append(
            (enough, enough and ours.precision.figure >= theirs.precision.figure, there >= theirs.precision.figure)
        )
        print(
            f"  {row['question']:28} {auc:.3f} {roc_auc_score(truth, student):.3f}; {ours.recall.figure:.2f} of "
            f"{theirs.recall.figure:.2f}, {ours.precision.figure:.2f} of {theirs.precision.figure:.2f}; precision at "
            f".9 of its recall {there:.2f}"
        )
    if kept:
        recall, both, could = np.array(kept).sum(axis=0)
        print(f"  of {len(kept)}: recall kept {recall}, at no lower precision {both}, at some threshold {could}")


def _f1_loss(row: dict[str, Any], threshold: float) -> float:
    truth, student = np.array(row["apart"]["truth"]), np.array(row["apart"]["student"])
    precision, recall, _ = precision_recall_curve(truth, student)
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-9)).max()
    return float(best - apart(row, threshold).f1)


def _balanced_loss(row: dict[str, Any], threshold: float) -> float:
    alarms, hits, _ = roc_curve(row["apart"]["truth"], row["apart"]["student"], drop_intermediate=False)
    return float(((hits + 1 - alarms) / 2).max() - apart(row, threshold).balanced_accuracy.figure)


def _cost_loss(row: dict[str, Any], threshold: float) -> float:
    """In the mean cost of a photo, over that of the worse of the two constant answers."""
    truth = np.array(row["apart"]["truth"])
    alarms, hits, _ = roc_curve(truth, row["apart"]["student"], drop_intermediate=False)
    yes, no = truth.sum(), (1 - truth).sum()
    best = (no * alarms + 5 * yes * (1 - hits)).min()
    confusion = apart(row, threshold)
    return float((confusion.false_alarms + 5 * confusion.misses - best) / min(no, 5 * yes))


def _summary(losses: list[float]) -> str:
    values = np.array(losses)
    return f"{values.mean():.3f} {values.max():.3f} {int((values > 0.08).sum())}"
