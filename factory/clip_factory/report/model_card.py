"""The model card: Markdown with YAML front matter in the Hugging Face format.

https://huggingface.co/docs/hub/model-cards says what the front matter may hold.
"""

from __future__ import annotations

import io
import json
import re
from typing import Any

from ruamel.yaml import YAML

from clip_factory.report import formatting as words
from clip_factory.report import gold_section as people
from clip_factory.report.plot_data import splits
from clip_factory.report.report_page import clause_row, environment, quality_rows
from clip_factory.report.run_data import Evidence
from clip_factory.report.summary import opening

LICENSE = "apache-2.0"
"""The student's, unless its metadata says otherwise."""
HUB_LICENSES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0")
"""Licenses that may be given by the name that the Hub knows; any other is given as `other`, with its name."""
PHRASES_SHOWN = 40
CALIBRATED = {
    "gold": "people's labels",
    "gold and teacher": "people's labels, and the teacher's where there are none",
    "teacher": "the teacher's labels",
}
"""What a calibration was held against."""


def render(evidence: Evidence) -> str:
    """The whole card, front matter included."""
    labels, figures = evidence.labels, evidence.gate["figures"]
    env = environment(html=False)
    env.filters["plain"] = plain
    body = env.get_template("card.md.j2").render(
        evidence=evidence,
        scenario=evidence.scenario,
        labels=labels,
        files=evidence.files,
        figures=figures,
        size=int(evidence.model["image_size"]),
        clauses=[clause_row(clause) for clause in evidence.gate["clauses"]],
        opening=opening(evidence),
        cut=evidence.cut,
        targets=words.TARGETS,
        base_rates=words.BASE_RATES,
        calibrated=CALIBRATED,
        people=people.sentences(evidence),
        quality=quality_rows(figures),
        splits=splits(labels.split, labels.reference, labels.has_gold),
        golden=int(labels.has_gold.sum()),
        golden_tests=int((labels.has_gold & (labels.split == "test")).sum()),
        calibration=json.loads(evidence.model.get("calibration") or "null"),
        license=evidence.model.get("license") or LICENSE,
        most=PHRASES_SHOWN,
    )
    return f"---\n{_yaml(front_matter(evidence))}---\n\n{body}"


def plain(text: str) -> str:
    """A user's words in running Markdown: one line, with a backslash before every sign that Markdown or HTML reads."""
    line = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>#|~$&@]|:(?=//))", r"\\\1", line)


def front_matter(evidence: Evidence) -> dict[str, Any]:
    """What the Hub reads: license, library, task, tags, and the evaluation results as a model-index."""
    license = (evidence.model.get("license") or LICENSE).lower()
    known = {"license": license} if license in HUB_LICENSES else {"license": "other", "license_name": license}
    dataset = {"type": evidence.scenario.name, "name": f"{evidence.scenario.name}, test split"}
    result = {
        "task": {"type": "image-classification", "name": evidence.scenario.asked},
        "dataset": dataset,
        "metrics": metrics(evidence.gate),
    }
    return {
        **known,
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": [
            "clip-factory",
            "onnx",
            "onnxruntime",
            "image-classification",
            "binary-classification",
            "distillation",
        ],
        "model-index": [{"name": evidence.scenario.name, "results": [result]}],
    }


def metrics(gate: dict[str, Any]) -> list[dict[str, Any]]:
    """The measured figures in the form of a model-index, best evidence first; what was not measured is left out."""
    figures = gate["figures"]
    agreement: dict[str, Any] = next((c for c in gate["clauses"] if c["name"] == "agreement"), {})
    against = figures.get("against_teacher") or {}
    gold = (figures.get("gold") or {}).get("student") or {}
    side, by = (gold, "by people's labels") if gold else (against, "against the teacher")
    found = [
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
    return [_metric(kind, name, value) for kind, name, value in found if words.known(_bare(value))]


def _metric(kind: str, name: str, value: Any) -> dict[str, Any]:
    entry = {"type": kind, "value": round(float(_bare(value)), 4), "name": name}
    if isinstance(value, dict) and value.get("interval"):
        low, high = value["interval"]
        entry["args"] = {"n": value["n"], "interval_95": [round(low, 4), round(high, 4)]}
    return entry


def _bare(value: Any) -> Any:
    return value.get("figure") if isinstance(value, dict) else value


def _yaml(tree: dict[str, Any]) -> str:
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.width = 4096
    yaml.dump(tree, stream)
    return stream.getvalue()
