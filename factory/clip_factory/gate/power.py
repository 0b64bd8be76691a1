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
from clip_factory.statistics import Confusion, Share, least_sample, proportion, wilson

Standing = Literal["passed", "failed", "unproven"]

ROUND = (*range(11), *range(15, 51, 5), *range(60, 201, 10), *range(250, 1001, 50), *range(1500, 10_001, 500))
"""Numbers of answers that people are told: no more digits than the guess is worth."""

COUNTS = (10, 20, 35, 50, 100, 200)
CASES = (
    (0.7, (0.6, 0.7, 0.8, 0.85, 0.9, 0.95)),
    (0.9, (0.85, 0.9, 0.93, 0.95, 0.98, 0.99)),
    (0.95, (0.93, 0.95, 0.97, 0.98, 0.99)),
)
LOOKS = 200


GATE = Gate()
AT_MOST = frozenset({"false_alarms"})
"""Clauses whose bar is a share that must not be exceeded."""


@dataclass(frozen=True)
class Bars:
    """What people's labels must show, each bar in [0, 1]; as the defaults of a scenario's `gate` have it."""

    recall: float = GATE.recall
    """At least this share of the yes photos is found."""
    precision: float | None = GATE.precision
    """At least this share of the answers yes is right; None where the scenario asks for few false alarms instead."""
    false_alarms: float | None = None
    """At most this share of the no photos is answered yes; None where the scenario asks for precision."""
    gold_accuracy: float = GATE.gold_accuracy
    """At least this share of all answers is right."""

    @classmethod
    def of(cls, scenario: Scenario) -> Bars:
        """Those of a scenario's `gate`; its `target` says whether precision or false alarms decide."""
        gate, target = scenario.gate, scenario.target
        few_alarms = isinstance(target, Target) and target.false_alarms is not None
        alarms, precision = (gate.false_alarms, None) if few_alarms else (None, gate.precision)
        return cls(gate.recall, precision, alarms, gate.gold_accuracy)

    @property
    def least(self) -> tuple[int, int]:
        """Yes photos and no photos below which people's labels are too few to decide."""
        yes = least_sample(self.recall)
        return yes, yes if self.false_alarms is None else least_sample(1 - self.false_alarms)

    def clauses(self, found: Confusion) -> dict[str, Standing]:
        """How each deciding clause stands, by its name."""
        bars = self.by_name
        return {name: held(share, bars[name], at_most=name in AT_MOST) for name, share in self.shares(found).items()}

    def shares(self, found: Confusion) -> dict[str, Share]:
        """What each deciding clause looks at, by its name."""
        shares = {
            "recall": found.recall,
            "precision": found.precision,
            "false_alarms": found.false_alarm_rate,
            "gold_accuracy": proportion(found.hits + found.correct_rejections, found.yes + found.no),
        }
        return {name: share for name, share in shares.items() if name in self.by_name}

    @property
    def by_name(self) -> dict[str, float]:
        """The bar of each deciding clause."""
        return {name: bar for name, bar in asdict(self).items() if bar is not None}

    def shown(self, found: Confusion) -> bool:
        """Whether these answers are enough, and pass every clause."""
        yes, no = self.least
        enough = found.yes >= yes and found.no >= no
        return enough and set(self.clauses(found).values()) == {"passed"}

    def broken(self, found: Confusion) -> list[str]:
        """The clauses that these answers contradict, at 95 %; a handful of them contradicts nothing."""
        if found.yes + found.no < LEAST_LABELS:
            return []
        return [name for name, standing in self.clauses(found).items() if standing == "failed"]


def held(found: Share, bar: float, *, at_most: bool = False) -> Standing:
    """A share against its bar: passed or failed only where the whole 95 % interval lies on one side of it."""
    low, high = found.interval
    if high <= bar if at_most else low >= bar:
        return "passed"
    return "failed" if (low > bar if at_most else high < bar) else "unproven"


NOTHING = Confusion(0, 0, 0, 0)
LEAST_LABELS = 10
"""Labels of people below which they break nothing, since one wrong answer in the first one is no evidence, and the
teacher's word has a say in how they will go on."""


def answers_needed(confusion: Confusion, bars: Bars, by_teacher: Confusion = NOTHING) -> int | None:
    """How many more random answers the rule needs if things go on as they began.

    The rates seen so far are drawn a little towards the middle, to the median of what they may truly be: 5 right of 5
    go on as .97, not as 1. What has not been seen yet, yes photos or answers yes, counts as faultless.

    Args:
        confusion: What people's answers have shown so far.
        bars: What they must show.
        by_teacher: The student against its teacher: a guess at the rates below `LEAST_LABELS` answers.

    Returns:
        A number that is round for people, one of `ROUND`: 0 where it is shown already. None where a clause is broken,
        or where it will not be shown at these rates by ten thousand answers.
    """
    if bars.broken(confusion):
        return None
    both = Confusion(*(ours + more for ours, more in zip(astuple(confusion), astuple(by_teacher), strict=True)))
    guesses = [both] * (confusion.yes + confusion.no < LEAST_LABELS) + [confusion]
    return next((more for rates in guesses for more in ROUND if bars.shown(_carried_on(confusion, more, rates))), None)


def _carried_on(so_far: Confusion, more: int, rates: Confusion) -> Confusion:
    """The counts to be expected after so many more answers: fractions, which the intervals take as well."""
    yes = more * _median(rates.yes, rates.yes + rates.no)
    misses = yes * _median(rates.misses, rates.yes) if rates.yes else 0
    said_yes = rates.hits + rates.false_alarms
    alarms = (more - yes) * _median(rates.false_alarms, rates.no) if said_yes else 0
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

    return float(binom.sf(_least_hits(bar, n) - 1, n, true_rate))


def power_of_looking(true_rate: float, bar: float, most: int) -> float:
    """The probability that a clause passes at any time, looked at after each of `most` photos.

    That is what stopping at the first good moment makes of the 2.5 % that one look allows.
    """
    chances, passed = np.ones(1), 0.0
    for n in range(1, most + 1):
        chances = np.append(chances * (1 - true_rate), 0) + np.append(0, chances * true_rate)
        least = _least_hits(bar, n)
        passed += float(chances[least:].sum())
        chances[least:] = 0
    return passed


@lru_cache(1000)
def _least_hits(bar: float, n: int) -> int:
    """The fewest hits of `n` that clear the bar; n + 1 where not even all do."""
    return next((hits for hits in range(n + 1) if wilson(hits, n)[0] >= bar), n + 1)


def table() -> str:
    """How often a clause passes, by true rate and number of photos, as Markdown."""
    heads = ["bar", "true rate", *(f"{n} photos" for n in COUNTS), f"any of {LOOKS} looks"]
    lines = [heads, ["---"] * len(heads)]
    for bar, rates in CASES:
        for rate in rates:
            chances = [power(rate, bar, n) for n in COUNTS] + [power_of_looking(rate, bar, LOOKS)]
            lines.append([f"{bar:g}", f"{rate:g}", *(f"{100 * chance:.1f} %" for chance in chances)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(table())
