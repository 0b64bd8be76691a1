"""Wordings compared, and look-alikes named: what is combined, measured and chosen, and which photos a phrase turns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit, softmax
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from clip_factory.errors import ScenarioError
from clip_factory.label_sources import zero_shot
from clip_factory.label_sources.source import Phrases
from clip_factory.scenario import Scenario
from clip_factory.scenario.prompts import BACKGROUND, template_set
from clip_factory.store import EmbeddingStore
from clip_factory.zeroshot import look_alikes
from clip_factory.zeroshot.look_alikes import Suggestion, noun_vectors, suggest
from clip_factory.zeroshot.wordings import DOUBTFUL, PhraseScorer, Wording, compare_wordings, read_wordings
from support.axis_encoder import AxisEncoder, unit

WORDS = ("forklift", "pallet", "crane", "truck")
SCENARIO = """name: lift
positive: [forklift]
negative: [pallet]
templates: plain
images: {path: /photos}
teacher: {model: offline}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    file = tmp_path / "lift.yaml"
    file.write_text(SCENARIO, encoding="utf-8")
    return file


def stated(wordings: tuple[Wording, ...]) -> list[tuple]:
    return [(one.phrases.positive, one.phrases.negative, one.templates) for one in wordings]


# Reading


def test_every_combination_of_phrases_and_templates_is_a_wording() -> None:
    asked = read_wordings(None, ["cat, tabby", "tom"], ["dog", "car"], ["plain", "photo"])

    assert stated(asked.wordings) == [
        (yes, no, name)
        for yes in (("cat", "tabby"), ("tom",))
        for no in (("dog",), ("car",))
        for name in ("plain", "photo")
    ]
    assert asked.images is None
    assert asked.stated == Phrases(("cat", "tabby", "tom"), ("dog", "car"))


def test_the_scenarios_own_wording_comes_first_and_lends_what_is_not_given(scenario: Path) -> None:
    asked = read_wordings(scenario, ["lift truck"], (), ["photo"])

    assert stated(asked.wordings) == [
        (("forklift",), ("pallet",), "plain"),
        (("lift truck",), ("pallet",), "photo"),
    ]
    assert (asked.images, asked.encoder) == (Path("/photos"), "offline")


def test_a_wording_that_says_the_same_is_one(scenario: Path) -> None:
    assert len(read_wordings(scenario, ["forklift"], ["pallet", " pallet "], ["plain"]).wordings) == 1


def test_everyday_things_stand_in_for_negatives_in_a_wording_but_not_in_what_is_stated() -> None:
    asked = read_wordings(None, ["person"], (), ())

    assert asked.wordings[0].phrases.negative == tuple(thing for thing in BACKGROUND if thing != "person")
    assert asked.stated == Phrases(("person",), ())


def test_phrases_that_a_scenario_may_not_have_are_refused_unless_they_are_what_is_asked_about() -> None:
    with pytest.raises(ScenarioError, match="no helmet"):
        read_wordings(None, ["no helmet"], (), ())
    unchecked = read_wordings(None, ["no helmet"], (), (), check=False)

    assert (unchecked.wordings, unchecked.stated.positive) == ((), ("no helmet",))


def test_no_phrases_are_refused() -> None:
    with pytest.raises(ScenarioError, match=r"(?s)no phrases are named.*--positive PHRASE"):
        read_wordings(None, (), ["pallet"], ())


def test_a_wording_is_said_in_a_line_with_the_first_of_many_negatives() -> None:
    assert Wording(Phrases(("a", "b"), ("1", "2", "3", "4", "5")), ("x {}", "{}")).says == (
        "a, b | not 1, 2, 3, 4, ... | x {}, {}"
    )
    assert Wording(Phrases(("a",), ("1", "2", "3", "4"))).says == "a | not 1, 2, 3, 4 | photo"


# Measuring


def photos(each: int = 60, noise: float = 0.15) -> tuple[PhraseScorer, np.ndarray]:
    """As many photos of each of three things, and which is of which."""
    encoder = AxisEncoder(*WORDS, scale=10.0)
    kind = np.repeat([0, 1, 2], each)
    vectors = np.eye(encoder.dim)[kind] + np.random.default_rng(0).normal(0, noise, (3 * each, encoder.dim))
    return PhraseScorer(encoder, unit(vectors)), kind


LIFT = Wording(Phrases(("forklift",), ("pallet", "crane")))
PALLET = Wording(Phrases(("pallet",), ("forklift", "crane")))
VAGUE = Wording(Phrases(("truck",), ("forklift", "pallet")))


