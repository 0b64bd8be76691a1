"""GitHub-flavoured Markdown out of text that may come from anybody: it is shown, and nothing in it is obeyed.

A backslash does not help on GitHub: mentions, references to issues and bare addresses are found in the text after
Markdown was read. Inside code nothing is found, so that whatever was not written by the factory stands in code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from automation.text import visible

MAX_TEXT = 300
"""Characters of one text that are shown."""
MAX_COMMENT = 60_000
"""Characters of a comment; GitHub takes 65,536."""
NOTHING = "–"
_PROSE = re.compile(r"(?!.*www\.)[A-Za-z0-9 ,.;:()%'’“”–-]*")


def code(value: object, most: int = MAX_TEXT) -> str:
    """Any text as one code span: one line, hidden signs written out, cut after `most` characters."""
    text = visible(re.sub("[ \t\r\n]+", " ", str(value)).strip(" "))
    if not text:
        return NOTHING
    if len(text) > most:
        text = text[: most - 1] + "…"
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def prose(sentence: str) -> str:
    """A sentence of the factory's own, as it is; in code, should there be a sign in it that anything could read.

    A verdict's words are made by the rule, from numbers. Should a later rule quote a user, this still holds.
    """
    return sentence if _PROSE.fullmatch(sentence) else code(sentence, 1_000)


def codes(values: Iterable[object], most: int = 20) -> str:
    """Several texts, each in code; after `most` of them, how many more there are."""
    listed = list(values)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(code(value, 80) for value in listed[:most]) + more if listed else NOTHING


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """A table of cells that are Markdown already.

    Args:
        headings: One a column.
        rows: Cells; text from elsewhere must have gone through `code`.
        align: One letter a column, `l` or `r`; empty: all to the left.
    """
    marks = [{"l": "---", "r": "--:"}[side] for side in (align or "l" * len(headings))]
    lines = [headings, marks, *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def block(text: str, language: str = "") -> str:
    """Lines as a fenced block that nothing in them can close; hidden signs are written out."""
    lines = [visible(line) for line in text.splitlines()]
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{language}", *lines, fence])


def details(summary: str, body: str) -> str:
    """A part that is folded; `summary` is plain words of our own."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def _cell(text: str) -> str:
    # A bar ends the cell, also inside code; a backslash before it helps only if no other stands before that one.
    return text.replace("|", "\N{BROKEN BAR}").replace("\n", " ")
