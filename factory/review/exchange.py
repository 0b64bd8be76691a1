"""Answers to and from other tools: CSV, folders `yes/` and `bad/`, Label Studio JSON.

Photos are known by the sha256 of their bytes wherever the form allows it, so renamed copies find their way back.
"""

from __future__ import annotations

import csv
import getpass
import io
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

from factory.artifacts import RunFolder, atomic, sha256_file
from factory.errors import ReviewError
from factory.gold import NO, YES
from factory.review.answers import checked_name
from factory.review.ledger import Answer
from factory.review.session import Session
from factory.runtime.images import find_images

FOLDERS: dict[str, Answer] = {"yes": "yes", "bad": "no", "no": "no", "unsure": "unsure"}
"""Names of folders that are read, and what they say; `yes` and `bad` are written."""
LOCAL_FILES = "/data/local-files/?d="
"""How Label Studio's local storage names a file below its document root."""


class Given(NamedTuple):
    """One answer from outside."""

    sha256: str
    answer: Answer
    reviewer: str


def trade(target: Path, store: Path, reviewer: str | None, source: Path | None, copy: Path | None) -> str:
    """Take answers into a run from `source`, then give them out to `copy`; say how many, one line each.

    Args:
        target: The run folder.
        store: Folder of the embedding store.
        reviewer: Who answers where the source does not say; the name of the user by default.
        source: What `take` reads, if anything.
        copy: What `give` writes, if anything.

    Raises:
        FactoryError: It is no run, or the answers do not fit it.
    """
    session = Session.open(RunFolder.open(target), reviewer or getpass.getuser(), store)
    said = [f"{take(session, source)} new answers from {source}"] if source else []
    return "\n".join([*said, f"{give(session, copy)} answers in {copy}"] if copy else said)


def give(session: Session, target: Path, *, link: bool = False) -> int:
    """Write the answers in force: `*.csv` and `*.json` (Label Studio) to a file, else copies into a new folder.

    Args:
        session: Whose run it is; the answers are everyone's.
        target: What to write. A file is replaced; a folder must be new or empty.
        link: Hard links in place of copies, where the disk allows them. Photos are never moved.

    Returns:
        How many answers were written.

    Raises:
        ReviewError: The folder holds something, the file has another ending, or a photo is gone.
    """
    writers = {".csv": _give_csv, ".json": _give_label_studio}
    if target.suffix and target.suffix.lower() not in writers and not target.is_dir():
        hint = "name FILE.csv, FILE.json, or a folder without an ending"
        raise ReviewError(f"{target}: answers are not written in this form", hint=hint)
    if target.suffix.lower() in writers:
        text, count = writers[target.suffix.lower()](session)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return count
    return _give_folders(session, target, link=link)


def take(session: Session, source: Path) -> int:
    """Add answers from a file that `give` or another tool wrote, or from folders `yes/` and `bad/`.

    Each answer is written down as its reviewer's, whom the file names, else as the session's. What a reviewer has said
    already is not said again, so the same file may be taken twice. Nothing is taken from a file with an error.

    Returns:
        How many answers are new.

    Raises:
        ReviewError: The file cannot be read, or names photos that this run does not have.
    """
    readers = {".csv": _take_csv, ".json": _take_label_studio}
    reader = _take_folders if source.is_dir() else readers.get(source.suffix.lower())
    if reader is None:
        raise ReviewError(f"{source}: neither a folder with yes/ and bad/, nor .csv, nor .json", hint="check the path")
    try:
        given = list(reader(session, source))
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise ReviewError(f"{source}: cannot be read ({error})") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ReviewError(f"{source}: not in the form of Label Studio's export ({error!r})") from None
    standings = session.journal.ledger().standings
    acts: dict[tuple[str, Answer], dict[str, str]] = defaultdict(dict)
    for sha256, answer, reviewer in dict.fromkeys(given):
        standing = standings.get(sha256)
        if standing is None or standing.answers.get(reviewer) != answer:
            acts[reviewer, answer][sha256] = session.path_of(sha256)
    for (reviewer, answer), photos in acts.items():
        session.journal.answer(reviewer, photos, answer)
    return sum(map(len, acts.values()))