@pytest.mark.parametrize("templates", [("{}",), template_set("photo")])
def test_log_odds_are_those_of_the_label_source(templates: tuple[str, ...]) -> None:
    scorer, _ = photos()
    phrases = Phrases(("forklift", "truck"), ("pallet", "thing"))
    own = Scenario(name="x", positive=phrases.positive, negative=phrases.negative, templates=templates)
    wanted = zero_shot.zero_shot(scorer.encoder, scorer.vectors, own)

    assert expit(scorer.log_odds(phrases, templates)) == pytest.approx(wanted.p, abs=1e-5)
    p = softmax(10.0 * scorer.vectors.astype(float) @ scorer.texts(phrases.all, templates).T, axis=1)
    assert scorer.log_odds(phrases, templates) == pytest.approx(logit(p[:, :2].sum(axis=1)), abs=1e-2)


def test_a_phrase_in_a_template_is_embedded_once_for_all_wordings() -> None:
    scorer, _ = photos()
    compare_wordings(scorer, [LIFT, PALLET, VAGUE])
    texts = scorer.encoder.embedded

    assert len(texts) == len(set(texts)) == 4 * len(template_set("photo"))


def test_labels_decide_by_scikit_learns_balanced_accuracy() -> None:
    scorer, kind = photos(noise=0.4)
    truth = (kind == 1).astype(float)
    truth[::7] = np.nan
    results = compare_wordings(scorer, [VAGUE, LIFT, PALLET], truth)
    known = ~np.isnan(truth)

    assert results[0].wording == PALLET
    for one in results:
        p = expit(scorer.log_odds(one.wording.phrases, one.wording.chosen_templates))
        assert one.balanced_accuracy.figure == pytest.approx(balanced_accuracy_score(truth[known], p[known] >= 0.5))
        assert one.auc == pytest.approx(roc_auc_score(truth[known], p[known]))
        assert one.auc_interval[0] < one.auc < one.auc_interval[1]
    figures = [one.balanced_accuracy.figure for one in results]
    assert figures == sorted(figures, reverse=True) and figures[0] < 1


def test_labels_of_one_answer_alone_decide_nothing() -> None:
    scorer, kind = photos()
    for truth in (np.where(kind == 1, 1.0, np.nan), np.full(180, np.nan), None):
        results = compare_wordings(scorer, [VAGUE, LIFT], truth)
        assert results[0].wording == LIFT
        assert [(one.counts, one.auc, one.balanced_accuracy) for one in results] == [(None, None, None)] * 2


def test_without_labels_the_wording_that_parts_the_folder_as_its_photos_part_comes_first() -> None:
    scorer, _ = photos()
    results = compare_wordings(scorer, [VAGUE, PALLET])

    assert [one.wording for one in results] == [PALLET, VAGUE]
    assert results[0].consistency > 0.95 > results[1].consistency


def test_fewer_than_a_hundred_photos_have_no_consistency_and_separation_decides() -> None:
    few, _ = photos(33)
    results = compare_wordings(few, [VAGUE, PALLET])

    assert [one.consistency for one in results] == [None, None]
    assert results[0].separation > results[1].separation and results[0].wording == PALLET
    assert all(one.consistency is not None for one in compare_wordings(photos(34)[0], [VAGUE, PALLET]))


def test_yes_and_doubtful_photos_are_counted_by_their_probability() -> None:
    scorer, _ = photos(noise=0.4)
    (result,) = compare_wordings(scorer, [LIFT, LIFT])
    p = result.p

    assert result.yes == (p >= 0.5).sum() > 0
    assert result.doubtful == pytest.approx(((p < DOUBTFUL) & (p > 1 - DOUBTFUL)).mean())
    assert 0 < result.doubtful < 1


def test_templates_agree_as_often_as_one_alone_answers_like_all_of_them() -> None:
    scorer, _ = photos()
    result = compare_wordings(scorer, [Wording(Phrases(("forklift",), ("pallet",)), ("{}", "{} by a crane"))])[0]
    together = result.p >= 0.5
    alone = [scorer.log_odds(result.wording.phrases, (one,)) >= 0 for one in ("{}", "{} by a crane")]

    assert result.template_agreement == pytest.approx(np.mean([one == together for one in alone]))
    single = compare_wordings(scorer, [Wording(Phrases(("forklift",), ("pallet",)), ("{}",))])[0]
    assert single.template_agreement == 1.0


# Look-alikes


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "store")


WIDE = Wording(Phrases(("truck",), ("thing",)), ("a photo of a {}.",))
"""Says no to nothing that the folder holds."""


