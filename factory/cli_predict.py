"""`factory predict` and `factory drift`: a model asked, and its answers watched; no more than the base install."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory.runtime import Prediction
from factory.terminal import DONE, REFUSED, SOME_UNREADABLE, out, plain, table

if TYPE_CHECKING:
    from factory.runtime import Model


class Format(StrEnum):
    """How predictions are printed."""

    table = "table"
    json = "json"
    csv = "csv"


class Report(StrEnum):
    """How a finding is printed."""

    words = "words"
    json = "json"


ModelArgument = Annotated[
    Path, typer.Argument(help="The model file, or its name in a registry.", metavar="MODEL.onnx", show_default=False)
]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        help="Folder or URL; MODEL.onnx is then NAME, NAME@VERSION or NAME@ALIAS. "
        "Else $FACTORY_REGISTRY, for a name that is no file.",
        metavar="REGISTRY",
        show_default=False,
    ),
]
PublicOption = Annotated[
    Path | None,
    typer.Option(
        "--public-key",
        help="Refuse a release not signed by this key; else $FACTORY_PUBLIC_KEY.",
        metavar="FILE",
        show_default=False,
    ),
]


def predict(
    model: ModelArgument,
    paths: Annotated[
        list[str],
        typer.Argument(help="Files, folders, globs, or - for a list on stdin.", metavar="PATH...", show_default=False),
    ],
    form: Annotated[Format, typer.Option("--format", help="How to print; json: one object a line.")] = Format.table,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, max=1, help="Yes from this probability on; else the model's own."),
    ] = None,
    registry: RegistryOption = None,
    public_key: PublicOption = None,
    scores: Annotated[
        Path | None,
        typer.Option("--scores", help="Count the probabilities here too, for `factory drift`.", metavar="FILE"),
    ] = None,
) -> None:
    """Answer the question for photos; needs neither torch nor a network.

    Exit code 3: some inputs could not be read; the rest are done.

    Example:  factory predict model.onnx photos/ --format json
    """
    from factory.runtime import ScoreHistogram
    from factory.runtime.inputs import expand

    loaded = _load(model, registry, public_key)
    counted = ScoreHistogram(loaded.sha256)
    if scores is not None:
        counted.append(scores)  # nothing yet: a file that cannot take them is refused before the work, not after
    predictions = loaded.iter_predict(expand(paths, sys.stdin), threshold=threshold, scores=counted)
    try:
        unreadable = _PRINTERS[form](predictions)
    finally:  # stopped half-way, what was answered counts all the same
        if scores is not None:
            counted.append(scores)
    raise typer.Exit(SOME_UNREADABLE if unreadable else DONE)


def drift(
    model: ModelArgument,
    scores: Annotated[
        Path,
        typer.Argument(
            help="What `factory predict` left with --scores, or printed as json or csv.",
            metavar="SCORES",
            show_default=False,
        ),
    ],
    registry: RegistryOption = None,
    public_key: PublicOption = None,
    form: Annotated[Report, typer.Option("--format", help="How to say it.")] = Report.words,
    fail: Annotated[bool, typer.Option("--fail", help="Exit with 1 if the inputs have moved.")] = False,
) -> None:
    """Say whether the inputs have moved since the model was made, by the scores that it gives.

    Example:  factory drift model.onnx scores.json
    """
    from factory.runtime.drift import compare, reference
    from factory.runtime.scores import read_scores

    loaded = _load(model, registry, public_key)
    found = compare(reference(loaded.metadata), read_scores(scores, loaded.sha256).counts)
    print(json.dumps(asdict(found)) if form is Report.json else f"{found.says}\n{found.advice}")  # noqa: T201
    raise typer.Exit(REFUSED if fail and found.verdict == "moved" else DONE)


def _load(model: Path, registry: str | None, public_key: Path | None) -> Model:
    """A model file, or a release; the environment has a say only where no file is meant."""
    from factory.runtime import Model
    from factory.runtime.index import is_reference

    if registry is None and is_reference(str(model)) and not model.is_file():
        registry = os.environ.get("FACTORY_REGISTRY") or None
    if registry is not None and public_key is None and (named := os.environ.get("FACTORY_PUBLIC_KEY")):
        public_key = Path(named)
    return Model.load(model, registry=registry, public_key=public_key)


def print_table(predictions: Iterable[Prediction]) -> bool:
    """Print predictions as a table; whether some images could not be read."""
    failed = False
    shown = table(("path", "probability", "label"))
    for one in predictions:
        failed |= one.error is not None
        probability = f"{one.probability:.3f}" if one.probability is not None else ""
        shown.add_row(plain(one.path or ""), probability, one.label or plain(f"error: {one.error}"))
    out.print(shown)
    return failed


def _print_json(predictions: Iterable[Prediction]) -> bool:
    failed = False
    for one in predictions:
        failed |= one.error is not None
        answer = {"error": one.error} if one.error else {"probability": one.probability, "label": one.label}
        print(json.dumps({"path": one.path, **answer}, ensure_ascii=False), flush=True)  # noqa: T201
    return failed


def _print_csv(predictions: Iterable[Prediction]) -> bool:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("path", "probability", "label", "error"))
    failed = False
    for one in predictions:
        failed |= one.error is not None
        writer.writerow((one.path, one.probability, one.label, one.error))
    return failed


_PRINTERS = {Format.table: print_table, Format.json: _print_json, Format.csv: _print_csv}