def _in_force(session: Session) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = session.items().to_pylist()
    return [row for row in rows if row["answer"] in ("yes", "no")]


def _give_csv(session: Session) -> tuple[str, int]:
    """`path,label,reviewer`: what `--gold` takes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "reviewer"))
    rows = _in_force(session)
    writer.writerows((row["path"], row["answer"], row["by"]) for row in rows)
    return text.getvalue(), len(rows)


def _take_csv(session: Session, source: Path) -> Iterator[Given]:
    with open(source, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"path", "label"} <= set(reader.fieldnames or ()):
            raise ReviewError(f"{source}:1: needs the columns path,label; found {reader.fieldnames or []}")
        for row in reader:
            where, word = f"{source}:{reader.line_num}", (row["label"] or "").strip().lower()
            if word not in YES | NO | {"unsure"}:
                raise ReviewError(f"{where}: label {word!r} is none of yes, no, unsure")
            answer: Answer = "unsure" if word == "unsure" else "yes" if word in YES else "no"
            path = PurePosixPath((row["path"] or "").strip().replace("\\", "/")).as_posix()
            yield Given(_known(session, where, path), answer, checked_name(row.get("reviewer") or session.reviewer))


def _give_folders(session: Session, target: Path, *, link: bool) -> int:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ReviewError(f"{target} is there already, with something in it", hint="name a new folder")
    rows = _in_force(session)
    for row in rows:
        source = session.photos.root / row["path"]
        copy = target / ("yes" if row["answer"] == "yes" else "bad") / row["path"]
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not (link and _linked(source, copy)):
                shutil.copyfile(source, copy)
        except FileNotFoundError:
            raise ReviewError(f"{source}: this photo is gone", hint="the copies made so far stay") from None
    return len(rows)


def _linked(source: Path, copy: Path) -> bool:
    try:
        os.link(source, copy)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        return False  # another disk, or one that knows no links
    return True


def _take_folders(session: Session, source: Path) -> Iterator[Given]:
    sides = [(source / name, answer) for name, answer in FOLDERS.items() if (source / name).is_dir()]
    if not sides:
        raise ReviewError(f"{source}: holds no folder {', '.join(FOLDERS)}")
    for folder, answer in sides:
        for photo in find_images(folder):
            yield Given(_known(session, str(photo), sha256_file(photo)), answer, session.reviewer)


def _give_label_studio(session: Session) -> tuple[str, int]:
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


def _take_label_studio(session: Session, source: Path) -> Iterator[Given]:
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
    word = str(words[0]).strip().lower()
    if len(words) > 1 or word not in YES | NO | {"unsure"}:
        raise ReviewError(f"{where}: the choice {', '.join(map(str, words))!r} is none of yes, no, unsure")
    return "unsure" if word == "unsure" else "yes" if word in YES else "no"


def _annotator(annotation: dict[str, Any], session: Session) -> str:
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        by = by.get("email") or by.get("id")
    return session.reviewer if by is None else checked_name(str(by))


def _of_task(session: Session, data: dict[str, Any], where: str) -> str:
    """The photo of a task: by hash, by path, or by the address that Label Studio shows it under."""
    if "sha256" in data or "path" in data:
        return _known(session, where, str(data.get("sha256") or data["path"]))
    address = urlsplit(str(data.get("image", "")))
    named = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    return _known(session, where, named.lstrip("/"))


def _known(session: Session, where: str, name: str) -> str:
    """The sha256 of a photo that is named by its sha256 or its path.

    Raises:
        ReviewError: This run does not have it.
    """
    sha256 = session.sha256_of(name)
    if sha256 is None:
        raise ReviewError(
            f"{where}: {name[:200]!r} is no photo of this run", hint="paths are relative to the images folder"
        )
    return sha256
