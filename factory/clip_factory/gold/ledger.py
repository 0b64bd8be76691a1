"""Where things stand: what the acts in a journal, one after the other, amount to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Answer = Literal["yes", "no", "unsure"]


@dataclass(frozen=True)
class Act:
    """One line of a journal."""

    name: str
    time: str
    """ISO 8601, UTC."""
    kind: str
    """`answer`, `undo` or `asked`; others are for later versions, and passed over."""
    reviewer: str
    images: Mapping[str, str] = field(default_factory=dict)
    """Paths by sha256."""
    answer: Answer | None = None
    random: frozenset[str] = frozenset()
    """Which of the images were drawn at random."""
    places: int = 0
    """`asked`: how far along the random order the draws have come."""
    minutes: float = 0.0
    resolves: bool = False
    undoes: str = ""
    """`undo`: the name of the act that is taken back."""


@dataclass(frozen=True)
class Standing:
    """What people say of one image."""

    path: str
    given: dict[str, Act]
    """The latest answer of each reviewer that no undo and no resolving answer has overtaken."""

    @property
    def answers(self) -> dict[str, Answer]:
        """Answers by reviewer."""
        return {who: act.answer for who, act in self.given.items() if act.answer is not None}

    @property
    def conflict(self) -> bool:
        """Whether some say yes and some say no. `unsure` contradicts no one."""
        return {"yes", "no"} <= set(self.answers.values())

    @property
    def answer(self) -> Answer | None:
        """The answer in force: what all say who are sure; None in a conflict."""
        if self.conflict:
            return None
        said = self.answers.values()
        return next((a for a in said if a != "unsure"), "unsure" if said else None)

    @property
    def reviewer(self) -> str:
        """Who gave the answer in force, the latest of them; all, in a conflict."""
        if self.conflict:
            return ", ".join(sorted(self.answers))
        return [who for who, a in self.answers.items() if a == self.answer][-1]

    @property
    def time(self) -> str:
        """When the latest answer was given."""
        return max(act.time for act in self.given.values())


@dataclass(frozen=True)
class Ledger:
    """What a journal amounts to."""

    standings: dict[str, Standing]
    """By sha256: the images that someone has answered."""
    latest: dict[str, Act]
    """By reviewer: the act that `undo` would take back."""
    drawn: frozenset[str]
    """The images that were ever drawn at random."""
    places: int
    """How far along the random order the draws have come."""
    asked: dict[str, Act]
    """By sha256: the latest batch that the image was asked in."""
    minutes: float
    """Spent by all reviewers."""

    @classmethod
    def of(cls, acts: Sequence[Act]) -> Ledger:
        """Go through the acts in the order of the journal."""
        undone = {act.undoes for act in acts if act.kind == "undo"}
        answers = [act for act in acts if act.kind == "answer" and act.name not in undone]
        asked = [act for act in acts if act.kind == "asked"]
        return cls(
            standings=_standings(answers),
            latest={act.reviewer: act for act in answers},
            drawn=frozenset(sha for act in asked for sha in act.random),
            places=max((act.places for act in asked), default=0),
            asked={sha: act for act in asked for sha in act.images},
            minutes=sum(act.minutes for act in acts if act.kind == "answer"),
        )

    @property
    def gold(self) -> dict[str, bool]:
        """Yes and no by sha256, of the images whose answer is in force."""
        return {sha: s.answer == "yes" for sha, s in self.standings.items() if s.answer in ("yes", "no")}

    @property
    def withheld(self) -> set[str]:
        """Images of which people say that they cannot tell, or on which they disagree: these count as unlabeled."""
        return {sha for sha, s in self.standings.items() if s.answer not in ("yes", "no")}

    def digest(self) -> str:
        """Hex sha256 of all that labeling takes from here; minutes, names and batches that were asked leave it."""
        said = [sorted(self.gold.items()), sorted(self.withheld), sorted(self.drawn & self.gold.keys())]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _standings(answers: Sequence[Act]) -> dict[str, Standing]:
    """The answers of each reviewer to each image, the latest last; an image with no answer left is left out."""
    given: dict[str, dict[str, Act]] = {}
    paths: dict[str, str] = {}
    for act in answers:
        for sha, path in act.images.items():
            before = {} if act.resolves else given.setdefault(sha, {})
            before.pop(act.reviewer, None)
            given[sha] = before if act.answer is None else before | {act.reviewer: act}
            paths[sha] = path
    return {sha: Standing(paths[sha], said) for sha, said in given.items() if said}