def test_a_suggestion_turns_exactly_the_photos_that_it_names(store: EmbeddingStore) -> None:
    scorer, kind = photos(noise=0.3)
    made = suggest(scorer, WIDE, store, nouns=["pallet", "crane", "forklift", "sofa"])
    before = scorer.log_odds(WIDE.phrases, WIDE.chosen_templates) >= 0

    assert {one.phrase for one in made} >= {"pallet", "crane"}
    for one in made:
        more = Phrases(("truck",), ("thing", one.phrase))
        after = scorer.log_odds(more, WIDE.chosen_templates) >= 0
        assert sorted(one.turned.tolist()) == np.flatnonzero(before & ~after).tolist()
        assert len(one.turned) == len(set(one.turned.tolist()))
    pallet = next(one for one in made if one.phrase == "pallet")
    assert (kind[pallet.turned[:10]] == 1).mean() >= 0.9, "its own kind before others"


def test_the_most_changed_photos_come_first(store: EmbeddingStore) -> None:
    scorer, _ = photos(noise=0.3)
    (made,) = suggest(scorer, WIDE, store, nouns=["pallet"], most=1)
    p = [
        expit(scorer.log_odds(phrases, WIDE.chosen_templates))[made.turned]
        for phrases in (WIDE.phrases, Phrases(("truck",), ("thing", "pallet")))
    ]

    assert (np.diff(p[1] - p[0]) >= 0).all() and len(made.turned) > 5


def test_what_is_said_already_on_either_side_is_not_suggested(store: EmbeddingStore) -> None:
    scorer, _ = photos()
    wording = Wording(Phrases(("Truck",), ("PALLET",)), WIDE.templates)
    made = suggest(scorer, wording, store, nouns=["truck", "pallet", "crane", "crane"])

    assert [one.phrase for one in made] == ["crane"]


def test_a_noun_that_says_the_same_as_a_positive_phrase_is_not_suggested(store: EmbeddingStore) -> None:
    scorer, _ = photos()
    made = suggest(
        scorer, Wording(Phrases(("pallet",), ("crane",)), WIDE.templates), store, nouns=["pallet on floor", "truck"]
    )

    assert "pallet on floor" not in {one.phrase for one in made}


def test_a_group_that_is_what_is_looked_for_is_not_named_as_a_group(store: EmbeddingStore) -> None:
    scorer, kind = photos(noise=0.1)
    made = suggest(scorer, LIFT, store, nouns=["pallet jack", "crane hook", "lorry"])
    groups = [one for one in made if one.kind == "group"]

    assert groups
    for one in groups:
        assert (kind[one.photos] == 0).mean() < 0.5
    assert {one.phrase for one in groups} <= {"pallet jack", "crane hook"}


def test_no_groups_are_sought_in_a_handful_of_photos(store: EmbeddingStore) -> None:
    few, _ = photos(13)

    assert {one.kind for one in suggest(few, LIFT, store, nouns=["pallet jack", "crane hook", "lorry"])} <= {
        "in the yes photos"
    }


def test_no_more_phrases_come_than_are_asked_for(store: EmbeddingStore) -> None:
    scorer, _ = photos(noise=0.3)
    nouns = ["pallet", "crane", "forklift", "sofa"]

    first = suggest(scorer, WIDE, store, most=1, nouns=nouns)
    assert len(first) == 1 < len(suggest(scorer, WIDE, store, nouns=nouns))


def one(phrase: str, turned: list[int], near: int = 1) -> Suggestion:
    return Suggestion(phrase, (), "group", np.arange(near), np.array(turned, int))


def test_a_phrase_whose_photos_others_turn_already_is_left_out_and_idle_ones_come_last() -> None:
    ideas = [one("idle", [], 5), one("inner", [1, 2]), one("b", [3, 4]), one("idler", [], 9), one("a", [1, 2, 3])]

    assert [idea.phrase for idea in look_alikes._without_repeats(ideas)] == ["a", "b", "idler", "idle"]


def test_nouns_are_embedded_once_and_under_the_encoders_own_key(store: EmbeddingStore) -> None:
    encoder = AxisEncoder(*WORDS)
    first = noun_vectors(encoder, ["pallet", "crane"], store)
    again = noun_vectors(encoder, ["crane", "truck", "pallet"], store)

    assert encoder.embedded == [f"a photo of a {noun}." for noun in ("pallet", "crane", "truck")]
    assert again[[2, 0]] == pytest.approx(first, abs=1e-3)
    assert again == pytest.approx(encoder.embed_texts(["crane", "truck", "pallet"]), abs=1e-3)
    other = AxisEncoder("pallet")
    other.key = "other-1"
    assert noun_vectors(other, ["pallet"], store).shape == (1, 2), "another encoder has other vectors"
