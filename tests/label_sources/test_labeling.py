"""Phrases and vectors become labels; prompts; gold labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from clip_factory.errors import PluginError, ScenarioError
from clip_factory.images.photo import Photo
from clip_factory.label_sources import labeling, zero_shot
from clip_factory.label_sources.refinement import checked
from clip_factory.label_sources.source import YES_NO, Phrases, Scores, find_label_source
from clip_factory.labels import Labels
from clip_factory.scenario import Labeling, Scenario
from clip_factory.store import EmbeddingStore


class Words:
    """An encoder whose space has one axis a phrase: exact answers can be worked out by hand."""

    name, key, license = "words", "words", "none"
    dim, image_size, logit_scale, logit_bias = 3, 32, 10.0, 0.0

    @property
    def about(self) -> dict[str, object]:
        return {"name": self.name, "key": self.key, "license": self.license, "dim": self.dim}

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        raise AssertionError("the vectors are there")

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        axes = {"cat": 0, "dog": 1, "tree": 2}
        return np.stack([np.eye(3, dtype=np.float32)[next(a for w, a in axes.items() if w in t)] for t in texts])


def table(n: int) -> pa.Table:
    names = [f"{i:02d}" for i in range(n)]
    return pa.table(
        {"sha256": names, "path": [f"{name}.jpg" for name in names], "group": pa.array(range(n), pa.int32())}
    )


def vectors(n: int) -> np.ndarray:
    """The first half cats, the second half dogs."""
    return np.eye(3, dtype=np.float32)[[0] * (n // 2) + [1] * (n - n // 2)]


CAT = Scenario(name="cat", positive=("cat",), negative=("dog", "tree"))


def build(
    scenario: Scenario = CAT, n: int = 12, gold: dict[str, bool] | None = None, picked: set[str] | None = None
) -> Labels:
    encoder, scores = Words(), zero_shot.zero_shot(Words(), vectors(n), scenario)
    about = labeling.teacher_about(encoder)
    return labeling.build(scenario, about, scores, table(n), vectors(n), gold or {}, picked or set())


def test_probability_is_the_softmax_at_the_logit_scale_summed_over_positives() -> None:
    both = Scenario(name="pet", positive=("cat", "dog"), negative=("tree",))
    scores = zero_shot.zero_shot(Words(), vectors(2), both)

    e = np.exp([10.0, 0.0, 0.0])
    assert scores.by_phrase[0] == pytest.approx(e / e.sum(), abs=1e-6)
    assert scores.by_phrase.sum(axis=1) == pytest.approx([1, 1], abs=1e-6)
    assert scores.p == pytest.approx([(e[0] + e[1]) / e.sum()] * 2, abs=1e-6)


def test_text_vectors_are_normalized_means() -> None:
    texts = zero_shot.text_vectors(Words(), ["tree"], ("a {}", "a {} and a dog?"))

    assert texts[0] == pytest.approx([0, 0.5**0.5, 0.5**0.5]), "half a tree, half a dog, of unit length"


def test_phrases_are_asked_through_the_scenarios_templates() -> None:
    class Listener(Words):
        heard: ClassVar[list[str]] = []

        def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
            self.heard += texts
            return super().embed_texts(texts)

    scenario = CAT.model_copy(update={"templates": ("one {} here", "a {}?")})
    zero_shot.zero_shot(Listener(), vectors(2), scenario)

    assert Listener.heard == ["one cat here", "a cat?", "one dog here", "a dog?", "one tree here", "a tree?"]


def test_labels_are_soft_and_carry_what_made_them() -> None:
    labels = build()

    assert (labels.p_teacher[:6] > 0.99).all() and (labels.p_teacher[6:] < 0.01).all()
    assert labels.sha256.tolist() == sorted(labels.sha256.tolist())
    assert labels.positive == ("cat",) and labels.negative == ("dog", "tree")
    assert labels.teacher == {"name": "words", "key": "words", "license": "none", "dim": 3, "logit_scale": 10.0}
    assert labels.scores.shape == (12, 3) and labels.scores.dtype == np.float32


def test_doubt_costs_weight_and_gold_restores_it() -> None:
    assert labeling.certainty(np.array([0.0, 0.5, 0.75, 1.0])) == pytest.approx([1, labeling.MIN_WEIGHT, 0.5, 1])
    labels = build(gold={"03": False})

    assert labels.gold[3] == 0.0
    assert labels.weight[3] == 1.0
    assert labels.p_teacher[3] > 0.99, "gold never overwrites what the teacher answers"


def test_background_stands_in_for_missing_negatives() -> None:
    phrases = Phrases.of(Scenario(name="x", positive=("person on a street",)))

    assert "person" not in phrases.negative and "street" not in phrases.negative
    assert "animal" in phrases.negative


def test_the_labels_tell_what_the_probe_did_and_which_photos_were_picked() -> None:
    labels = build(gold={"03": False, "04": True}, picked={"03", "09"})

    assert labels.refinement["used"] is False and labels.refinement["gold"] == 2
    assert labels.sha256[labels.picked].tolist() == ["03"]


def test_refinement_can_be_turned_off_and_unknown_names_are_refused() -> None:
    def named(**labels: str) -> Scenario:
        return Scenario.model_validate({**CAT.model_dump(), "labels": labels})

    assert build(named(refine="none")).refinement["says"].endswith("no refinement is asked for.")
    with pytest.raises(ScenarioError, match=r"labels\.refine: prob: no such refinement\n  known: auto, probe, none"):
        build(named(refine="prob"))
    with pytest.raises(ScenarioError, match=r"labels\.source: vqa: no such label source\n  known: zero-shot"):
        find_label_source(named(source="vqa"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.5], [0.5]], r"scores \(2, 1\), expected \(2, 2\)"),
        ([[0.5, 1.5], [0, 1]], "outside"),
        ([[0.5, np.nan], [0, 1]], "outside"),
    ],
)
def test_what_a_source_answers_is_checked(values: list[list[float]], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        Scores(YES_NO, np.array(values)).checked(2, "mine")


def test_bare_numbers_of_a_source_or_a_refinement_are_refused(tmp_path: Path) -> None:
    class Bare(Counting):
        def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
            return np.zeros(len(photos))  # type: ignore[return-value]

    with pytest.raises(PluginError, match="label source counting: answers ndarray, expected Scores"):
        labeling.score(Bare(), [Photo("1", tmp_path / "1.png")], CAT, EmbeddingStore(tmp_path))
    with pytest.raises(PluginError, match="refinement mine: answers ndarray, expected Refined"):
        checked(np.zeros(1), 1, "mine")  # type: ignore[arg-type]


def test_bare_probabilities_are_scores_of_yes_and_no() -> None:
    p = np.array([0.0, 1e-9, 0.3, 1.0])

    assert Scores.of_probabilities(p).p == pytest.approx(p, abs=1e-7)
    assert np.isfinite(Scores.of_probabilities(p).log_odds).all()


class Counting:
    """A label source that counts what it is asked."""

    key, about, batch_size = "counting", {"name": "counting", "license": "none"}, 2

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
        self.asked += [photo.sha256 for photo in photos]
        return Scores.of_probabilities(np.array([int(photo.sha256) / 7 for photo in photos]))


def test_a_photo_is_scored_once_a_question(tmp_path: Path) -> None:
    source, store = Counting(), EmbeddingStore(tmp_path)
    photos = [Photo(str(i), Path(f"{i}.jpg")) for i in range(6)]
    first = labeling.score(source, photos[:3], CAT, store)
    again = labeling.score(source, photos[2::-1], CAT, store)
    more = labeling.score(source, photos, CAT, store)

    assert source.asked == ["0", "1", "2", "3", "4", "5"]
    assert again.by_phrase.tobytes() == first.by_phrase[::-1].tobytes(), "to the bit"
    assert more.p == pytest.approx(np.arange(6) / 7, abs=1e-7)
    labeling.score(source, photos, CAT.model_copy(update={"positive": ("kitten",)}), store)
    assert len(source.asked) == 12, "another question is asked anew"
    labeling.score(source, photos, CAT.model_copy(update={"labels": Labeling(refine="none")}), store)
    assert len(source.asked) == 12, "the refinement is no part of the question"


def test_what_was_scored_before_a_failure_is_kept(tmp_path: Path) -> None:
    class Failing(Counting):
        def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
            if photos[0].sha256 == "4":
                raise OSError("out of memory")
            return super().score(photos, scenario)

    photos, store = [Photo(str(i), Path(f"{i}.jpg")) for i in range(6)], EmbeddingStore(tmp_path)
    with pytest.raises(OSError, match="out of memory"):
        labeling.score(Failing(), photos, CAT, store)
    source = Counting()
    labeling.score(source, photos, CAT, store)

    assert source.asked == ["4", "5"]
