"""The words of readiness: why, with the figures behind it, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from clip_factory.readiness.facts import MIN_OF_EACH, Facts

Cause = Literal["apart", "people", "unclear", "one side", "beyond"]
"""Why: the teacher parts the photos; people's labels outweigh it; it does so in part; it is sure that nearly all photos
have one answer; it cannot tell."""

ANSWERS = 50
"""How many answers the advice speaks of; half as many seldom change the labels (docs/review.md)."""


_WITHOUT_PHRASES: dict[Cause, str] = {
    "apart": "train; a look at the ten most doubtful shows what the teacher confuses",
    "unclear": f"look at the doubtful ones; ask in other words, or give about {ANSWERS} answers",
    "beyond": f"ask in other words, ask another model, or give about {ANSWERS} answers: they outrank the teacher",
    "one side": "add photos of the rarer answer, or ask in other words; is one among the likeliest, answer those",
}
"""What to do where no phrase was compared with the photos."""


def sentence(cause: Cause, facts: Facts) -> str:
    """One sentence or two on what the labels show."""
    return _SENTENCES[cause](facts)


def advice(cause: Cause, facts: Facts) -> str:
    """What a person can do, as one line."""
    if not facts.by_phrases and cause in _WITHOUT_PHRASES:
        return _WITHOUT_PHRASES[cause]
    if cause == "people" and min(facts.yes, facts.no) < MIN_OF_EACH:
        return "add images of the rarer answer"
    if cause in ("apart", "people"):
        return "train; a look at the ten most doubtful shows what the phrases confuse"
    if cause == "unclear":
        return f"look at the doubtful ones; name look-alikes as negatives, or give about {ANSWERS} answers"
    if cause == "beyond":
        return (
            f"name look-alikes as negatives, use other words or another teacher, or give about {ANSWERS} answers: "
            "they outrank the teacher"
        )
    if facts.rarer == "yes":
        return "add photos that show it, or say it in other words; is one among the likeliest, answer those"
    return "add photos that do not show it, and name look-alikes and what else is seen there as negatives"


def histogram(tenths: Sequence[int], width: int = 40) -> str:
    """Photos by tenth of the probability as bars of text, one line each."""
    scale = width / max(1, *tenths)
    rows = [f"  {i / 10:.1f}-{(i + 1) / 10:.1f} {'#' * round(n * scale):<{width}} {n}" for i, n in enumerate(tenths)]
    return "\n".join(rows)


def _apart(facts: Facts) -> str:
    return (
        f"The teacher tells them apart: it says yes to {facts.above:,} of {facts.photos:,} photos, "
        f"and is sure of {100 * facts.sure.figure:.0f} %{_by_people(facts)}."
    )


def _people(facts: Facts) -> str:
    return (
        f"People's labels outweigh the teacher's: {facts.gold:,} of {facts.photos:,} photos bear one; "
        f"{facts.yes:,} photos are yes, {facts.no:,} no."
    )


def _unclear(facts: Facts) -> str:
    return (
        f"The teacher tells them apart in part: it says yes to {facts.above:,} of {facts.photos:,} photos, where its "
        f"probabilities expect {facts.expected * facts.photos:,.0f}, and is sure of {100 * facts.sure.figure:.0f} %"
        f"{_by_people(facts)}."
    )


def _one_side(facts: Facts) -> str:
    if facts.rarer == "yes":
        extreme = f"the likeliest has a probability of {facts.extremes[1]:.2f}"
    else:
        extreme = f"the least likely has a probability of {facts.extremes[0]:.2f}"
    count = facts.above if facts.rarer == "yes" else facts.photos - facts.above
    return (
        f"The teacher is sure that hardly any photo is a {facts.rarer}: {count:,} of {facts.photos:,}, and {extreme}. "
        f"Either there is none, or the {'words mean' if facts.by_phrases else 'question means'} something else to it."
    )


def _beyond(facts: Facts) -> str:
    low, high = facts.middle
    return (
        f"The teacher cannot tell: most of its probabilities lie between {low:.2f} and {high:.2f}, "
        f"and it is sure of {100 * facts.sure.figure:.0f} % of {facts.photos:,} photos{_by_people(facts)}."
    )


def _by_people(facts: Facts) -> str:
    if not facts.people:
        return ""
    low, high = facts.people.interval
    return (
        f"; by {facts.people.n:,} labels from people it ranks a yes above a no {100 * facts.people.auc:.0f} % of the "
        f"time ({100 * low:.0f} to {100 * high:.0f} %; guessing: 50)"
    )


_SENTENCES: dict[Cause, Callable[[Facts], str]] = {
    "apart": _apart,
    "people": _people,
    "unclear": _unclear,
    "one side": _one_side,
    "beyond": _beyond,
}
