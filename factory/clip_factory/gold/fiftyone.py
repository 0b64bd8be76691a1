"""FiftyOne's folder of an image classification dataset, read and written without the package.

    labels.json    {"classes": [...], "labels": {KEY: a class's number or name, or {"label": ..., "attributes": {...}}}}
    data.json      {KEY: where the photo is}; or a folder `data/` with the photos, named KEY and an ending

The form is `FiftyOneImageClassificationDataset`, as FiftyOne 1.22 has it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from clip_factory.errors import ReviewError
from clip_factory.gold.answer_table import AnswerTable, ImportedAnswer, parse_label
from clip_factory.gold.journal import checked_name
from clip_factory.run_folder import sha256_file
from clip_factory.runtime.atomic import write_json

ENDING = ".fiftyone"
"""Of the folder that is written."""
LABELS, MANIFEST, DATA = "labels.json", "data.json", "data"


def write(table: AnswerTable, target: Path) -> int:
    """Write the answers in force, and where all photos are; nothing is copied. The count of answers is returned.

    Keys are sha256. A photo without an answer has no label: the teacher's probabilities are no answers.
    """
    rows = table.in_force
    target.mkdir(parents=True, exist_ok=True)
    root = table.root.resolve()
    write_json(target / MANIFEST, {row.sha256: str(root / row.path) for row in table.rows})
    labels = {
        row.sha256: {"label": row.answer, "attributes": {"reviewer": row.by, "teacher": round(row.p, 4)}}
        for row in rows
    }
    write_json(target / LABELS, {"classes": ["no", "yes"], "labels": labels})
    return len(rows)


def read(table: AnswerTable, source: Path) -> Iterator[ImportedAnswer]:
    """The labels of a dataset that FiftyOne or `write` wrote; photos are known by their bytes, else by their names.

    Raises:
        ReviewError: A label is none of yes, no, unsure, or a photo is none of this run.
    """
    dataset = json.loads((source / LABELS).read_text(encoding="utf-8"))
    classes, files, names = dataset.get("classes") or [], _files(source), _by_stem(table)
    for key, label in dataset["labels"].items():
        where = f"{source / LABELS}: {key[:200]}"
        for one in label if isinstance(label, list) else [label] if label is not None else []:
            entry = one if isinstance(one, dict) else {"label": one}
            word = classes[entry["label"]] if isinstance(entry["label"], int) else entry["label"]
            by = checked_name(str(entry.get("attributes", {}).get("reviewer") or table.reviewer))
            yield ImportedAnswer(_photo(table, where, key, files, names), parse_label(word, where), by)


def _photo(table: AnswerTable, where: str, key: str, files: Mapping[str, Path], names: Mapping[str, list[str]]) -> str:
    file = files.get(key, Path(key))
    if not table.has(key) and file.is_file():
        return table.sha256_of(sha256_file(file), where)
    alike = names.get(PurePosixPath(key).as_posix(), [])
    if len(alike) > 1:
        raise ReviewError(f"{where}: {len(alike)} photos of this run have this name", hint="export the media, too")
    return table.sha256_of(alike[0] if alike else key, where)


def _files(source: Path) -> dict[str, Path]:
    """The photos of a dataset by key."""
    if (source / MANIFEST).is_file():
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
        return {key: source / path for key, path in manifest.items()}
    data = source / DATA
    return {path.relative_to(data).with_suffix("").as_posix(): path for path in data.rglob("*") if path.is_file()}


def _by_stem(table: AnswerTable) -> dict[str, list[str]]:
    """The photos of the run by path without ending, which is what FiftyOne makes a key of."""
    names: dict[str, list[str]] = defaultdict(list)
    for row in table.rows:
        names[PurePosixPath(row.path).with_suffix("").as_posix()].append(row.sha256)
    return names
