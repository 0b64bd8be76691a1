"""The pages of this room: each one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader
from PIL import Image

from clip_factory import __version__
from clip_factory.report import formatting as words
from clip_factory.report import plots
from clip_factory.report.embedded_images import GRAY, SIDE, tile, uri
from clip_factory.report.report_page import environment
from clip_factory.runtime.atomic import atomic
from clip_factory.runtime.processors import usable_cpus
from clip_factory.runtime.region import Region
from clip_factory.zeroshot.accuracy import Accuracy
from clip_factory.zeroshot.accuracy_plots import few_shot_plot
from clip_factory.zeroshot.classification import UNSURE
from clip_factory.zeroshot.folder_result import FolderResult

if TYPE_CHECKING:  # a page of answers needs none of these
    from clip_factory.zeroshot.embedded_folder import EmbeddedFolder
    from clip_factory.zeroshot.look_alikes import Suggestion
    from clip_factory.zeroshot.search import Match
    from clip_factory.zeroshot.wordings import WordingResult

MISTAKES, A_CELL, A_CLASS, A_SUGGESTION = 24, 12, 10, 6
"""Photos shown: of the surest mistakes, of a cell of the matrix, of a class, of a suggestion."""
MAX_CELLS = 60
"""Cells of the matrix whose photos the page holds: the fullest ones beside the diagonal first."""


@dataclass(frozen=True)
class Tile:
    """One photo."""

    uri: str
    """`data:` URI of a JPEG; a gray tile where it cannot be read any more."""
    missing: bool
    path: str
    says: str
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Photos of one kind."""

    id: str
    title: str
    photos: list[Tile]
    total: int


