"""Answers to and from other tools: CSV, folders `yes/` and `bad/`, Label Studio JSON, FiftyOne.

Photos are known by the sha256 of their bytes wherever the form allows it, so renamed copies find their way back.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from clip_factory.errors import GoldError, ReviewError
from clip_factory.gold import fiftyone, label_studio
from clip_factory.gold.answer_table import AnswerTable, ImportedAnswer, parse_label
from clip_factory.gold.journal import Journal, checked_name
from clip_factory.gold.label_table import read_table
from clip_factory.gold.ledger import Answer
from clip_factory.progress import console
from clip_factory.run_folder import sha256_file
from clip_factory.runtime.atomic import atomic
from clip_factory.runtime.photo_files import find_images

FOLDERS: dict[str, Answer] = {"yes": "yes", "bad": "no", "no": "no", "unsure": "unsure"}
"""Names of folders that are read, and the answers of the photos in them; `yes` and `bad` are written."""


def write(table: AnswerTable, target: Path, *, link: bool = False) -> int:
    """Write the answers in force: `*.csv`, `*.json` (Label Studio), `*.fiftyone` (a folder), else a folder of copies.

    Args:
        table: The photos and answers of a run.
        target: What to write. A file must be new; a folder new or empty.
        link: Hard links in place of copies, where the disk allows them. Photos are never moved.

    Returns:
        How many answers were written.

    Raises:
        ReviewError: The file is there or the folder holds something, the file has another ending, or a photo is gone.
    """
    writers, ending = {".csv": _to_csv, ".json": label_studio.to_json}, target.suffix.lower()
    if ending == fiftyone.ENDING:
        return fiftyone.write(table, _new_folder(target))
    if ending and ending not in writers and not target.is_dir():
        hint = f"name FILE.csv, FILE.json, FOLDER{fiftyone.ENDING}, or a folder without an ending"
        raise ReviewError(f"{target}: answers are not written in this form", hint=hint)
    if ending in writers:
        if target.exists():
            raise ReviewError(f"{target} is there already", hint="name another file, or delete it")
        text, count = writers[ending](table)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return count
    return _write_folders(table, _new_folder(target), link=link)


def read(table: AnswerTable, source: Path) -> list[ImportedAnswer]:
    """The answers in a file or folder that `write` or another tool wrote, or in folders `yes/` and `bad/`.

    Raises:
        ReviewError: It cannot be read, or names photos that this run does not have.
    """
    readers = {".csv": _read_csv, ".json": label_studio.read}
    by_folder = fiftyone.read if (source / fiftyone.LABELS).is_file() else _read_folders
    reader = by_folder if source.is_dir() else readers.get(source.suffix.lower())
    if reader is None:
        raise ReviewError(
            f"{source}: neither a folder with yes/ and bad/ or {fiftyone.LABELS}, nor .csv, nor .json",
            hint="check the path",
        )
    try:
        return list(reader(table, source))
    except GoldError as error:
        raise ReviewError(error.what, hint=error.hint) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ReviewError(f"{source}: cannot be read ({error})") from None
    except (LookupError, TypeError, AttributeError) as error:
        form = reader.__module__.rpartition(".")[2]
        raise ReviewError(f"{source}: not in the form of {form} ({error!r})") from None


def record(journal: Journal, table: AnswerTable, answers: Iterable[ImportedAnswer]) -> int:
    """Add answers to a journal, each as its reviewer's; what a reviewer has answered already is not added again.

    Returns:
        How many answers are new.

    Raises:
        ReviewError: The journal cannot be written.
    """
    images, paths = journal.ledger().images, {row.sha256: row.path for row in table.rows}
    new: dict[tuple[str, Answer], dict[str, str]] = defaultdict(dict)
    for sha256, answer, reviewer in dict.fromkeys(answers):
        known = images.get(sha256)
        if known is None or known.answers.get(reviewer) != answer:
            new[reviewer, answer][sha256] = paths[sha256]
    for (reviewer, answer), photos in new.items():
        journal.answer(reviewer, photos, answer)
    return sum(map(len, new.values()))


def _to_csv(table: AnswerTable) -> tuple[str, int]:
    """`path,label,reviewer`: what `--gold` takes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "reviewer"))
    rows = table.in_force
    writer.writerows((row.path, row.answer, row.by) for row in rows)
    return text.getvalue(), len(rows)


def _read_csv(table: AnswerTable, source: Path) -> Iterator[ImportedAnswer]:
    unlabeled = 0
    for row in read_table(source):
        where = f"{source}:{row.line}"
        if row.label:
            by = checked_name(row.reviewer or table.reviewer)
            yield ImportedAnswer(table.sha256_of(row.path, where), parse_label(row.label, where), by)
        else:
            unlabeled += 1
    if unlabeled:
        console.print(f"{source}: {unlabeled:,} rows without a label are passed over", markup=False)


def _new_folder(target: Path) -> Path:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ReviewError(f"{target} is there already, with something in it", hint="name a new folder")
    return target


def _write_folders(table: AnswerTable, target: Path, *, link: bool) -> int:
    rows = table.in_force
    for row in rows:
        source = table.root / row.path
        copy = target / ("yes" if row.answer == "yes" else "bad") / row.path
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


def _read_folders(table: AnswerTable, source: Path) -> Iterator[ImportedAnswer]:
    sides = [(source / name, answer) for name, answer in FOLDERS.items() if (source / name).is_dir()]
    if not sides:
        raise ReviewError(f"{source}: holds no folder {', '.join(FOLDERS)}")
    for folder, answer in sides:
        for photo in find_images(folder):
            yield ImportedAnswer(table.sha256_of(sha256_file(photo), str(photo)), answer, table.reviewer)
