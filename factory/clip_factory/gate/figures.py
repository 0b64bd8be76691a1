"""What is measured beside the clauses, and what the model file itself says of the gate: never hidden, never decisive.

Keys are those of gate.json and of the model's metadata since version 0.1.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from clip_factory.gate.evidence import Evidence
from clip_factory.gate.rule import Clause, choose_reference
from clip_factory.gate.verdict import Verdict
from clip_factory.scenario import Scenario
from clip_factory.statistics import Confusion, calibration_error, share


def summarize(clauses: Sequence[Clause], verdict: Verdict) -> dict[str, Any]:
    """What the model file itself says of the gate; the size is left out, since saying it changes it."""
    return {
        "passed": verdict.passed,
        "verdict": verdict.state,
        "headline": verdict.headline,
        **{
            c.name: {"figure": c.figure, "n": c.n, "interval": c.interval, "verdict": c.verdict}
            for c in clauses
            if c.name != "bytes"
        },
    }


def compute_figures(scenario: Scenario, evidence: Evidence) -> dict[str, Any]:
    """All figures of gate.json but latency and bytes."""
    reference, truth = choose_reference(scenario, evidence), evidence.truth
    return {
        "test_images": len(truth),
        "threshold": evidence.threshold,
        "teacher_threshold": evidence.teacher_threshold,
        "outcome": {"against": reference, **rates(evidence.against(reference))},
        "agreement_all": asdict(share(evidence.answers == evidence.teacher_answers)),
        "gold": _gold(evidence),
        "against_teacher": {
            **_scores(evidence.teacher_answers, evidence.student, evidence.threshold),
            "calibration_error": calibration_error(evidence.teacher_answers, evidence.student),
        },
        "calibration_error": calibration_error(truth, evidence.student),
        "confusion": _confusion(evidence),
        "parity": _parity(evidence),
    }


def rates(confusion: Confusion) -> dict[str, Any]:
    """Counts, and their shares with intervals."""
    shares = {name: asdict(getattr(confusion, name)) for name in ("recall", "precision", "false_alarm_rate")}
    return {**asdict(confusion), **shares}


def _gold(evidence: Evidence) -> dict[str, Any] | None:
    """Student and teacher against the labels of people that measure; None where there are none."""
    rows = evidence.unbiased
    if not rows.any():
        return None
    truth = evidence.gold[rows] == 1
    return {
        "student": _scores(truth, evidence.student[rows], evidence.threshold),
        "teacher": _scores(truth, evidence.teacher[rows], evidence.teacher_threshold),
    }


def _scores(truth: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, Any]:
    answers = probability >= threshold
    confusion = Confusion.of(truth, answers)
    both = bool(confusion.yes and confusion.no)
    return {
        **rates(confusion),
        "accuracy": asdict(share(answers == truth)),
        "balanced_accuracy": asdict(confusion.balanced_accuracy) if both else None,
        "auc": float(roc_auc_score(truth, probability)) if both else None,
    }


def _confusion(evidence: Evidence) -> dict[str, Any]:
    """Counts against the best answers there are."""
    labeled, confusion = evidence.labeled, Confusion.of(evidence.truth, evidence.answers)
    return {
        "reference": "gold" if labeled.all() else "gold and teacher" if labeled.any() else "teacher",
        "true_yes": confusion.hits,
        "false_yes": confusion.false_alarms,
        "true_no": confusion.correct_rejections,
        "false_no": confusion.misses,
    }


def _parity(evidence: Evidence) -> dict[str, Any]:
    difference = np.abs(evidence.student - evidence.network)
    return {
        "mean": float(difference.mean()) if len(difference) else 0.0,
        "max": float(difference.max(initial=0)),
        "flips": int(((evidence.network >= evidence.threshold) != evidence.answers).sum()),
        "n": len(difference),
    }
