"""`factory predict` and `factory drift`: a model asked, and its answers watched; no more than the base install."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clip_factory import api
from clip_factory.cli import completion
from clip_factory.cli import prediction_rows as rows
from clip_factory.cli.options import LookupKeyOption, LookupOption, ModelArgument
from clip_factory.cli.prediction_rows import Format, Only, Tally
from clip_factory.errors import FactoryError
from clip_factory.runtime.atomic import atomic
from clip_factory.terminal import DONE, REFUSED, SOME_UNREADABLE, err, out, plain

if TYPE_CHECKING:
    from clip_factory.cli.copies import Copies
    from clip_factory.cli.prediction_rows import Row
    from clip_factory.runtime import Model, Prediction, ScoreHistogram


class Report(StrEnum):
    """How a finding is printed."""

    words = "words"
    json = "json"


UNREADABLE_SHOWN = 20
"""Lines for photos that cannot be read, where --only keeps them out of the rows."""


def predict(
    model: ModelArgument,
    paths: Annotated[
        list[str],
        typer.Argument(help="Files, folders, globs, or - for a list on stdin.", metavar="PATH...", show_default=False),
    ],
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="How to print; json: one object a line. Else by the suffix of --out, else a table.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, max=1, help="Yes from this probability on; else the model's own."),
    ] = None,
    only: Annotated[
        Only | None,
        typer.Option(
            "--only",
            help="Show these alone; unsure: less than a third of the way from the threshold to 0 or to 1.",
            show_default=False,
        ),
    ] = None,
    copy_to: Annotated[
        Path | None,
        typer.Option(
            "--copy-to",
            help="Copy the photos that are shown here; none is moved, no file replaced.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write to a .csv, .json or .jsonl file, all at once.", metavar="FILE", show_default=False
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also",
            help="Ask another model too, in a column of its own; may be given again. --only goes by the first.",
            metavar="MODEL",
            show_default=False,
            autocompletion=completion.models,
        ),
    ] = None,
    registry: LookupOption = None,
    public_key: LookupKeyOption = None,
    scores: Annotated[
        Path | None,
        typer.Option("--scores", help="Count the probabilities here too, for `factory drift`.", metavar="FILE"),
    ] = None,
) -> None:
    """Answer the question for photos; needs neither torch nor a network.

    Exit code 3: some inputs could not be read; the rest are done.

    Example:  factory predict model.onnx photos/ --only unsure --copy-to look/
    """
    from clip_factory.cli.copies import Copies
    from clip_factory.runtime import ScoreHistogram

    form = rows.format_of(form, target)
    named = [str(model), *(also or ())]
    if scores is not None and len(named) > 1:
        hint = "count the scores of each in a file of its own, one model at a time"
        raise FactoryError("--scores counts for one model, and several are asked", hint=hint)
    loaded = [api.load_model(one, registry=registry, public_key=public_key) for one in named]
    copies = None if copy_to is None else Copies.to(copy_to, paths)
    counted = ScoreHistogram(loaded[0].sha256)
    if scores is not None:
        counted.append(scores)  # nothing yet: a file that cannot take them is refused before the work, not after
    tally = Tally(only)
    try:
        shown = _answered(loaded, paths, threshold, counted, tally, copies)
        _write(form, _columns(loaded, named), shown, target)
    finally:  # stopped half-way, what was answered counts all the same
        if scores is not None:
            counted.append(scores)
    _sum_up(tally, copies, target)
    raise typer.Exit(SOME_UNREADABLE if tally.unreadable else DONE)


def _answered(
    models: Sequence[Model],
    paths: Sequence[str],
    threshold: float | None,
    counted: ScoreHistogram,
    tally: Tally,
    copies: Copies | None,
) -> Iterator[Row]:
    """The rows to show, in order; a photo is copied when its row comes by."""
    from clip_factory.runtime import iter_predict_all
    from clip_factory.runtime.inputs import inputs

    names: dict[str, str] = {}

    if isinstance(sys.stdin, TextIOWrapper):  # names of files are bytes, and need not be text
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")

    def noted() -> Iterator[str]:
        for one in inputs(paths, sys.stdin):
            names[one.path] = one.name
            yield one.path

    if err.is_terminal:  # a program that reads stderr waits for complaints alone
        for model in models:
            yes_from = model.threshold if threshold is None else threshold
            err.print(f"{plain(model.name)}: {plain(model.question)}  (yes from {yes_from:.3g} on)")
            if model.region is not None:
                err.print(f"{plain(model.name)} sees a region of each photo: {model.region.says}", markup=False)
    looked_at = False
    histograms = [counted, *[None] * (len(models) - 1)]
    for row in tally.filter(iter_predict_all(models, noted(), threshold=threshold, scores=histograms)):
        path = row[0].path
        if not looked_at and row[0].error is None and path is not None:
            looked_at = True
            _warn_of_small_regions(models, path)
        if copies is not None and path is not None and row[0].error is None:
            copies.add(path, names[path])
        yield row


def _warn_of_small_regions(models: Sequence[Model], path: str) -> None:
    """Say where the region that a model sees has few pixels in a photo: others of the same camera are like it."""
    from clip_factory.runtime.preprocessing import read_rgb

    for model in models:
        if model.region is not None and model.region.is_small(*(size := read_rgb(path).size)):
            left, top, right, bottom = model.region.pixels(*size)
            what = f"the region that {plain(model.name)} sees is only {right - left} x {bottom - top} pixels"
            err.print(f"warning: {plain(path)}: {what}: its answers may mean little", markup=False, style="yellow")


def _write(form: Format, columns: Sequence[str], shown: Iterator[Row], target: Path | None) -> None:
    if form is Format.table:
        out.print(rows.as_table(columns, shown))
    elif target is None:
        rows.WRITERS[form](columns, shown, sys.stdout)
    else:
        with (
            atomic(target) as temporary,
            open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            rows.WRITERS[form](columns, shown, file)


def _columns(models: Sequence[Model], named: Sequence[str]) -> list[str]:
    """A heading for each model: its name, or what was typed where two have one name.

    Raises:
        FactoryError: One was typed twice.
    """
    often = Counter(model.name for model in models)
    headings = [model.name if often[model.name] == 1 else typed for model, typed in zip(models, named, strict=True)]
    if twice := next((name for name, count in Counter(headings).items() if count > 1), None):
        raise FactoryError(f"{twice} is asked twice", hint="name each model once")
    return headings


def _sum_up(tally: Tally, copies: Copies | None, target: Path | None) -> None:
    """Say on stderr what the rows on stdout do not show."""
    if tally.only is not None:
        err.print(f"{tally.only}: {tally.kept} of {tally.answered} photos")
        for one in tally.unreadable[:UNREADABLE_SHOWN]:
            err.print(f"cannot be read: {plain(one.path)}: {plain(one.error)}")
        if (more := len(tally.unreadable) - UNREADABLE_SHOWN) > 0:
            err.print(f"and {more} more cannot be read")
    if copies is not None:
        err.print(copies.summary, markup=False)
    if target is not None:
        out.print(str(target), markup=False)


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
    registry: LookupOption = None,
    public_key: LookupKeyOption = None,
    form: Annotated[Report, typer.Option("--format", help="How to say it.")] = Report.words,
    fail: Annotated[bool, typer.Option("--fail", help="Exit with 1 if the inputs have moved.")] = False,
) -> None:
    """Say whether the inputs have moved since the model was made, by the scores that it gives.

    Example:  factory drift model.onnx scores.json
    """
    from clip_factory.runtime.drift import compare, stored_histogram
    from clip_factory.runtime.score_histogram import read_scores

    loaded = api.load_model(model, registry=registry, public_key=public_key)
    result = compare(stored_histogram(loaded.metadata), read_scores(scores, loaded.sha256).counts)
    print(json.dumps(asdict(result)) if form is Report.json else f"{result.says}\n{result.advice}")  # noqa: T201
    raise typer.Exit(REFUSED if fail and result.verdict == "moved" else DONE)


def print_table(predictions: Iterable[Prediction]) -> None:
    """Print one model's predictions as a table."""
    out.print(rows.as_table([""], ((one,) for one in predictions)))
