"""The report: one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from clip_factory.images.scenario_region import scenario_region
from clip_factory.report import formatting as words
from clip_factory.report import gold_section as people
from clip_factory.report import plots
from clip_factory.report.embedded_images import pictures
from clip_factory.report.plot_data import (
    Phrase,
    confident_mistakes,
    most_confused,
    most_doubtful,
    most_moved,
    phrase_wins,
    splits,
)
from clip_factory.report.region_view import region_view
from clip_factory.report.run_data import RunData
from clip_factory.report.summary import command, confusion, summarize
from clip_factory.report.svg import Plot
from clip_factory.report.threshold_section import threshold_section
from clip_factory.runtime.safe_text import visible

PICTURES = 24
MOVED = 12
NONE = np.array([], int)
SKIPPED_SHOWN = 50
PHRASES_SHOWN = 30
LOSSES = (
    ("recall", "Found, of the yes photos (recall)"),
    ("precision", "Right, of its yeses (precision)"),
    ("false_alarm_rate", "False alarms, of the no photos"),
)
"""What a user gains and loses, by its name in gate.json."""


def environment(*, html: bool) -> Environment:
    """Jinja with this package's templates and the filters of `words`; `html` escapes whatever is filled in."""
    env = Environment(
        loader=PackageLoader("clip_factory.report"),
        autoescape=html,  # noqa: S701  (the card is Markdown: card.plain escapes there)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # a sign that turns the direction of text could make a page read as something else
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    names = ("share", "number", "score", "kilobytes", "duration", "interval", "figure", "rule", "plural", "known")
    env.filters |= {name: getattr(words, name) for name in names}
    return env


def render(data: RunData) -> str:
    """The whole page."""
    labels, figures = data.labels, data.gate["figures"]
    template, script = environment(html=True).get_template("report.html.j2"), _script()
    root, region = Path(data.scenario.images.path or "."), scenario_region(data.scenario)
    mistakes = confident_mistakes(labels.student, labels.reference, data.threshold, most=len(labels.path))
    moved = most_moved(labels.words, labels.teacher, MOVED) if labels.refined else NONE
    doubtful = most_doubtful(labels.teacher, labels.labeled, PICTURES)
    return template.render(
        data=data,
        scenario=data.scenario,
        labels=labels,
        files=data.files,
        figures=figures,
        clauses=[clause_row(clause) for clause in data.gate["clauses"]],
        summary=summarize(data),
        section=threshold_section(data, command(data, "threshold")),
        people=people.sentences(data),
        by=words.BY[data.evaluated.against],
        confusion=confusion(data),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        quality=quality_rows(figures),
        plots=_plots(data),
        mistakes=pictures(labels, mistakes[:PICTURES], root, region),
        mistakes_in_all=len(mistakes),
        asked=int(labels.asked.sum()),
        doubtful=pictures(labels, doubtful, root, region),
        moved=pictures(labels, moved, root, region),
        region=region_view(region, root, labels.path),
        phrases=_phrase_table(data),
        splits=splits(labels.split, labels.reference, labels.labeled),
        skipped=data.files.skipped[:SKIPPED_SHOWN],
        reasons=Counter(reason for _, reason in data.files.skipped).most_common(8),
        precisions=precision_table(data.precisions),
        stages=_stage_table(data.seconds),
    )


def _script() -> Markup:
    """The one script of the page; the page allows it by its hash, and no other."""
    file = resources.files("clip_factory.report") / "templates" / "threshold.js"
    return Markup(file.read_text(encoding="utf-8"))  # noqa: S704  (this package's own file)


def clause_row(clause: dict[str, Any]) -> dict[str, Any]:
    """A clause as a row of the gate's table; shares get a strip that shows interval and bar."""
    row = {
        "title": words.CLAUSES.get(clause["name"], clause["name"]),
        "rule": words.rule(clause),
        "figure": words.figure(clause),
        "interval": words.interval(clause.get("interval")) if clause["name"] in words.SHARES else words.ABSENT,
        "n": clause.get("n"),
        "verdict": clause["verdict"],
        "decides": clause.get("decides", True),
        "says": clause["says"],
        "strip": None,
    }
    if clause["name"] in words.SHARES and clause.get("interval") and words.known(clause.get("figure")):
        at_most = str(clause["rule"]).startswith("<=")
        row["strip"] = _strip(clause["figure"], clause["interval"], words.bound(clause), at_most=at_most)
    return row


def _strip(figure: float, interval: list[float], bar: float | None, *, at_most: bool) -> dict[str, float | None]:
    """Positions in per cent along a scale: from a round share below all that it shows to 1, or from 0 to one above."""
    shown = [*interval, figure, *([] if bar is None else [bar])]
    start = 0.0 if at_most else max(0.0, math.floor(min(shown) * 10 - 1e-9) / 10 - 0.1)
    end = min(1.0, math.ceil(max(shown) * 10 + 1e-9) / 10) if at_most else 1.0

    def place(value: float) -> float:
        return round(100 * (value - start) / (end - start), 2)

    low, high = interval
    return {
        "low": place(low),
        "width": round(place(high) - place(low), 2),
        "at": place(figure),
        "bar": None if bar is None else place(bar),
    }


def quality_rows(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The student's figures beside the teacher's, each with its interval and sample."""
    rows: list[dict[str, Any]] = []
    gold = figures.get("gold")
    if gold:
        student, teacher = gold["student"], gold["teacher"]
        people = student["accuracy"]["n"]
        rows = [
            *(_row(f"{name}, people’s labels", student[key], teacher[key]) for key, name in LOSSES if key in student),
            _row("Accuracy by people’s labels", student["accuracy"], teacher["accuracy"]),
            _row("Balanced accuracy by people’s labels", student["balanced_accuracy"], teacher["balanced_accuracy"]),
            _row("Area under the ROC curve, people’s labels", student["auc"], teacher["auc"], n=people),
        ]
    against, tests = figures.get("against_teacher") or {}, figures["test_images"]
    return [
        *rows,
        *(_row(f"{name}, teacher’s word", against[key]) for key, name in LOSSES if key in against),
        _row("Agreement with the teacher, all test images", figures.get("agreement_all")),
        _row("Balanced accuracy against the teacher", against.get("balanced_accuracy")),
        _row("Area under the ROC curve, against the teacher", against.get("auc"), n=tests),
        _row("Expected calibration error", figures.get("calibration_error"), n=tests),
    ]


def _row(name: str, student: Any, teacher: Any = None, n: int | None = None) -> dict[str, Any]:
    """One measure: shares as mappings with `figure`, `interval` and `n`, other figures bare, on `n` images."""
    cells = [value if isinstance(value, dict) else {"figure": value} for value in (student, teacher)]
    word = words.share if n is None else words.decimal
    shown = [{"figure": word(cell.get("figure")), "interval": words.interval(cell.get("interval"))} for cell in cells]
    return {"name": name, "student": shown[0], "teacher": shown[1], "n": cells[0].get("n", n)}


def _plots(data: RunData) -> dict[str, Plot]:
    labels, test, asked, evaluated = data.labels, data.labels.test, data.labels.asked, data.evaluated
    return {
        "teacher": plots.teacher_scores(labels.teacher, labels.teacher_threshold),
        "student": plots.student_scores(labels.student[asked], labels.reference[asked], data.threshold),
        "loss": plots.losses(data.training),
        "agreement": plots.agreement(data.training),
        "precision_recall": plots.precision_recall_plot(evaluated.student, evaluated.truth, data.threshold),
        "reliability": plots.reliability_plot(labels.student[test], labels.reference[test]),
    }


def _phrase_table(data: RunData) -> dict[str, Any]:
    labels = data.labels
    phrase_list = phrase_wins(labels.scores, labels.positive, labels.negative)
    sides: dict[bool, list[Phrase]] = {side: [p for p in phrase_list if p.positive is side] for side in (True, False)}
    shown = [phrase for side in sides.values() for phrase in side[:PHRASES_SHOWN]]
    return {
        "shown": shown,
        "hidden": len(phrase_list) - len(shown),
        "never": [p for p in phrase_list if p.wins == 0],
        "most_confused": most_confused(phrase_list),
        "most": max((p.share for p in shown), default=0.0) or 1.0,
    }


def precision_table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The export's attempts as a table: every key that a row has is a column."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    word = {"bytes": words.kilobytes}
    cells = [[word.get(key, words.number)(row.get(key)) for key in keys] for row in rows]
    return {"columns": [key.replace("_", " ") for key in keys], "rows": cells}


def _stage_table(seconds: dict[str, float]) -> list[tuple[str, float, float]]:
    """Stage, seconds, and its share of the longest stage in per cent."""
    longest = max(seconds.values(), default=0.0) or 1.0
    return [(stage, spent, round(100 * spent / longest, 1)) for stage, spent in seconds.items()]
