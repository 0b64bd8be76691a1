"""How much the rule's clauses can show: with how many photos, and how many more answers they need.

python -m clip_factory.gate.power        the table of docs/verdict.md
"""

from __future__ import annotations

import sys
from dataclasses import asdict, astuple, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from clip_factory.scenario import Gate, Scenario, Target
from clip_factory.statistics import Confusion, Share, min_sample_size, proportion, wilson

ClauseState = Literal["passed", "failed", "unproven"]

ROUND_NUMBERS = (*range(11), *range(15, 51, 5), *range(60, 201, 10), *range(250, 1001, 50), *range(1500, 10_001, 500))
"""Numbers of answers that people are shown: no more digits than the estimate is worth."""

COUNTS = (10, 20, 35, 50, 100, 200)
CASES = (
    (0.7, (0.6, 0.7, 0.8, 0.85, 0.9, 0.95)),
    (0.9, (0.85, 0.9, 0.93, 0.95, 0.98, 0.99)),
    (0.95, (0.93, 0.95, 0.97, 0.98, 0.99)),
)
MAX_CHECKS = 200


GATE = Gate()
UPPER_LIMITS = frozenset({"false_alarms"})
"""Clauses whose bar is a share that must not be exceeded."""


@dataclass(frozen=True)
class Requirements:
    """What people's labels must show, each bar in [0, 1]; as the defaults of a scenario's `gate` have it."""

    recall: float = GATE.recall
    """At least this share of the yes photos is answered yes."""
    precision: float | None = GATE.precision
    """At least this share of the answers yes is right; None where the scenario asks for few false alarms instead."""
    false_alarms: float | None = None
    """At most this share of the no photos is answered yes; None where the scenario asks for precision."""
    gold_accuracy: float = GATE.gold_accuracy
    """At least this share of all answers is right."""

    @classmethod
    def of(cls, scenario: Scenario) -> Requirements:
        """Those of a scenario's `gate`; its `target` says whether precision or false alarms decide."""
        gate, target = scenario.gate, scenario.target
        few_alarms = isinstance(target, Target) and target.false_alarms is not None
        alarms, precision = (gate.false_alarms, None) if few_alarms else (None, gate.precision)
        return cls(gate.recall, precision, alarms, gate.gold_accuracy)

    @property
    def min_labels(self) -> tuple[int, int]:
        """Yes photos and no photos below which people's labels are too few to decide."""
        yes = min_sample_size(self.recall)
        return yes, yes if self.false_alarms is None else min_sample_size(1 - self.false_alarms)

    def clauses(self, confusion: Confusion) -> dict[str, ClauseState]:
        """How each deciding clause stands, by its name."""
        bars = self.by_name
        return {
            name: clause_state(share, bars[name], at_most=name in UPPER_LIMITS)
            for name, share in self.shares(confusion).items()
        }

    def shares(self, confusion: Confusion) -> dict[str, Share]:
        """What each deciding clause looks at, by its name."""
        shares = {
            "recall": confusion.recall,
            "precision": confusion.precision,
            "false_alarms": confusion.false_alarm_rate,
            "gold_accuracy": proportion(confusion.hits + confusion.correct_rejections, confusion.yes + confusion.no),
        }
        return {name: share for name, share in shares.items() if name in self.by_name}

    @property
    def by_name(self) -> dict[str, float]:
        """The bar of each deciding clause."""
        return {name: bar for name, bar in asdict(self).items() if bar is not None}

    def met_by(self, confusion: Confusion) -> bool:
        """Whether these answers are enough, and pass every clause."""
        yes, no = self.min_labels
        enough = confusion.yes >= yes and confusion.no >= no
        return enough and set(self.clauses(confusion).values()) == {"passed"}

    def failed_by(self, confusion: Confusion) -> list[str]:
        """The clauses that these answers contradict, at 95 %; a handful of them contradicts nothing."""
        if confusion.yes + confusion.no < MIN_LABELS:
            return []
        return [name for name, standing in self.clauses(confusion).items() if standing == "failed"]


def clause_state(rate: Share, bar: float, *, at_most: bool = False) -> ClauseState:
    """A share against its bar: passed or failed only where the whole 95 % interval lies on one side of it."""
    low, high = rate.interval
    if high <= bar if at_most else low >= bar:
        return "passed"
    return "failed" if (low > bar if at_most else high < bar) else "unproven"


