"""What a clause can show with how many photos, and how many more answers the rule needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from clip_factory.gate import power, rule
from clip_factory.gate.evidence import Evidence
from clip_factory.gate.power import Requirements, answers_needed
from clip_factory.scenario import Scenario
from clip_factory.statistics import Confusion

VERDICT = Path(__file__).parents[2] / "docs" / "verdict.md"
NEEDS = ["break-even", {"false_alarms": 0.01}]


def scenario(need: object = "break-even") -> Scenario:
    return Scenario.model_validate({"name": "ball", "positive": ["ball"], "target": need})


def evidence(found: Confusion) -> Evidence:
    """A test split on which the student does so by people's labels, and its teacher always says the same as it."""
    truth = np.repeat([1, 1, 0, 0], [found.hits, found.misses, found.false_alarms, found.correct_rejections])
    said = np.repeat([1, 0, 1, 0], [found.hits, found.misses, found.false_alarms, found.correct_rejections])
    student = np.where(said == 1, 0.99, 0.01)
    return Evidence(student=student, network=student, teacher=student, gold=truth, threshold=0.5)


def drawn(random: np.random.Generator) -> Confusion:
    """Counts of all kinds: few and many, one-sided, perfect."""
    sizes = random.choice([0, 1, 3, 12, 60, 200], 4, p=[0.25, 0.15, 0.15, 0.2, 0.15, 0.1])
    return Confusion(*(int(random.integers(0, size + 1)) for size in sizes))


@pytest.mark.parametrize("need", NEEDS, ids=["precision", "false alarms"])
def test_the_countdown_and_the_gate_hold_the_same_rule(need: object) -> None:
    random, asked = np.random.default_rng(0), scenario(need)
    bars, states = Requirements.of(asked), []
    cases = [drawn(random) for _ in range(400)] + [Confusion(n, 0, 0, m) for n in (8, 9, 40) for m in (8, 9, 72, 73)]
    for found in cases:
        if not found.yes + found.no:
            continue
        shown = evidence(found)
        clauses = rule.evaluate_clauses(asked, shown, 1000)
        said = {clause.name: clause.verdict for clause in clauses}
        words = {"passed": "pass", "failed": "fail", "unproven": "unproven"}
        if rule.choose_reference(asked, shown) == "people":
            own = bars.clauses(found)
            assert {n: words[s] for n, s in own.items() if bars.shares(found)[n].n} == {
                n: said[n] for n in own if bars.shares(found)[n].n
            }
        state = rule.decide(asked, shown, clauses).state
        assert bars.met_by(found) == (state == "passed"), found
        assert (answers_needed(found, bars) == 0) == (state == "passed"), found
        states.append(state)

    assert {states.count(state) > 3 for state in ("passed", "not proven", "refused")} == {True}, "all were seen"


def test_a_broken_clause_is_mended_by_no_answers() -> None:
    assert answers_needed(Confusion(2, 20, 0, 50), Requirements()) is None
    assert Requirements().failed_by(Confusion(2, 20, 0, 50)) == ["recall", "gold_accuracy"]


def test_rates_below_a_bar_are_never_enough() -> None:
    assert answers_needed(Confusion(6, 4, 0, 30), Requirements()) is None
    assert Requirements().failed_by(Confusion(6, 4, 0, 30)) == []


def test_five_of_five_is_no_certainty() -> None:
    """A faultless model would need 35 in all."""
    needed = answers_needed(Confusion(5, 0, 0, 5), Requirements())

    assert needed is not None
    assert needed > 35 - 10


@pytest.mark.parametrize(
    "found", [Confusion(5, 0, 0, 5), Confusion(12, 1, 1, 60), Confusion(20, 1, 1, 20), Confusion(6, 0, 1, 40)], ids=str
)
def test_the_guess_is_about_right(found: Confusion) -> None:
    """True rates as likely as the answers so far make them; after so many more it is shown about every other time."""
    random, bars, needed = np.random.default_rng(1), Requirements(), answers_needed(found, Requirements())
    assert needed in power.ROUND_NUMBERS
    shown = 0
    for _ in range(1000):
        share = random.beta(found.yes + 0.5, found.no + 0.5)
        missed = random.beta(found.misses + 0.5, found.hits + 0.5)
        false = random.beta(found.false_alarms + 0.5, found.correct_rejections + 0.5)
        yes = random.binomial(needed, share)
        misses, alarms = random.binomial(yes, missed), random.binomial(needed - yes, false)
        more = (yes - misses, misses, alarms, needed - yes - alarms)
        now = (found.hits, found.misses, found.false_alarms, found.correct_rejections)
        shown += bars.met_by(Confusion(*(a + b for a, b in zip(now, more, strict=True))))

    assert 0.25 < shown / 1000 < 0.75


def test_nothing_answered_needs_what_a_faultless_model_would() -> None:
    assert answers_needed(Confusion(0, 0, 0, 0), Requirements()) == 35
    assert answers_needed(Confusion(0, 0, 0, 0), Requirements(precision=None, false_alarms=0.05)) == 150


@pytest.mark.parametrize("bar", [0.7, 0.9, 0.95])
@pytest.mark.parametrize("n", [1, 9, 35, 50])
def test_power_is_that_of_the_interval_of_scipy(bar: float, n: int) -> None:
    for rate in (0.6, 0.85, 0.9, 0.99):
        passing = [hits for hits in range(n + 1) if binomtest(hits, n).proportion_ci(method="wilson").low >= bar]
        assert power.power(rate, bar, n) == pytest.approx(sum(binom.pmf(passing, n, rate)), abs=1e-12)


def test_looking_often_passes_more_often() -> None:
    random = np.random.default_rng(2)
    right = random.random((2000, 60)) < 0.75
    lows = {
        (hits, n): binomtest(hits, n).proportion_ci(method="wilson").low for n in range(1, 61) for hits in range(n + 1)
    }
    ever = [any(lows[int(h), n + 1] >= 0.7 for n, h in enumerate(row.cumsum())) for row in right]

    assert power.power_of_repeated_checks(0.75, 0.7, 60) == pytest.approx(np.mean(ever), abs=0.035)
    assert power.power_of_repeated_checks(0.7, 0.7, 200) > 5 * power.power(0.7, 0.7, 200)


def test_a_model_of_85_hardly_ever_passes_a_bar_of_90() -> None:
    most = max(power.power(0.85, 0.9, n) for n in range(1, 201))

    assert 0 < most < 0.005, "one time in five, if a point estimate were enough"
    assert power.power_of_repeated_checks(0.85, 0.9, 200) < 0.01


def test_the_docs_have_the_table_as_it_is_computed() -> None:
    assert f"\n\n{power.table()}\n" in VERDICT.read_text(encoding="utf-8")


def test_before_anybody_has_answered_the_teacher_says_how_it_will_go() -> None:
    bars = Requirements()
    none, rare = Confusion(0, 0, 0, 0), Confusion(19, 1, 1, 179)

    assert answers_needed(none, bars, rare) > 2 * answers_needed(none, bars), "one photo in ten is a yes"
    many = Confusion(40, 2, 2, 56)
    assert answers_needed(many, bars, rare) == answers_needed(many, bars), "people's own answers have taken over"
    hopeless = Confusion(2, 20, 3, 100)
    assert answers_needed(none, bars, hopeless) == answers_needed(none, bars), "the teacher refuses nothing"
