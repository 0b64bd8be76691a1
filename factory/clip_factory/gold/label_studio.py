"""Label Studio's JSON: tasks with the teacher's answers as predictions and people's as annotations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from clip_factory.errors import ReviewError
from clip_factory.gold.formats import Given, known, meant
from clip_factory.gold.journal import checked_name
from clip_factory.gold.ledger import Answer
from clip_factory.review.session import Session

LOCAL_FILES = "/data/local-files/?d="
"""How Label Studio's local storage names a file below its document root."""


def give(session: Session) -> tuple[str, int]:
    """Tasks with the teacher's answers as predictions, and each person's as an annotation."""
    standings = session.journal.ledger().standings
    tasks, count = [], 0
    for row in session.items().to_pylist():
        standing = standings.get(row["sha256"])
        said = list(standing.answers.items()) if standing else []
        if not standing and row["answer"]:
            said = [(row["by"], row["answer"])]
        count += len(said)
        likely = row["p"] if row["predicted"] else 1 - row["p"]
        prediction = {"model_version": "teacher", "score": round(likely, 4)} | _choice(
            "yes" if row["predicted"] else "no"
        )
        address = LOCAL_FILES + quote(row["path"])
        tasks.append(
            {
                "data": {"image": address, "path": row["path"], "sha256": row["sha256"]},
                "predictions": [prediction],
                "annotations": [{"completed_by": {"email": who}} | _choice(answer) for who, answer in said],
            }
        )
    return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n", count


def _choice(answer: str) -> dict[str, Any]:
    value = {"from_name": "answer", "to_name": "image", "type": "choices", "value": {"choices": [answer]}}
    return {"result": [value]}


def take(session: Session, source: Path) -> Iterator[Given]:
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
                yield Given(_of_task(session, task["data"], where), answer, _annotator(annotation, session))


def _chosen(result: Any, where: str) -> Answer | None:
    """The one choice of an annotation; None where there is no choice at all."""
    words = [word for part in result if part.get("type") == "choices" for word in part["value"]["choices"]]
    if not words:
        return None
    return meant(", ".join(map(str, words)), where)  # two choices are none that is known


def _annotator(annotation: dict[str, Any], session: Session) -> str:
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        by = by.get("email") or by.get("id")
    return session.reviewer if by is None else checked_name(str(by))


def _of_task(session: Session, data: dict[str, Any], where: str) -> str:
    """The photo of a task: by hash, by path, or by the address that Label Studio shows it under."""
    if "sha256" in data or "path" in data:
        return known(session, where, str(data.get("sha256") or data["path"]))
    address = urlsplit(str(data.get("image", "")))
    named = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    return known(session, where, named.lstrip("/"))
