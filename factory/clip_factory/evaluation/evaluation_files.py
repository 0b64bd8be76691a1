"""What an evaluation and a comparison leave in a folder: a page, JSON, and the predictions as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

from clip_factory.errors import FactoryError
from clip_factory.evaluation.evaluation_page import comparison_page, evaluation_page
from clip_factory.evaluation.joint_evaluation import JointEvaluation
from clip_factory.evaluation.measure import Evaluation, as_json, rows
from clip_factory.runtime.atomic import atomic, write_json, write_text

EVALUATION = ("evaluation.json", "predictions.csv", "evaluation.html")


def check_folder(folder: Path, gold: Path) -> None:
    """Refuse, before the work, a folder that is none, or in which the labels themselves would be overwritten.

    Raises:
        FactoryError: It is a file, or holds the labels under a name that is written.
    """
    if folder.exists() and not folder.is_dir():
        raise FactoryError(f"{folder} is a file, not a folder", hint="--out takes a folder for page, CSV and JSON")
    if gold.resolve() in {(folder / name).resolve() for name in EVALUATION}:
        raise FactoryError(f"{gold} would be written over", hint="name another folder with --out")


def write_evaluation(evaluation: Evaluation, folder: Path) -> Path:
    """Write evaluation.json, predictions.csv and evaluation.html; the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "evaluation.json", as_json(evaluation))
    with (
        atomic(folder / "predictions.csv") as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "probability", "answer", "label", "outcome", "split"))
        writer.writerows(rows(evaluation))
    write_text(folder / "evaluation.html", evaluation_page(evaluation))
    return folder / "evaluation.html"


def write_comparison(joint: JointEvaluation, folder: Path) -> Path:
    """Write compare.json and compare.html; the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "compare.json", joint.as_json())
    write_text(folder / "compare.html", comparison_page(joint))
    return folder / "compare.html"
