"""The photos of a run beside people's answers: what forms of other tools are written from, and matched against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from clip_factory.errors import ReviewError
from clip_factory.gold.label_table import parse_yes
from clip_factory.gold.ledger import Answer
from clip_factory.gold.photo_names import PhotoNames


class ImportedAnswer(NamedTuple):
    """One answer from outside."""

    sha256: str
    answer: Answer
    reviewer: str


@dataclass(frozen=True)
class AnswerRow:
    """One photo."""

    sha256: str
    path: str
    """POSIX, relative to the root of the images."""
    p: float
    """The teacher's probability of yes now, in [0, 1]."""
    predicted: bool
    """The teacher's answer."""
    answer: Answer | None
    """The answer in force; None without one, or where people disagree."""
    by: str | None
    """Who gave it."""
    answers: Mapping[str, Answer]
    """The latest answer of each reviewer."""


@dataclass(frozen=True)
class AnswerTable:
    """All photos of a run, and the answers of all people as they stand now."""

    root: Path
    """The folder that paths start at."""
    reviewer: str
    """Whose an imported answer is where its source does not say."""
    rows: Sequence[AnswerRow]

    @property
    def in_force(self) -> list[AnswerRow]:
        """The photos whose answer in force is yes or no."""
        return [row for row in self.rows if row.answer in ("yes", "no")]

    def has(self, name: str) -> bool:
        """Whether a photo has this sha256 or this very path."""
        return name in self._sha256s or self._names.is_exact(name)

    def sha256_of(self, name: str, where: str) -> str:
        """The sha256 of a photo that is named by its sha256 or its path.

        Args:
            name: Of the photo.
            where: File and line, for the error.

        Raises:
            ReviewError: This run does not have it, or the name may mean several.
        """
        if name in self._sha256s:
            return name
        photos = self._names.find(name)
        if len(photos) == 1:
            return next(iter(photos))
        if photos:
            hint = "name more of the path: several photos end like this"
            raise ReviewError(f"{where}: {name[:200]!r} may mean several photos of this run", hint=hint)
        hint = "paths are relative to the images folder"
        raise ReviewError(f"{where}: {name[:200]!r} is no photo of this run", hint=hint)

    @cached_property
    def _names(self) -> PhotoNames:
        return PhotoNames({row.path: row.sha256 for row in self.rows})

    @cached_property
    def _sha256s(self) -> set[str]:
        return {row.sha256 for row in self.rows}


def parse_label(word: object, where: str) -> Answer:
    """The answer that a label in words means, in any letter case.

    Raises:
        ReviewError: It is none of those that a gold file may use, nor `unsure`.
    """
    plain = str(word).strip().lower()
    yes = parse_yes(plain)
    if yes is None and plain != "unsure":
        raise ReviewError(f"{where}: label {plain[:80]!r} is none of yes, no, unsure")
    return "unsure" if yes is None else "yes" if yes else "no"
