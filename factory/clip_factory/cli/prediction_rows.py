"""Predictions as a table, as lines of JSON or as CSV: one column of answers for each model that was asked."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from clip_factory.errors import FactoryError
from clip_factory.runtime.photo_files import path_text
from clip_factory.terminal import plain, table

if TYPE_CHECKING:
    from rich.table import Table

    from clip_factory.runtime import Prediction, Span

    Row = tuple[Prediction, ...]
    """One photo: a prediction by each model."""


class Format(StrEnum):
    """How predictions are printed."""

    table = "table"
    json = "json"
    csv = "csv"


SUFFIXES = {".csv": Format.csv, ".json": Format.json, ".jsonl": Format.json, ".ndjson": Format.json}


class Only(StrEnum):
    """Which photos are kept."""

    yes = "yes"
    no = "no"
    unsure = "unsure"


@dataclass
class Tally:
    """What came by: how many photos were kept, and which could not be read."""

    only: Only | None
    kept: int = 0
    answered: int = 0
    unreadable: list[Prediction] = field(default_factory=list)

    def filter(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows to show: all of them; or, where only one kind is wanted, those whose first answer is of it."""
        for row in rows:
            first = row[0]
            if first.error is not None:
                self.unreadable.append(first)
            else:
                self.answered += 1
            if self.only is None or _is(first, self.only):
                self.kept += 1
                yield row


def _is(answer: Prediction, only: Only) -> bool:
    return answer.unsure if only is Only.unsure else answer.label == only.value


def format_of(form: Format | None, file: Path | None) -> Format:
    """The format that was asked for; else that of the file's suffix; else a table.

    Raises:
        FactoryError: The file is a folder, its suffix is of no format, or a table is to go to it.
    """
    if file is None:
        return form or Format.table
    if file.is_dir():
        raise FactoryError(f"{file}: a folder, where a file is to be written", hint=f"name it: {file / 'answers.csv'}")
    if file.exists() and file.suffix.lower() not in SUFFIXES:
        hint = "a photo or a model would be lost; name another file, or delete this one"
        raise FactoryError(f"{file} is there already, and is neither .csv nor .json nor .jsonl", hint=hint)
    chosen = form or SUFFIXES.get(file.suffix.lower())
    if chosen is None or chosen is Format.table:
        hint = "name it .csv, .json or .jsonl, or add --format csv or json"
        raise FactoryError(f"{file}: {'a table is for reading' if chosen else 'which format?'}", hint=hint)
    return chosen


def check_files(files: Mapping[str, Path | None]) -> None:
    """See before any work that files can be written, each to a place of its own.

    Args:
        files: What is written, by option; None where it is not asked for.

    Raises:
        FactoryError: Two options name one file, or the folder of one is not there.
    """
    places: dict[Path, str] = {}
    for option, file in files.items():
        if file is None:
            continue
        if not file.absolute().parent.is_dir():
            raise FactoryError(f"{option} {file}: there is no folder {file.parent}", hint=f"mkdir -p {file.parent}")
        if (other := places.setdefault(file.resolve(), option)) != option:
            raise FactoryError(f"{file}: {other} and {option} name the same file", hint="name a file for each")


def as_table(names: Sequence[str], rows: Iterable[Row]) -> Table:
    """Rows for a terminal; the names of models stand above their columns where there are several."""
    several = len(names) > 1
    shown = table(("path", *map(plain, names), "") if several else ("path", "probability", "label"))
    for row in rows:
        path, error = plain(row[0].path or ""), row[0].error
        if error is not None:
            shown.add_row(path, *[""] * len(names), plain(f"error: {error}"))
        elif several:
            shown.add_row(path, *(f"{one.probability:.3f} {one.label}" for one in row))
        else:
            shown.add_row(path, f"{row[0].probability:.3f}", row[0].label)
    return shown


def write_json(names: Sequence[str], rows: Iterable[Row], file: IO[str]) -> None:
    """One object a line: path with probability and label, or error; of several models, these under each one's name.

    What a video shows at a time has its `seconds`, too.
    """
    for row in rows:
        tree: dict[str, Any] = {"path": _path(row[0])}
        if row[0].seconds is not None:
            tree["seconds"] = row[0].seconds
        if row[0].error is not None:
            tree["error"] = row[0].error
        elif len(names) > 1:
            tree["models"] = dict(zip(names, map(_answer, row), strict=True))
        else:
            tree |= _answer(row[0])
        print(json.dumps(tree, ensure_ascii=False), file=file, flush=True)


def write_csv(names: Sequence[str], rows: Iterable[Row], file: IO[str]) -> None:
    """Columns path, probability, label, error; of several models NAME probability and NAME label for each."""
    writer = csv.writer(file, lineterminator="\n")
    prefixes = [f"{name} " for name in names] if len(names) > 1 else [""]
    writer.writerow(("path", *(p + what for p in prefixes for what in ("probability", "label")), "error"))
    for row in rows:
        answers = (value for one in row for value in (one.probability, one.label))
        writer.writerow((_path(row[0]), *answers, row[0].error))


WRITERS = {Format.json: write_json, Format.csv: write_csv}


SPAN_COLUMNS = ("path", "start", "end", "mean", "max", "samples")


def write_spans_json(spans: Iterable[Span], file: IO[str]) -> None:
    """One object a line."""
    for span in spans:
        print(json.dumps(dict(zip(SPAN_COLUMNS, _span(span), strict=True)), ensure_ascii=False), file=file)


def write_spans_csv(spans: Iterable[Span], file: IO[str]) -> None:
    """Columns `SPAN_COLUMNS`."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(SPAN_COLUMNS)
    writer.writerows(map(_span, spans))


SPAN_WRITERS = {Format.json: write_spans_json, Format.csv: write_spans_csv}


def _span(span: Span) -> tuple[Any, ...]:
    return path_text(span.path), span.start, span.end, span.mean, span.max, span.samples


def _path(one: Prediction) -> str | None:
    """The path as images.parquet would have it: bytes that are no text are escaped."""
    return None if one.path is None else path_text(one.path)


def _answer(one: Prediction) -> dict[str, Any]:
    return {"probability": one.probability, "label": one.label}
