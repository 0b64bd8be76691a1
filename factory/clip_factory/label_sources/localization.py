"""What detection and segmentation share: from where phrases are seen in a photo to the probability of yes.

Both give each place in a photo a score for each phrase, a probability by itself: no phrase takes from another, so a
place can be nothing that was named, and no set of everyday things has to stand in for that. A place speaks for yes by
its margin: the log-odds of its best phrase for yes, less those of the best phrase for no there or of the scenario's
`score`, whichever is higher. The probability of yes is the sigmoid of the photo's margin, so that it is 0.5 exactly
where the answer turns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from PIL import Image

from clip_factory.images.photo import Photo
from clip_factory.label_sources.checkpoint import Checkpoint
from clip_factory.label_sources.pretrained import decoded
from clip_factory.label_sources.probabilities import MIN_P, sigmoid
from clip_factory.label_sources.source import Phrases, Scores
from clip_factory.label_sources.visual_evidence import VisualEvidence
from clip_factory.scenario import Scenario

NOTHING = "none of these"
"""Stands among the phrases for no: what a photo shows where no phrase reaches the score."""


@dataclass(frozen=True)
class Rule:
    """When a place counts."""

    score: float
    """From this score on, in (0, 1)."""
    min_area: float
    """Share of the photo, in [0, 1]."""

    @classmethod
    def of(cls, scenario: Scenario, default: Rule) -> Rule:
        """The scenario's, with defaults for what it leaves out."""
        labels = scenario.labels
        return cls(
            default.score if labels.score is None else labels.score,
            default.min_area if labels.min_area is None else labels.min_area,
        )

    @property
    def log_odds(self) -> float:
        """Of the score."""
        return math.log(self.score / (1 - self.score))

    def question(self, scenario: Scenario) -> dict[str, object]:
        """All that is read of a scenario: another template is no reason to ask again."""
        return {"phrases": asked_phrases(scenario).to_json(), "score": self.score, "min_area": self.min_area}


@dataclass(frozen=True)
class Answer:
    """What decides about one photo, and what is shown for it."""

    margin: float
    """Log-odds of yes: 0 where the answer turns."""
    winner: int
    """Index of the phrase for yes at the place that decides."""
    rival: int
    """Index of what it is compared with there, among the phrases for no; the last is `NOTHING`."""
    evidence: VisualEvidence


class Locator(Protocol):
    """A network that sees phrases in photos."""

    image_size: int
    """Pixels that it uses of a photo's longer side."""

    def check(self, phrases: Sequence[str]) -> None:
        """Refuse phrases that it does not read to their end.

        Raises:
            ScenarioError: There is such a phrase.
        """


Seen = TypeVar("Seen")


@dataclass(frozen=True)
class LocatingSource(Generic[Seen]):
    """A `LabelSource`: a network that sees phrases in photos, and how an answer is made of what it sees."""

    name: str
    """As `labels.source` says it."""
    checkpoint: Checkpoint
    locator: Locator
    see: Callable[[Sequence[Image.Image], Sequence[str]], list[Seen]]
    """What the network sees of phrases in each of some upright RGB images."""
    decide: Callable[[Seen, Phrases, Rule], Answer]
    """The answer that this gives about one photo."""
    default: Rule
    """What a scenario leaves out."""
    batch_size: int
    """Photos that are done again after a kill, at most."""

    @property
    def key(self) -> str:
        """The checkpoint's content, and how it is asked."""
        return f"{self.name}-1-{self.checkpoint.key}"

    @property
    def about(self) -> Mapping[str, object]:
        """Name and license of the checkpoint."""
        return self.checkpoint.about

    def question(self, scenario: Scenario) -> Mapping[str, object]:
        """All that it reads of a scenario: another template is no reason to ask again."""
        return Rule.of(scenario, self.default).question(scenario)

    def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
        """Scores of N photos, with what is shown for them.

        Raises:
            ImagesError: A file has changed or vanished since it was scanned.
            ScenarioError: The network does not read a phrase to its end.
        """
        rule, phrases = Rule.of(scenario, self.default), asked_phrases(scenario)
        named = phrases.all[:-1]
        self.locator.check(named)
        batches = decoded(photos, self.locator.image_size)
        answers = [self.decide(one, phrases, rule) for images in batches for one in self.see(images, named)]
        return to_scores(answers, phrases)


def asked_phrases(scenario: Scenario) -> Phrases:
    """The scenario's own phrases, and `NOTHING`."""
    return Phrases(scenario.positive, (*(scenario.negative or ()), NOTHING))


def rivals(log_odds: np.ndarray, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """The best of what speaks for no at each of M places, `NOTHING` included.

    Args:
        log_odds: float `(M, Q)` of the phrases for no; Q may be 0.
        rule: Has the log-odds of `NOTHING`.

    Returns:
        Log-odds, float64 `(M,)`, and indices, `(M,)` in [0, Q].
    """
    nothing = np.full((len(log_odds), 1), rule.log_odds)
    all_rivals = np.concatenate([log_odds.astype(np.float64), nothing], axis=1)
    return all_rivals.max(axis=1), all_rivals.argmax(axis=1)


def unseen(rule: Rule) -> Answer:
    """The answer about a photo where nothing is large enough to count: as if it had the least probability."""
    margin = math.log(MIN_P / (1 - MIN_P)) - rule.log_odds
    return Answer(min(margin, -1.0), 0, -1, VisualEvidence())


def to_scores(answers: Sequence[Answer], phrases: Phrases) -> Scores:
    """Scores of N photos: the probability of yes stands at the winner's column, the rest at the rival's.

    So the phrase with the highest score is the one that decided.
    """
    yes = len(phrases.positive)
    by_phrase = np.zeros((len(answers), len(phrases.all)), np.float64)
    rows, margins = np.arange(len(answers)), np.array([answer.margin for answer in answers], np.float64)
    by_phrase[rows, [answer.winner for answer in answers]] = sigmoid(margins)
    negatives = [answer.rival % len(phrases.negative) for answer in answers]
    by_phrase[rows, [yes + rival for rival in negatives]] = sigmoid(-margins)
    return Scores(phrases, by_phrase.astype(np.float32), tuple(answer.evidence for answer in answers))
