"""Label Studio's JSON: tasks with the teacher's answers as predictions and people's as annotations."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from clip_factory.errors import ReviewError
from clip_factory.gold.answer_table import AnswerRow, AnswerTable, ImportedAnswer, parse_label
from clip_factory.gold.journal import checked_name
from clip_factory.gold.ledger import Answer

LOCAL_FILES = "/data/local-files/?d="
"""How Label Studio's local storage names a file below its document root."""
UPLOADS = "data/upload/"
"""What the address of a file that was uploaded begins with."""
_UPLOAD_HASH = re.compile(r"^[0-9a-f]{8}-")
IMAGE_KEYS = ("image", "photo", "img", "picture", "file", "url")
"""What a labeling configuration may call the image of a task."""


def to_json(table: AnswerTable) -> tuple[str, int]:
    """The text of a file of tasks, and how many answers of people are in it.

    The teacher's answers are predictions, people's are annotations.
    """
    tasks = [
        {
            "data": {"image": LOCAL_FILES + quote(row.path), "path": row.path, "sha256": row.sha256},
            "predictions": [_prediction(row)],
            "annotations": [{"completed_by": {"email": who}} | _choice(answer) for who, answer in row.answers.items()],
        }
        for row in table.rows
    ]
    return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n", sum(len(row.answers) for row in table.rows)


def _prediction(row: AnswerRow) -> dict[str, Any]:
    score = row.p if row.predicted else 1 - row.p
    return {"model_version": "teacher", "score": round(score, 4)} | _choice("yes" if row.predicted else "no")


def _choice(answer: str) -> dict[str, Any]:
    value = {"from_name": "answer", "to_name": "image", "type": "choices", "value": {"choices": [answer]}}
    return {"result": [value]}


def read(table: AnswerTable, source: Path) -> Iterator[ImportedAnswer]:
    """Annotations are people's answers; predictions are answers of no one, and stay out.

    The form is that of Label Studio's JSON export: https://labelstud.io/guide/export
    """
    tasks = json.loads(source.read_text(encoding="utf-8"))
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "data" in task for task in tasks):
        raise ReviewError(f"{source}: no list of Label Studio tasks", hint="export as JSON, not JSON-MIN")
    for number, task in enumerate(tasks, 1):
        where = f"{source}: task {number}"
        for annotation in task.get("annotations", ()):
            answer = None if annotation.get("was_cancelled") else _chosen(annotation.get("result", ()), where)
            if answer is not None:
                yield ImportedAnswer(_photo(table, task["data"], where), answer, _annotator(annotation, table))


def _chosen(result: Any, where: str) -> Answer | None:
    """The one choice of an annotation; None where there is no choice at all."""
    words = [word for part in result if part.get("type") == "choices" for word in part["value"]["choices"]]
    if not words:
        return None
    return parse_label(", ".join(map(str, words)), where)  # two choices are no label


def _annotator(annotation: dict[str, Any], table: AnswerTable) -> str:
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        by = by.get("email") or by.get("id")
    return table.reviewer if by is None else checked_name(str(by))


def _photo(table: AnswerTable, data: dict[str, Any], where: str) -> str:
    """The photo of a task: by hash, by path, or by the address that Label Studio shows it under."""
    if "sha256" in data or "path" in data:
        return table.sha256_of(str(data.get("sha256") or data["path"]), where)
    address = urlsplit(str(next((data[key] for key in IMAGE_KEYS if key in data), "")))
    named = parse_qs(address.query).get("d", [unquote(address.path)])[0].replace("\\", "/").lstrip("/")
    if not named.startswith(UPLOADS):
        return table.sha256_of(named, where)
    try:  # a file that was uploaded has a few signs of a hash before its name
        return table.sha256_of(_UPLOAD_HASH.sub("", named.rpartition("/")[2]), where)
    except ReviewError:
        return table.sha256_of(named.rpartition("/")[2], where)
