"""The state of all answers: what the events in a journal, one after the other, amount to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Answer = Literal["yes", "no", "unsure"]


@dataclass(frozen=True)
class Event:
    """One line of a journal."""

    id: str
    time: str
    """ISO 8601, UTC."""
    kind: str
    """`answer`, `undo` or `asked` (a batch); others are for later versions, and passed over."""
    reviewer: str
    images: Mapping[str, str] = field(default_factory=dict)
    """Paths by sha256."""
    answer: Answer | None = None
    random: frozenset[str] = frozenset()
    """Which of the images were sampled at random."""
    places: int = 0
    """`asked`: how far along the random order the sample has come."""
    minutes: float = 0.0
    resolves: bool = False
    undoes: str = ""
    """`undo`: the id of the event that is undone."""


@dataclass(frozen=True)
class ImageAnswers:
    """People's answers to one image."""

    path: str
    events: dict[str, Event]
    """The latest answer of each reviewer that no undo and no resolving answer has overtaken."""

    @property
    def answers(self) -> dict[str, Answer]:
        """Answers by reviewer."""
        return {who: event.answer for who, event in self.events.items() if event.answer is not None}

    @property
    def conflict(self) -> bool:
        """Whether some say yes and some say no. `unsure` contradicts no one."""
        return {"yes", "no"} <= set(self.answers.values())

    @property
    def answer(self) -> Answer | None:
        """The answer in force: that of all who are sure; None in a conflict."""
        if self.conflict:
            return None
        answers = self.answers.values()
        return next((a for a in answers if a != "unsure"), "unsure" if answers else None)

    @property
    def reviewer(self) -> str:
        """Whose the answer in force is, the latest of them; all, in a conflict."""
        if self.conflict:
            return ", ".join(sorted(self.answers))
        return [who for who, a in self.answers.items() if a == self.answer][-1]

    @property
    def time(self) -> str:
        """When the latest answer was recorded."""
        return max(event.time for event in self.events.values())


@dataclass(frozen=True)
class Ledger:
    """What a journal amounts to."""

    images: dict[str, ImageAnswers]
    """By sha256: the images that someone has answered."""
    latest: dict[str, Event]
    """By reviewer: the event that `undo` would undo."""
    sampled: frozenset[str]
    """The images that were ever sampled at random."""
    places: int
    """How far along the random order the sample has come."""
    batches: dict[str, Event]
    """By sha256: the latest batch that the image was in."""
    minutes: float
    """Spent by all reviewers."""

    @classmethod
    def of(cls, events: Sequence[Event]) -> Ledger:
        """Go through the events in the order of the journal."""
        undone = {event.undoes for event in events if event.kind == "undo"}
        answers = [event for event in events if event.kind == "answer" and event.id not in undone]
        batches = [event for event in events if event.kind == "asked"]
        return cls(
            images=_by_image(answers),
            latest={event.reviewer: event for event in answers},
            sampled=frozenset(sha for event in batches for sha in event.random),
            places=max((event.places for event in batches), default=0),
            batches={sha: event for event in batches for sha in event.images},
            minutes=sum(event.minutes for event in events if event.kind == "answer"),
        )

    @property
    def gold(self) -> dict[str, bool]:
        """Yes and no by sha256, of the images whose answer is in force."""
        return {sha: image.answer == "yes" for sha, image in self.images.items() if image.answer in ("yes", "no")}

    @property
    def undecided(self) -> set[str]:
        """Images of which people say that they cannot tell, or on which they disagree: these count as unlabeled."""
        return {sha for sha, image in self.images.items() if image.answer not in ("yes", "no")}

    def digest(self) -> str:
        """Hex sha256 of all that labeling uses; minutes, names and batches do not change it."""
        used = [sorted(self.gold.items()), sorted(self.undecided), sorted(self.sampled & self.gold.keys())]
        return hashlib.sha256(json.dumps(used).encode()).hexdigest()


def _by_image(answers: Sequence[Event]) -> dict[str, ImageAnswers]:
    """The answers of each reviewer to each image, the latest last; an image with no answer left is left out."""
    latest: dict[str, dict[str, Event]] = {}
    paths: dict[str, str] = {}
    for event in answers:
        for sha, path in event.images.items():
            before = {} if event.resolves else latest.setdefault(sha, {})
            before.pop(event.reviewer, None)
            latest[sha] = before if event.answer is None else before | {event.reviewer: event}
            paths[sha] = path
    return {sha: ImageAnswers(paths[sha], events) for sha, events in latest.items() if events}
