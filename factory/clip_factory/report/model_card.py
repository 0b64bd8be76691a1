"""The model card: Markdown with YAML front matter in the Hugging Face format.

https://huggingface.co/docs/hub/model-cards says what the front matter may hold.
"""

from __future__ import annotations

import json
import re
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from clip_factory.report import formatting as words
from clip_factory.report import gold_section as people
from clip_factory.report.plot_data import splits
from clip_factory.report.report_page import clause_row, environment, quality_rows
from clip_factory.report.run_data import RunData
from clip_factory.report.summary import summarize
from clip_factory.runtime.model_checks import read_region
from clip_factory.runtime.region import FILL

LICENSE = "apache-2.0"
"""The student's, unless its metadata says otherwise."""
HUB_LICENSES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0")
"""Licenses that may be given by the name that the Hub knows; any other is given as `other`, with its name."""
TAGS = ("clip-factory", "onnx", "onnxruntime", "image-classification", "binary-classification", "distillation")
PHRASES_SHOWN = 40
CALIBRATED = {
    "gold": "people's labels",
    "gold and teacher": "people's labels, and the teacher's where there are none",
    "teacher": "the teacher's labels",
}
"""What a calibration was held against."""


def render(data: RunData) -> str:
    """The whole card, front matter included."""
    labels, figures = data.labels, data.gate["figures"]
    env = environment(html=False)
    env.filters["plain"] = plain
    body = env.get_template("card.md.j2").render(
        data=data,
        scenario=data.scenario,
        labels=labels,
        files=data.files,
        figures=figures,
        size=int(data.model["image_size"]),
        region=read_region(data.model),
        fill=FILL[0],
        clauses=[clause_row(clause) for clause in data.gate["clauses"]],
        summary=summarize(data),
        threshold_record=data.threshold_record,
        targets=words.TARGETS,
        base_rates=words.BASE_RATES,
        calibrated=CALIBRATED,
        people=people.sentences(data),
        quality=quality_rows(figures),
        splits=splits(labels.split, labels.reference, labels.labeled),
        labeled_photos=int(labels.labeled.sum()),
        labeled_tests=int((labels.labeled & (labels.split == "test")).sum()),
        calibration=json.loads(data.model.get("calibration") or "null"),
        license=data.model.get("license") or LICENSE,
        most=PHRASES_SHOWN,
    )
    return f"---\n{front_matter(data).to_yaml()}\n---\n\n{body}"


def plain(text: str) -> str:
    """A user's words in running Markdown: one line, with a backslash before every sign that Markdown or HTML reads."""
    line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>#|~$&@]|:(?=//))", r"\\\1", line)


def front_matter(data: RunData) -> ModelCardData:
    """What the Hub reads: license, library, task, tags, and the evaluation results as a model-index."""
    license = (data.model.get("license") or LICENSE).lower()
    known = license in HUB_LICENSES
    return ModelCardData(
        license=license if known else "other",
        license_name=None if known else license,
        library_name="onnx",
        pipeline_tag="image-classification",
        tags=list(TAGS),
        model_name=data.scenario.name,
        eval_results=[
            EvalResult(
                task_type="image-classification",
                task_name=data.scenario.asked,
                dataset_type=data.scenario.name,
                dataset_name=f"{data.scenario.name}, test split",
                metric_type=metric["type"],
                metric_name=metric["name"],
                metric_value=metric["value"],
                metric_args=metric.get("args"),
            )
            for metric in metrics(data.gate)
        ],
    )


def metrics(gate: dict[str, Any]) -> list[dict[str, Any]]:
    """The measured figures in the form of a model-index, best evidence first; what was not measured is left out."""
    figures = gate["figures"]
    agreement: dict[str, Any] = next((c for c in gate["clauses"] if c["name"] == "agreement"), {})
    against = figures.get("against_teacher") or {}
    gold = (figures.get("gold") or {}).get("student") or {}
    side, by = (gold, "by people's labels") if gold else (against, "against the teacher")
    measures = [
        ("recall", f"Recall {by}", side.get("recall")),
        ("precision", f"Precision {by}", side.get("precision")),
        ("false_positive_rate", f"False alarms {by}", side.get("false_alarm_rate")),
        ("accuracy", "Accuracy by people's labels", gold.get("accuracy")),
        ("balanced_accuracy", "Balanced accuracy by people's labels", gold.get("balanced_accuracy")),
        ("roc_auc", "ROC AUC by people's labels", gold.get("auc")),
        ("agreement", "Agreement with the teacher where it is sure", agreement),
        ("agreement", "Agreement with the teacher, all test images", figures.get("agreement_all")),
        ("roc_auc", "ROC AUC against the teacher", against.get("auc")),
        ("calibration_error", "Expected calibration error", figures.get("calibration_error")),
    ]
    return [_metric(kind, name, value) for kind, name, value in measures if words.known(_bare(value))]


def _metric(kind: str, name: str, value: Any) -> dict[str, Any]:
    entry = {"type": kind, "value": round(float(_bare(value)), 4), "name": name}
    if isinstance(value, dict) and value.get("interval"):
        low, high = value["interval"]
        entry["args"] = {"n": value["n"], "interval_95": [round(low, 4), round(high, 4)]}
    return entry


def _bare(value: Any) -> Any:
    return value.get("figure") if isinstance(value, dict) else value
