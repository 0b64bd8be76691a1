"""`refine: auto`: guards decide without people, people's labels decide with them, and test photos teach nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clip_factory.label_sources import auto_refinement as auto
from clip_factory.label_sources.auto_refinement import BOTH, GROUPS, PROBE, WORDS, AutoRefinement, candidates_of
from clip_factory.label_sources.probabilities import logit, sigmoid
from clip_factory.label_sources.probe import MIN_GOLD, Probe, fit_probe
from clip_factory.label_sources.refinement import PseudoLabels
from clip_factory.label_sources.transduction import Transduction, transduce
from label_sources.test_transduction import folder, pseudo


def with_answers(labels: PseudoLabels, truth: np.ndarray, count: int, seed: int = 0) -> PseudoLabels:
    """The same with people's labels of some photos, drawn at random."""
    gold = np.full(len(truth), np.nan)
    rows = np.random.default_rng(seed).choice(len(truth), count, replace=False)
    gold[rows] = truth[rows]
    return replace(labels, gold=gold)


def test_without_people_the_guards_decide() -> None:
    labels, _ = folder(150, 350, shift=-0.8)
    lost, _ = folder(0, 90)
    result = AutoRefinement().refine(labels)

    assert result.used and (result.p == Transduction().refine(labels).p).all()
    assert result.sentence == Transduction().refine(labels).sentence
    assert not AutoRefinement().refine(lost).used


def test_too_few_answers_leave_the_guards_choice_and_are_counted() -> None:
    labels, truth = folder(150, 350, shift=-0.8)
    result = AutoRefinement().refine(with_answers(labels, truth, MIN_GOLD - 1))

    assert (result.p == Transduction().refine(labels).p).all()
    assert f"a probe needs {MIN_GOLD} labels from people" in result.sentence
    assert result.figures["gold"] == MIN_GOLD - 1 and result.figures["accuracy"] is None


def test_with_answers_the_first_choice_is_groups_and_probe_where_the_guards_hold() -> None:
    labels, truth = folder(150, 350, shift=-0.8)
    known = with_answers(labels, truth, 40)
    result = AutoRefinement().refine(known)

    assert result.figures["chosen"] == BOTH and result.used
    assert set(result.figures["candidates"]) == {WORDS, GROUPS, PROBE, BOTH}
    assert (result.p == candidates_of(known, AutoRefinement())[BOTH][0]).all()
    assert "on 40 labels from people that it was not fitted to" in result.sentence


def test_people_replace_groups_that_the_words_have_named_wrongly() -> None:
    labels, truth = folder(200, 300, shift=0.0)
    other = ~truth  # what people mean is the other group
    result = AutoRefinement().refine(with_answers(labels, other, 120))

    assert Transduction().refine(labels).used
    assert result.figures["accuracy"][0] < 0.2, "the words"
    assert ((result.p >= 0.5) == other).mean() > 0.9


def test_where_guards_do_not_hold_the_words_stay_unless_people_show_better() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(0, 1, (300, 16))
    truth = vectors[:, 3] > 0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sure = pseudo(vectors, np.where(truth, 5.0, -5.0) + random.normal(0, 0.1, 300))
    blind = pseudo(vectors, random.normal(-2, 1, 300))
    right, learned = (AutoRefinement().refine(with_answers(one, truth, 100)) for one in (sure, blind))

    assert not right.used or right.figures["chosen"] == BOTH
    assert ((right.p >= 0.5) == truth).mean() > 0.97
    assert not Transduction().refine(blind).used
    assert learned.figures["chosen"] in (PROBE, BOTH) and ((learned.p >= 0.5) == truth).mean() > 0.8


def test_few_answers_weigh_as_much_as_the_groups_do() -> None:
    labels, truth = folder(150, 350, shift=-0.8)
    for count in (30, 90):
        known = with_answers(labels, truth, count)
        outcome = transduce(known)
        probe = fit_probe(replace(known, log_odds=outcome.log_odds))
        weight = count / (count + 30)
        expected = sigmoid((1 - weight) * logit(outcome.p) + weight * logit(probe.p))
        assert candidates_of(known, AutoRefinement())[BOTH][0] == pytest.approx(expected)


def test_labels_of_test_photos_teach_and_choose_nothing() -> None:
    labels, truth = folder(150, 350, shift=-0.8)
    splits = np.where(np.arange(500) % 5 == 0, "test", "train")
    known = replace(with_answers(labels, truth, 150), splits=splits)
    wrong = np.where((splits == "test") & ~np.isnan(known.gold), 1 - known.gold, known.gold)
    one, other = AutoRefinement().refine(known), AutoRefinement().refine(replace(known, gold=wrong))

    assert (one.p == other.p).all() and one.to_json() == other.to_json()


def test_few_photos_have_words_and_probe_alone() -> None:
    labels, truth = folder(30, 60)
    known = with_answers(labels, truth, 60)

    assert set(candidates_of(known, AutoRefinement())) == {WORDS, PROBE}
    assert AutoRefinement().refine(known).used == Probe().refine(known).used


def test_transduction_is_done_once_for_the_same_photos_and_words(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(auto, "transduce", lambda labels: done.append(1) or transduce(labels))
    labels, truth = folder(150, 350)
    refinement = AutoRefinement()
    for count in (0, 30, 60):
        refinement.refine(with_answers(labels, truth, count))
    assert len(done) == 1
    refinement.refine(replace(labels, log_odds=labels.log_odds + 1, p=sigmoid(labels.log_odds + 1)))
    assert len(done) == 2, "other words are another question"


def test_what_moved_is_counted_against_the_words() -> None:
    labels, truth = folder(150, 350, shift=-0.8)
    result = AutoRefinement().refine(with_answers(labels, truth, 60))

    assert result.figures["moved"] == int(((result.p >= 0.5) != (labels.p >= 0.5)).sum())
    assert result.figures["yes"] == [int((labels.p >= 0.5).sum()), int((result.p >= 0.5).sum())]
