"""What label sources and refinements are held to: shapes, ranges, names; what is refused, in full."""

from __future__ import annotations

import numpy as np
import pytest

from clip_factory.errors import PluginError, ScenarioError
from clip_factory.label_sources.auto_refinement import AutoRefinement
from clip_factory.label_sources.probe import Probe
from clip_factory.label_sources.refinement import NoRefinement, PseudoLabels, Refined, checked, load_refinement
from clip_factory.label_sources.source import YES_NO, Phrases, Scores, find_label_source
from clip_factory.label_sources.transduction import Transduction
from clip_factory.scenario import Labeling, Scenario
from clip_factory.scenario.prompts import BACKGROUND

CAT = Scenario(name="cat", positive=("cat",), negative=("dog", "tree"))


def with_labels(**labels: str) -> Scenario:
    return CAT.model_copy(update={"labels": Labeling(**labels)})


def test_phrases_are_the_scenarios_and_the_background_stands_in_for_missing_negatives() -> None:
    assert Phrases.of(CAT) == Phrases(("cat",), ("dog", "tree"))
    assert Phrases.of(CAT).all == ("cat", "dog", "tree")
    assert Phrases.of(CAT).to_json() == {"positive": ("cat",), "negative": ("dog", "tree")}
    alone = Phrases.of(Scenario(name="x", positive=("Person on a STREET", "walker")))
    assert alone.positive == ("Person on a STREET", "walker")
    assert alone.negative == tuple(phrase for phrase in BACKGROUND if phrase not in ("person", "street"))


def test_bare_probabilities_are_scores_of_yes_and_no() -> None:
    p = np.array([0.0, 1e-9, 0.3, 1.0])
    scores = Scores.of_probabilities(p)

    assert scores.phrases == Phrases(("yes",), ("no",)) == YES_NO
    assert scores.by_phrase.dtype == np.float32
    assert scores.by_phrase == pytest.approx(np.stack([p, 1 - p], axis=1), abs=1e-7)
    assert scores.p == pytest.approx(p, abs=1e-7)
    assert np.isfinite(scores.log_odds).all()
    single = Scores.of_probabilities(np.array([1 - 2**-24], np.float32))  # 1 minus this is exact in double precision
    assert single.by_phrase[0, 1] == np.float32(2**-24)


def test_probabilities_are_the_share_of_the_positive_phrases() -> None:
    scores = Scores(Phrases(("a", "b"), ("c",)), np.array([[0.1, 0.3, 0.6], [0.5, 0.5, 0.0]], np.float32))

    assert scores.p == pytest.approx([0.4, 1.0], abs=1e-7)
    assert scores.log_odds[0] == pytest.approx(np.log(0.4 / 0.6), abs=1e-6)


@pytest.mark.parametrize(
    ("phrases", "values", "message"),
    [
        (YES_NO, [[0.5], [0.5]], "scores (2, 1), expected (2, 2)"),
        (YES_NO, [[0.5, 0.5]], "scores (1, 2), expected (2, 2)"),
        (YES_NO, [[0.5, 1.5], [0, 1]], "scores outside [0, 1]"),
        (YES_NO, [[0.5, -1e-6], [0, 1]], "scores outside [0, 1]"),
        (YES_NO, [[0.5, np.nan], [0, 1]], "scores outside [0, 1]"),
        (Phrases((), ("no",)), [[0.5], [0.5]], "names no column for one of the two answers"),
        (Phrases(("yes",), ()), [[0.5], [0.5]], "names no column for one of the two answers"),
    ],
)
def test_what_a_source_answers_is_checked(phrases: Phrases, values: list[list[float]], message: str) -> None:
    with pytest.raises(PluginError) as told:
        Scores(phrases, np.array(values)).checked(2, "mine")
    assert str(told.value) == f"label source mine: {message}"


def test_what_is_right_becomes_single_precision() -> None:
    checked_scores = Scores(YES_NO, np.array([[0.0, 1.0], [0.25, 0.75]])).checked(2, "mine")

    assert checked_scores.by_phrase.dtype == np.float32
    assert checked_scores.by_phrase.tolist() == [[0, 1], [0.25, 0.75]]
    assert checked_scores.phrases == YES_NO


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros(2), "answers ndarray, expected Refined"),
        (Refined(np.zeros(3), True, ""), "(3,) values, expected 2 in [0, 1]"),
        (Refined(np.array([0, 1.1]), True, ""), "(2,) values, expected 2 in [0, 1]"),
        (Refined(np.array([-0.1, 1]), True, ""), "(2,) values, expected 2 in [0, 1]"),
        (Refined(np.array([np.nan, 1]), True, ""), "(2,) values, expected 2 in [0, 1]"),
    ],
)
def test_what_a_refinement_answers_is_checked(answer: Refined, message: str) -> None:
    with pytest.raises(PluginError) as told:
        checked(answer, 2, "mine")
    assert str(told.value) == f"refinement mine: {message}"


def test_certainty_is_a_probability_too() -> None:
    answer = Refined(np.array([0.0, 1.0]), True, "")

    assert checked(answer, 2, "mine") is answer


def test_no_refinement_leaves_all_as_it_is() -> None:
    p, none = np.array([0.2, 0.7]), np.zeros(2)
    found = NoRefinement().refine(PseudoLabels(none, p, np.zeros((2, 1)), none, none, none, none))

    assert found.p is p
    assert found.to_json() == {
        "used": False,
        "says": "The labels are as their source gives them: no refinement is asked for.",
    }


def test_sources_and_refinements_are_known_by_name() -> None:
    assert isinstance(load_refinement(with_labels(refine="none")), NoRefinement)
    assert isinstance(load_refinement(with_labels(refine="auto")), AutoRefinement)
    assert isinstance(load_refinement(with_labels(refine="probe")), Probe)
    transduction = load_refinement(with_labels(refine="transduction"))
    assert isinstance(transduction, Transduction) and not transduction.guarded
    with pytest.raises(ScenarioError) as told:
        load_refinement(with_labels(refine="prob"))
    assert str(told.value) == "labels.refine: prob: no such refinement\n  known: auto, none, transduction, probe"
    with pytest.raises(ScenarioError) as told:
        find_label_source(with_labels(source="oracle"))
    assert (
        str(told.value)
        == "labels.source: oracle: no such label source\n  known: zero-shot, detection, segmentation, vqa, x-clip"
    )
