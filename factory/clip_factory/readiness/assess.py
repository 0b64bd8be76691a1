"""Before training: can this teacher know this? A verdict on the labels, from their table alone, in milliseconds.

Two figures carry it, and neither needs a person's answer. *Separation* is the area under the ROC curve that the teacher
would have if its probabilities were right: near 0.5 they huddle, and the phrases do not part these photos. *Clarity* is
the F1 that its answers to the rarer side would have, again by its own probabilities: near 0 it is sure of no photo on
that side. Both are in the teacher's own units, so that they hold for any encoder. docs/before_training.md has what they
were measured against.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clip_factory.errors import LabelsError
from clip_factory.readiness.facts import LEAST_OF_EACH, Facts, measure
from clip_factory.readiness.sentences import Cause, advice, histogram, sentence

if TYPE_CHECKING:  # a table is only read here
    import pyarrow as pa

Verdict = Literal["ready", "doubtful", "carries nothing"]


@dataclass(frozen=True)
class Bars:
    """Where the verdict turns; docs/before_training.md says how they were found."""

    huddled: float = 0.65
    """Separation below which the labels carry nothing."""
    apart: float = 0.85
    """Separation from which they may be ready."""
    dim: float = 0.15
    """Clarity below which the labels carry nothing."""
    clear: float = 0.40
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


def assess(labels: pa.Table) -> Readiness:
    """Judge the table of labels.parquet: columns p_teacher, gold, picked and weight, a row a photo."""
    facts = measure(labels)
    verdict, cause = weigh(facts)
    return Readiness(verdict, cause, facts, sentence(cause, facts), advice(cause, facts))


def refusal(found: Readiness, run: Path, page: Path) -> LabelsError:
    """The error that stops a run whose labels carry nothing.

    Args:
        found: What `assess` said of its labels.
        run: The run folder.
        page: Where the page of the labels lies.
    """
    facts = found.facts
    hint = (
        f"{found.advice}\n  look at them: {page}\n  next: {found.command(run)}"
        "\n  train all the same: the same command with --go-on"
    )
    if min(facts.yes, facts.no) >= LEAST_OF_EACH:
        return LabelsError(f"these labels carry nothing. {found.sentence}", hint=hint)
    return LabelsError(
        f"{facts.yes} of {facts.photos} images are labeled yes; at least {LEAST_OF_EACH} of each answer are needed. "
        f"{found.sentence} The teacher's probabilities of yes:\n{histogram(facts.tenths)}",
        hint=hint,
    )


def weigh(facts: Facts, bars: Bars = BARS) -> tuple[Verdict, Cause]:
    """The verdict and its cause, from the figures; people's labels come before what the teacher says of itself."""
    lacking: Cause = "beyond" if facts.sure.figure < 0.5 else "one side"
    enough = min(facts.yes, facts.no) >= LEAST_OF_EACH
    if facts.golden_weight >= 0.5:
        return "ready" if enough else "carries nothing", "people"
    if not enough:
        return "carries nothing", lacking
    people = facts.people
    if people and people.interval[1] < bars.huddled:
        return "carries nothing", "beyond"
    shown = people is not None and people.interval[0] >= bars.huddled
    if not shown and (facts.separation < bars.huddled or facts.clarity < bars.dim):
        return "carries nothing", lacking
    if (people.auc if people else facts.separation) >= bars.apart and facts.clarity >= bars.clear:
        return "ready", "apart"
    return "doubtful", "unclear"
