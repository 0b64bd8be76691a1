"""Answers to and from other tools: CSV, folders `yes/` and `bad/`, Label Studio JSON, FiftyOne.

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

from clip_factory.errors import ReviewError
from clip_factory.gold import fiftyone, label_studio
from clip_factory.gold.formats import Given, in_force, known, meant
from clip_factory.gold.journal import checked_name
from clip_factory.gold.ledger import Answer
from clip_factory.review.session import Session
from clip_factory.run_folder import atomic, find_run, sha256_file
from clip_factory.runtime.preprocessing import find_images

FOLDERS: dict[str, Answer] = {"yes": "yes", "bad": "no", "no": "no", "unsure": "unsure"}
"""Names of folders that are read, and what they say; `yes` and `bad` are written."""


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
    session = Session.open(find_run(target), reviewer or getpass.getuser(), store)
    said = [f"{take(session, source)} new answers from {source}"] if source else []
    return "\n".join([*said, f"{give(session, copy)} answers in {copy}"] if copy else said)


def give(session: Session, target: Path, *, link: bool = False) -> int:
    """Write the answers in force: `*.csv`, `*.json` (Label Studio), `*.fiftyone` (a folder), else a folder of copies.

    Args:
        session: Whose run it is; the answers are everyone's.
        target: What to write. A file must be new; a folder new or empty.
        link: Hard links in place of copies, where the disk allows them. Photos are never moved.

    Returns:
        How many answers were written.

    Raises:
        ReviewError: The file is there or the folder holds something, the file has another ending, or a photo is gone.
    """
    writers, ending = {".csv": _give_csv, ".json": label_studio.give}, target.suffix.lower()
    if ending == fiftyone.ENDING:
        return fiftyone.give(session, _new_folder(target))
    if ending and ending not in writers and not target.is_dir():
        hint = f"name FILE.csv, FILE.json, FOLDER{fiftyone.ENDING}, or a folder without an ending"
        raise ReviewError(f"{target}: answers are not written in this form", hint=hint)
    if ending in writers:
        if target.exists():
            raise ReviewError(f"{target} is there already", hint="name another file, or delete it")
        text, count = writers[ending](session)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return count
    return _give_folders(session, _new_folder(target), link=link)


def take(session: Session, source: Path) -> int:
    """Add answers from a file or folder that `give` or another tool wrote, or from folders `yes/` and `bad/`.

    Each answer is written down as its reviewer's, whom the file names, else as the session's. What a reviewer has said
    already is not said again, so the same file may be taken twice. Nothing is taken from a file with an error.

    Returns:
        How many answers are new.

    Raises:
        ReviewError: The file cannot be read, or names photos that this run does not have.
    """
    readers = {".csv": _take_csv, ".json": label_studio.take}
    by_folder = fiftyone.take if (source / fiftyone.LABELS).is_file() else _take_folders
    reader = by_folder if source.is_dir() else readers.get(source.suffix.lower())
    if reader is None:
        raise ReviewError(
            f"{source}: neither a folder with yes/ and bad/ or {fiftyone.LABELS}, nor .csv, nor .json",
            hint="check the path",
        )
    try:
        given = list(reader(session, source))
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise ReviewError(f"{source}: cannot be read ({error})") from None
    except (LookupError, TypeError, AttributeError) as error:
        form = reader.__module__.rpartition(".")[2]
        raise ReviewError(f"{source}: not in the form of {form} ({error!r})") from None
    standings = session.journal.ledger().standings
    acts: dict[tuple[str, Answer], dict[str, str]] = defaultdict(dict)
    for sha256, answer, reviewer in dict.fromkeys(given):
        standing = standings.get(sha256)
        if standing is None or standing.answers.get(reviewer) != answer:
            acts[reviewer, answer][sha256] = session.path_of(sha256)
    for (reviewer, answer), photos in acts.items():
        session.journal.answer(reviewer, photos, answer)
    return sum(map(len, acts.values()))


def _give_csv(session: Session) -> tuple[str, int]:
    """`path,label,reviewer`: what `--gold` takes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "reviewer"))
    rows = in_force(session)
    writer.writerows((row["path"], row["answer"], row["by"]) for row in rows)
    return text.getvalue(), len(rows)


def _take_csv(session: Session, source: Path) -> Iterator[Given]:
    with open(source, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"path", "label"} <= set(reader.fieldnames or ()):
            raise ReviewError(f"{source}:1: needs the columns path,label; found {reader.fieldnames or []}")
        for row in reader:
            where = f"{source}:{reader.line_num}"
            path = PurePosixPath((row["path"] or "").strip().replace("\\", "/")).as_posix()
            by = checked_name(row.get("reviewer") or session.reviewer)
            yield Given(known(session, where, path), meant(row["label"] or "", where), by)


def _new_folder(target: Path) -> Path:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ReviewError(f"{target} is there already, with something in it", hint="name a new folder")
    return target


def _give_folders(session: Session, target: Path, *, link: bool) -> int:
    rows = in_force(session)
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
            yield Given(known(session, str(photo), sha256_file(photo)), answer, session.reviewer)