NO_ANSWERS = Confusion(0, 0, 0, 0)
MIN_LABELS = 10
"""With fewer labels from people no clause fails, since one wrong answer in the first one is no evidence, and how the
student does against its teacher is counted in as to how they will go on."""


def answers_needed(confusion: Confusion, bars: Requirements, against_teacher: Confusion = NO_ANSWERS) -> int | None:
    """How many more random answers the rule needs if things go on as they began.

    The rates seen so far are drawn a little towards the middle, to the median of what they may truly be: 5 right of 5
    go on as .97, not as 1. What has not been seen yet, yes photos or answers yes, counts as faultless.

    Args:
        confusion: What people's answers have shown so far.
        bars: What they must show.
        against_teacher: The student against its teacher: a guess at the rates below `MIN_LABELS` answers.

    Returns:
        A number that is round for people, one of `ROUND_NUMBERS`: 0 where it is shown already. None where a clause is
        broken, or where it will not be shown at these rates by ten thousand answers.
    """
    if bars.failed_by(confusion):
        return None
    counts = zip(astuple(confusion), astuple(against_teacher), strict=True)
    both = Confusion(*(ours + more for ours, more in counts))
    guesses = [both] * (confusion.yes + confusion.no < MIN_LABELS) + [confusion]
    enough = (more for rates in guesses for more in ROUND_NUMBERS if bars.met_by(_extrapolated(confusion, more, rates)))
    return next(enough, None)


def _extrapolated(so_far: Confusion, more: int, rates: Confusion) -> Confusion:
    """The counts to be expected after so many more answers: fractions, which the intervals take as well."""
    yes = more * _median(rates.yes, rates.yes + rates.no)
    misses = yes * _median(rates.misses, rates.yes) if rates.yes else 0
    yeses = rates.hits + rates.false_alarms
    alarms = (more - yes) * _median(rates.false_alarms, rates.no) if yeses else 0
    added: tuple[Any, ...] = (yes - misses, misses, alarms, more - yes - alarms)
    return Confusion(*(now + new for now, new in zip(astuple(so_far), added, strict=True)))


def _median(hits: int, n: int) -> float:
    """Median of a share's posterior under the Jeffreys prior, by Kerman's closed form (arXiv:1111.0433)."""
    return (hits + 1 / 6) / (n + 1 / 3)


def power(true_rate: float, bar: float, n: int) -> float:
    """The probability that a clause passes with `n` photos: that the Wilson interval of what is seen clears the bar.

    Args:
        true_rate: Share in [0, 1] of all photos like these that are right (found, for recall).
        bar: Least share that the clause asks for. A bar from above, as for false alarms, is `power(1 - rate, 1 - bar)`.
        n: Photos that count for the clause: yes photos for recall, answers yes for precision, all for accuracy.
    """
    from scipy.stats import binom  # half a second, which only the table needs

    return float(binom.sf(_min_hits(bar, n) - 1, n, true_rate))


def power_of_repeated_checks(true_rate: float, bar: float, checks: int) -> float:
    """The probability that a clause passes at any time, checked after each of as many photos as `checks`.

    That is what stopping at the first good moment makes of the 2.5 % that one check allows.
    """
    chances, passed = np.ones(1), 0.0
    for n in range(1, checks + 1):
        chances = np.append(chances * (1 - true_rate), 0) + np.append(0, chances * true_rate)
        needed = _min_hits(bar, n)
        passed += float(chances[needed:].sum())
        chances[needed:] = 0
    return passed


@lru_cache(1000)
def _min_hits(bar: float, n: int) -> int:
    """The fewest hits of `n` that clear the bar; n + 1 where not even all do."""
    return next((hits for hits in range(n + 1) if wilson(hits, n)[0] >= bar), n + 1)


def table() -> str:
    """How often a clause passes, by true rate and number of photos, as Markdown."""
    heads = ["bar", "true rate", *(f"{n} photos" for n in COUNTS), f"any of {MAX_CHECKS} checks"]
    lines = [heads, ["---"] * len(heads)]
    for bar, rates in CASES:
        for rate in rates:
            chances = [power(rate, bar, n) for n in COUNTS] + [power_of_repeated_checks(rate, bar, MAX_CHECKS)]
            lines.append([f"{bar:g}", f"{rate:g}", *(f"{100 * chance:.1f} %" for chance in chances)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(table())