def write_page(path: Path, text: str) -> Path:
    """Write a page: whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def zeroshot_page(result: FolderResult, title: str) -> str:
    """Answers of a folder; with its folders as truth also the matrix, whose cells open their photos."""
    truth = result.truth
    accuracy = truth.accuracy if truth else None
    return _render(
        "zeroshot.html.j2",
        title=title,
        result=result,
        accuracy=accuracy,
        names=_columns(accuracy) if accuracy else [],
        matrix=_matrix(accuracy) if accuracy else [],
        recalls=_recalls(accuracy) if accuracy else [],
        templates=truth.by_template if truth else (),
        plot=few_shot_plot(truth.few_shot) if truth and truth.few_shot else None,
        mistakes=_mistakes(result, accuracy) if accuracy else None,
        cells=_cells(result, accuracy) if accuracy else [],
        classes=_likeliest(result),
        counts=_counts(result),
    )


def search_page(root: Path, matches: Sequence[Match], asked: str, total: int) -> str:
    """The photos that a search gave."""
    photos = _tiles(root, [match.path for match in matches], [f"{match.score:.3f}" for match in matches])
    return _render("search.html.j2", title=asked, photos=photos, total=total)


def prompts_page(
    folder: EmbeddedFolder, results: Sequence[WordingResult], suggestions: Sequence[Suggestion], title: str
) -> str:
    """Wordings side by side, and the phrases that are suggested."""
    shown = [
        {"result": one, "plot": plots.teacher_scores(one.p, name=f"wording-{number}")}
        for number, one in enumerate(results)
    ]
    galleries = [_suggested(folder, number, one) for number, one in enumerate(suggestions)]
    return _render("prompts.html.j2", title=title, shown=shown, suggestions=galleries, total=len(folder.paths))


def _render(name: str, **filled: Any) -> str:
    return _environment().get_template(name).render(version=__version__, **filled)


def _environment() -> Environment:
    made = environment(html=True)
    shared = [made.loader] if made.loader else []
    made.loader = ChoiceLoader([PackageLoader("clip_factory.zeroshot"), *shared])
    return made


def _columns(accuracy: Accuracy) -> list[str]:
    return [*accuracy.names, UNSURE][: accuracy.confusion.shape[1]]


def _matrix(accuracy: Accuracy) -> list[dict[str, Any]]:
    counts = accuracy.confusion
    open_cells = {(row, column) for row, column, _ in _fullest(accuracy)}
    rows = []
    for row, line in enumerate(counts):
        total = max(int(line.sum()), 1)
        cells = [
            {"count": int(n), "weight": n / total, "right": column == row, "opens": (row, column) in open_cells}
            for column, n in enumerate(line)
        ]
        rows.append({"name": accuracy.names[row], "number": row, "cells": cells})
    return rows


def _recalls(accuracy: Accuracy) -> list[dict[str, Any]]:
    rows = zip(accuracy.names, accuracy.recalls, strict=False)
    return [
        {"name": name, "n": share.n, "figure": words.share(share.figure), "interval": words.interval(share.interval)}
        for name, share in rows
    ]


def _fullest(accuracy: Accuracy) -> list[tuple[int, int, np.ndarray]]:
    """Row, column and photos of the cells that the page opens; mistakes before right answers."""
    answers = np.where(accuracy.answers < 0, len(accuracy.names), accuracy.answers)
    rows = {}
    for row, column in {*zip(accuracy.truth.tolist(), answers.tolist(), strict=True)}:
        rows[row, column] = accuracy.rows[(accuracy.truth == row) & (answers == column)]
    order = sorted(rows, key=lambda cell: (cell[0] == cell[1], -len(rows[cell])))[:MAX_CELLS]
    return [(row, column, rows[row, column]) for row, column in order]


def _cells(result: FolderResult, accuracy: Accuracy) -> list[Gallery]:
    columns = _columns(accuracy)
    return [
        Gallery(
            f"cell-{row}-{column}",
            f"{accuracy.names[row]}, answered {columns[column]}",
            _answered(result, photos[np.argsort(-result.probabilities[photos].max(axis=1))][:A_CELL]),
            len(photos),
        )
        for row, column, photos in _fullest(accuracy)
    ]


def _mistakes(result: FolderResult, accuracy: Accuracy) -> Gallery:
    rows = accuracy.worst(result.probabilities, MISTAKES)
    truth = dict(zip(accuracy.rows.tolist(), accuracy.truth.tolist(), strict=True))
    notes = [f"folder {accuracy.names[truth[row]]}" for row in rows.tolist()]
    total = int((accuracy.answers != accuracy.truth).sum())
    return Gallery("mistakes", "The surest mistakes", _answered(result, rows, notes), total)


def _likeliest(result: FolderResult) -> list[Gallery]:
    """The likeliest photos of each class."""
    answers = result.classification.answers
    galleries = []
    for number, name in enumerate(result.classification.names):
        p = result.probabilities[:, number]
        rows = np.argsort(-p, kind="stable")[:A_CLASS]
        says = [f"{words.score(float(p[row]))}" for row in rows]
        photos = _tiles(result.root, [result.paths[row] for row in rows], says)
        galleries.append(Gallery(f"class-{number}", name, photos, int((answers == number).sum())))
    return galleries


def _counts(result: FolderResult) -> list[tuple[str, int]]:
    answers = result.names
    return [(name, answers.count(name)) for name in (*result.classification.names, UNSURE) if answers.count(name)]


def _suggested(folder: EmbeddedFolder, number: int, one: Suggestion) -> dict[str, Any]:
    def shown(rows: np.ndarray) -> list[Tile]:
        paths = [folder.paths[row] for row in rows[:A_SUGGESTION]]
        return _tiles(folder.root, paths, [""] * len(paths), region=folder.region)

    turned = Gallery(
        f"turned-{number}", f"{len(one.turned):,} photos would turn from yes to no", shown(one.turned), len(one.turned)
    )
    photos = Gallery(f"photos-{number}", f"{len(one.photos):,} photos lie near it", shown(one.photos), len(one.photos))
    return {"one": one, "galleries": [turned, photos] if len(one.turned) else [photos]}


def _answered(result: FolderResult, rows: np.ndarray, notes: Sequence[str] = ()) -> list[Tile]:
    answers = result.names
    says = [f"{answers[row]}, {words.score(float(result.probabilities[row].max()))}" for row in rows.tolist()]
    return _tiles(result.root, [result.paths[row] for row in rows], says, notes)


def _tiles(
    root: Path, paths: Sequence[str], says: Sequence[str], notes: Sequence[str] = (), region: Region | None = None
) -> list[Tile]:
    with ThreadPoolExecutor(usable_cpus()) as pool:
        images = list(pool.map(lambda path: tile(root, path, region=region), paths))
    gray = Image.new("RGB", (SIDE, SIDE), GRAY)
    rows = zip(images, paths, says, notes or [""] * len(paths), strict=True)
    return [Tile(uri(image or gray), image is None, path, what, note) for image, path, what, note in rows]
