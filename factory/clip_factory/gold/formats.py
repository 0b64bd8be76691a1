"""What all forms of answers from and for other tools share."""

from __future__ import annotations

from typing import Any, NamedTuple

from clip_factory.errors import ReviewError
from clip_factory.gold.gold_csv import NO, YES
from clip_factory.gold.ledger import Answer
from clip_factory.review.session import Session


class Given(NamedTuple):
    """One answer from outside."""

    sha256: str
    answer: Answer
    reviewer: str


def in_force(session: Session) -> list[dict[str, Any]]:
    """The rows of `Session.items` whose answer in force is yes or no."""
    rows: list[dict[str, Any]] = session.items().to_pylist()
    return [row for row in rows if row["answer"] in ("yes", "no")]


def meant(word: object, where: str) -> Answer:
    """What a label in words says, in any letter case.

    Raises:
        ReviewError: It is none of those that a gold file may use, nor `unsure`.
    """
    plain = str(word).strip().lower()
    if plain not in YES | NO | {"unsure"}:
        raise ReviewError(f"{where}: label {plain[:80]!r} is none of yes, no, unsure")
    return "unsure" if plain == "unsure" else "yes" if plain in YES else "no"


def known(session: Session, where: str, name: str) -> str:
    """The sha256 of a photo that is named by its sha256 or its path.

    Raises:
        ReviewError: This run does not have it.
    """
    sha256 = session.sha256_of(name)
    if sha256 is None:
        raise ReviewError(
            f"{where}: {name[:200]!r} is no photo of this run", hint="paths are relative to the images folder"
        )
    return sha256
