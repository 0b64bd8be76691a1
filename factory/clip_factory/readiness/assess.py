"""Before training: can this teacher know this? A verdict on the labels, from their table alone, in milliseconds.

Two figures carry it, and neither needs a person's answer. *Separation* is the area under the ROC curve that the teacher
would have if its probabilities were right: near 0.5 they are all alike, and the phrases do not separate these photos.
*Clarity* is the F1 that its answers to the rarer side would have, again by its own probabilities: near 0 it is sure of
no photo on that side. Both are in the teacher's own units, so that they hold for any encoder. docs/before_training.md
has what they were measured against.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clip_factory.errors import LabelsError
from clip_factory.labels import Labels
from clip_factory.readiness.facts import MIN_OF_EACH, Facts, measure
from clip_factory.readiness.sentences import Cause, advice, histogram, sentence

Verdict = Literal["ready", "doubtful", "carries nothing"]


@dataclass(frozen=True)
class Bars:
    """The limits of the verdict; docs/before_training.md says what they rest on."""

    min_separation: float = 0.65
    """Separation below which the labels carry nothing."""
    ready_separation: float = 0.85
    """Separation from which they may be ready."""
    min_clarity: float = 0.15
    """Clarity below which the labels carry nothing."""
    ready_clarity: float = 0.40
    """Clarity from which they may be ready."""


BARS = Bars()


@dataclass(frozen=True)
class Readiness:
    """Whether the labels can teach anything, why, and what to do next."""

    verdict: Verdict
    cause: Cause
    facts: Facts
    sentence: str
    """The verdict in words, with the figures behind it."""
    advice: str
    """What a person can do about it."""

    def command(self, run: Path) -> str:
        """The command that comes next, for a run folder."""
        return f"factory {'run' if self.verdict == 'ready' else 'review'} {run}"


def assess(labels: Labels) -> Readiness:
    """The verdict on the labels of a run, before anything is trained."""
    facts = measure(labels)
    verdict, cause = decide(facts)
    return Readiness(verdict, cause, facts, sentence(cause, facts), advice(cause, facts))


def refusal(readiness: Readiness, run: Path, page: Path) -> LabelsError:
    """The error that stops a run whose labels carry nothing.

    Args:
        readiness: What `assess` says of its labels.
        run: The run folder.
        page: Where the page of the labels lies.
    """
    facts = readiness.facts
    hint = (
        f"{readiness.advice}\n  look at them: {page}\n  next: {readiness.command(run)}"
        "\n  train all the same: the same command with --go-on"
    )
    if min(facts.yes, facts.no) >= MIN_OF_EACH:
        return LabelsError(f"these labels carry nothing. {readiness.sentence}", hint=hint)
    return LabelsError(
        f"{facts.yes} of {facts.photos} images are labeled yes; at least {MIN_OF_EACH} of each answer are needed. "
        f"{readiness.sentence} The teacher's probabilities of yes:\n{histogram(facts.tenths)}",
        hint=hint,
    )


def decide(facts: Facts, bars: Bars = BARS) -> tuple[Verdict, Cause]:
    """The verdict and its cause, from the figures; people's labels come before the teacher's own probabilities."""
    lacking: Cause = "beyond" if facts.sure.figure < 0.5 else "one side"
    enough = min(facts.yes, facts.no) >= MIN_OF_EACH
    if facts.gold_weight >= 0.5:
        return "ready" if enough else "carries nothing", "people"
    if not enough:
        return "carries nothing", lacking
    people = facts.people
    if people and people.interval[1] < bars.min_separation:
        return "carries nothing", "beyond"
    shown = people is not None and people.interval[0] >= bars.min_separation
    if not shown and (facts.separation < bars.min_separation or facts.clarity < bars.min_clarity):
        return "carries nothing", lacking
    if (people.auc if people else facts.separation) >= bars.ready_separation and facts.clarity >= bars.ready_clarity:
        return "ready", "apart"
    return "doubtful", "unclear"
