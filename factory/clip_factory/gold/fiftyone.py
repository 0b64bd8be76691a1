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
from clip_factory.gold.formats import Given, in_force, known, meant
from clip_factory.gold.journal import checked_name
from clip_factory.review.session import Session
from clip_factory.run_folder import sha256_file, write_json

ENDING = ".fiftyone"
"""Of the folder that is written."""
LABELS, MANIFEST, DATA = "labels.json", "data.json", "data"


def give(session: Session, target: Path) -> int:
    """Write the answers in force, and where all photos are; nothing is copied. The count of answers is returned.

    Keys are sha256. A photo without an answer has no label: the teacher's probabilities are no answers.
    """
    photos, rows = session.photos, in_force(session)
    target.mkdir(parents=True, exist_ok=True)
    root = photos.root.resolve()
    write_json(
        target / MANIFEST, {sha: str(root / path) for sha, path in zip(photos.sha256, photos.paths, strict=True)}
    )
    labels = {
        row["sha256"]: {"label": row["answer"], "attributes": {"reviewer": row["by"], "teacher": round(row["p"], 4)}}
        for row in rows
    }
    write_json(target / LABELS, {"classes": ["no", "yes"], "labels": labels})
    return len(rows)


def take(session: Session, source: Path) -> Iterator[Given]:
    """The labels of a dataset that FiftyOne or `give` wrote; photos are known by their bytes, else by their names.

    Raises:
        ReviewError: A label is none of yes, no, unsure, or a photo is none of this run.
    """
    told = json.loads((source / LABELS).read_text(encoding="utf-8"))
    classes, files, names = told.get("classes") or [], _files(source), _by_stem(session)
    for key, label in told["labels"].items():
        where = f"{source / LABELS}: {key[:200]}"
        for one in label if isinstance(label, list) else [label] if label is not None else []:
            said = one if isinstance(one, dict) else {"label": one}
            word = classes[said["label"]] if isinstance(said["label"], int) else said["label"]
            by = checked_name(str(said.get("attributes", {}).get("reviewer") or session.reviewer))
            yield Given(_photo(session, where, key, files, names), meant(word, where), by)


def _photo(session: Session, where: str, key: str, files: Mapping[str, Path], names: Mapping[str, list[str]]) -> str:
    file = files.get(key, Path(key))
    if session.sha256_of(key) is None and file.is_file():
        return known(session, where, sha256_file(file))
    alike = names.get(PurePosixPath(key).as_posix(), [])
    if len(alike) > 1:
        raise ReviewError(f"{where}: {len(alike)} photos of this run have this name", hint="export the media, too")
    return known(session, where, alike[0] if alike else key)


def _files(source: Path) -> dict[str, Path]:
    """The photos of a dataset by key."""
    if (source / MANIFEST).is_file():
        told: dict[str, Any] = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
        return {key: source / path for key, path in told.items()}
    data = source / DATA
    return {path.relative_to(data).with_suffix("").as_posix(): path for path in data.rglob("*") if path.is_file()}


def _by_stem(session: Session) -> dict[str, list[str]]:
    """The photos of the run by path without ending, which is what FiftyOne makes a key of."""
    found: dict[str, list[str]] = defaultdict(list)
    for sha256, path in zip(session.photos.sha256, session.photos.paths, strict=True):
        found[PurePosixPath(path).with_suffix("").as_posix()].append(sha256)
    return found
