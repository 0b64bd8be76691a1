"""Tables of labels in text, as spreadsheets and other tools write them: their separators, encodings and headings."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clip_factory.errors import GoldError

YES = frozenset({"yes", "y", "true", "t", "1", "1.0"})
NO = frozenset({"no", "n", "false", "f", "0", "0.0"})
HEADINGS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "photo"),
    "label": ("label", "answer", "gold"),
    "reviewer": ("reviewer",),
}
"""What a column may be called, in any letter case; the first of these that a table has counts."""
SEPARATORS = (",", ";", "\t", "|")
MAX_BYTES = 1_000_000_000
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
"""What a file begins with that says how it is encoded; Excel's "Unicode text" is UTF-16."""


class LabelRow(NamedTuple):
    """One row of a table."""

    line: int
    """In the file, from 1."""
    path: str
    """As it stands there, with spaces that may be part of it."""
    label: str
    """In small letters; empty where the cell is."""
    reviewer: str
    """Empty where the table does not say."""


def read_table(path: Path) -> list[LabelRow]:
    """The rows of a table; empty lines and separators at the end of a line mean nothing.

    Raises:
        GoldError: The file cannot be read, or lacks a column.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise GoldError(f"{path}: more than {MAX_BYTES:,} bytes: no table of labels")
        text = _text(path.read_bytes())
        return list(_rows(path, text))
    except FileNotFoundError:
        raise GoldError(f"{path}: no such file of gold labels", hint="check the path") from None
    except UnicodeDecodeError as error:
        hint = "save it as CSV in UTF-8"
        raise GoldError(f"{path}: neither UTF-8 nor UTF-16 (byte {error.start:,})", hint=hint) from None
    except (OSError, csv.Error) as error:
        raise GoldError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from None


def parse_yes(label: str) -> bool | None:
    """Whether a label in small letters means yes; None where it means neither yes nor no."""
    return True if label in YES else False if label in NO else None


def _text(data: bytes) -> str:
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    return data.decode(encoding)


def _rows(path: Path, text: str) -> Iterator[LabelRow]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text), strict=True)
    heading = [cell.strip().lower() for cell in next(reader, [])]
    columns = {name: _column(heading, names) for name, names in HEADINGS.items()}
    if columns["path"] is None or columns["label"] is None:
        shown = ",".join(cell for cell in heading if cell)
        raise GoldError(f"{path}:1: needs the columns path,label; found {shown[:200]!r}")
    for cells in reader:
        named = {name: _cell(cells, column) for name, column in columns.items()}
        if any(cell.strip() for cell in cells):
            label, reviewer = named["label"].strip().lower(), named["reviewer"].strip()
            yield LabelRow(reader.line_num, named["path"], label, reviewer)


def _separator(text: str) -> str:
    """The separator that splits the heading into the most columns; a comma where none does."""
    heading = text.partition("\n")[0]
    return max(SEPARATORS, key=heading.count)


def _column(heading: list[str], names: tuple[str, ...]) -> int | None:
    return next((heading.index(name) for name in names if name in heading), None)


def _cell(cells: list[str], column: int | None) -> str:
    return cells[column] if column is not None and column < len(cells) else ""
