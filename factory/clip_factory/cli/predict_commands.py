"""`factory predict` and `factory drift`: a model asked, and its answers watched; no more than the base install."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from io import TextIOWrapper
from itertools import groupby
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
from clip_factory.runtime.photo_files import INSTALL_VIDEO, is_video
from clip_factory.terminal import DONE, REFUSED, SOME_UNREADABLE, err, out, plain

if TYPE_CHECKING:
    from collections.abc import Generator

    from clip_factory.cli.copies import Copies
    from clip_factory.cli.prediction_rows import Row
    from clip_factory.runtime import Model, Prediction, ScoreHistogram, Span
    from clip_factory.runtime.video_predictions import SpanJoiner

    VideoRows = Generator[Row, None, float | None]


class Report(StrEnum):
    """How a finding is printed."""

    words = "words"
    json = "json"


UNREADABLE_SHOWN = 20
"""Lines for photos that cannot be read, where --only keeps them out of the rows."""
SPANS_SHOWN = 20


def predict(
    model: ModelArgument,
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Photos, videos, folders, globs, or - for a list on stdin.", metavar="PATH...", show_default=False
        ),
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
    every: Annotated[
        str, typer.Option("--every", help="From one sample of a video to the next: 2s, 500ms, 1m.", metavar="TIME")
    ] = "2s",
    spans: Annotated[
        Path | None,
        typer.Option(
            "--spans",
            help="Write the spans of yes in videos to a .csv, .json or .jsonl file; by the first model.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    registry: LookupOption = None,
    public_key: LookupKeyOption = None,
    scores: Annotated[
        Path | None,
        typer.Option("--scores", help="Count the probabilities here too, for `factory drift`.", metavar="FILE"),
    ] = None,
) -> None:
    """Answer the question for photos and videos; needs neither torch nor a network.

    Of a video, a row says what it shows at a time: clip.mp4#t=12.000.

    Exit code 3: some inputs could not be read; the rest are done.

    Example:  factory predict model.onnx photos/ --only unsure --copy-to look/
    """
    from clip_factory.cli.copies import Copies
    from clip_factory.runtime import ScoreHistogram
    from clip_factory.runtime.durations import milliseconds
    from clip_factory.runtime.video_predictions import SpanJoiner

    form = rows.format_of(form, target)
    spans_form = rows.format_of(None, spans) if spans is not None else Format.json
    rows.check_files({"--out": target, "--spans": spans, "--scores": scores})
    joiner = SpanJoiner(milliseconds(every, "--every") / 1000)
    unread: list[Path] = []
    named = [str(model), *(also or ())]
    if scores is not None and len(named) > 1:
        hint = "count the scores of each in a file of its own, one model at a time"
        raise FactoryError("--scores counts for one model, and several are asked", hint=hint)
    loaded = [api.load_model(one, registry=registry, public_key=public_key) for one in named]
    copies = None if copy_to is None else Copies.to(copy_to, paths)
    counted = ScoreHistogram(loaded[0].sha256)
    if scores is not None:
        counted.append(scores)  # nothing yet: a file that cannot take them is refused before the work, not after
    tally, names = Tally(only), dict[str, str]()
    _print_questions(loaded, threshold)
    try:
        answered = _answered(loaded, _named(paths, names, unread), threshold, counted, every, joiner)
        shown = _copied(tally.filter(answered), copies, names)
        _write(form, _columns(loaded, named), shown, target)
    finally:  # stopped half-way, what was answered counts all the same
        if scores is not None:
            counted.append(scores)
    if spans is not None:
        with atomic(spans) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            rows.SPAN_WRITERS[spans_form](joiner.spans, file)
    _sum_up(tally, copies, target)
    _report_videos(joiner.spans, unread, spans)
    raise typer.Exit(SOME_UNREADABLE if tally.unreadable else DONE)


def _named(paths: Sequence[str], names: dict[str, str], unread: list[Path]) -> Iterator[str]:
    """The files that the arguments stand for; `names` gets what each is called in copies."""
    from clip_factory.runtime.inputs import inputs

    if isinstance(sys.stdin, TextIOWrapper):  # names of files are bytes, and need not be text
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    for one in inputs(paths, sys.stdin, unread):
        names[one.path] = one.name
        yield one.path


def _answered(
    models: Sequence[Model],
    files: Iterator[str],
    threshold: float | None,
    counted: ScoreHistogram,
    every: str,
    joiner: SpanJoiner,
) -> Iterator[Row]:
    """The answers for photos, and for each sample of videos, in order."""
    from clip_factory.runtime import iter_predict_all, iter_predict_video

    histograms = [counted, *[None] * (len(models) - 1)]
    for videos, group in groupby(files, is_video):
        if not videos:
            yield from _noting_small_regions(
                models, iter_predict_all(models, group, threshold=threshold, scores=histograms)
            )
            continue
        for video in group:
            answers = iter_predict_video(models, video, every=every, threshold=threshold, scores=histograms)
            joiner.end((yield from _joined(answers, joiner)))


def _joined(answers: VideoRows, joiner: SpanJoiner) -> VideoRows:
    """The same answers, of which the first model's are joined to spans."""
    while True:
        try:
            row = next(answers)
        except StopIteration as stop:
            seconds: float | None = stop.value
            return seconds
        if row[0].error is None:
            joiner.add(row[0])
        yield row


def _copied(shown: Iterator[Row], copies: Copies | None, names: Mapping[str, str]) -> Iterator[Row]:
    """The rows to show; a photo is copied when its row comes by."""
    for row in shown:
        path = row[0].path
        if copies is not None and path is not None and row[0].error is None:
            if row[0].seconds is None:
                copies.add(path, names[path])
            else:
                copies.samples += 1
        yield row


def _print_questions(models: Sequence[Model], threshold: float | None) -> None:
    if err.is_terminal:  # a program that reads stderr waits for complaints alone
        for model in models:
            yes_from = model.threshold if threshold is None else threshold
            err.print(f"{plain(model.name)}: {plain(model.question)}  (yes from {yes_from:.3g} on)")
            if model.region is not None:
                err.print(f"{plain(model.name)} sees a region of each photo: {model.region.says}", markup=False)


def _noting_small_regions(models: Sequence[Model], answers: Iterator[Row]) -> Iterator[Row]:
    """The same answers; at the first photo that can be read, a warning where a region has few pixels in it."""
    looked_at = False
    for row in answers:
        if not looked_at and row[0].error is None and row[0].path is not None:
            looked_at = True
            _warn_of_small_regions(models, row[0].path)
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


def _report_videos(spans: Sequence[Span], unread: Sequence[Path], file: Path | None) -> None:
    """Say on stderr which spans were joined, and which videos were passed over."""
    if err.is_terminal:
        for span in spans[:SPANS_SHOWN]:
            err.print(
                f"{plain(span.path)}: yes from {span.start:.3f} s to {span.end:.3f} s, on average {span.mean:.3f}"
            )
        if (more := len(spans) - SPANS_SHOWN) > 0:
            err.print(f"and {more} more spans of yes")
    if file is not None:
        err.print(f"{len(spans):,} {'span' if len(spans) == 1 else 'spans'} of yes: {file}", markup=False)
    if unread:
        err.print(f"videos that were passed over: {len(unread)}; to read them, {INSTALL_VIDEO}", markup=False)


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
