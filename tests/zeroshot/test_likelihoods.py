"""What zero-shot makes of vectors: open_clip's classifier as oracle, one class alone, `other`, refinement, few-shot."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import open_clip
import pytest
import torch
from scipy.special import expit
from scipy.special import softmax as scipy_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score, top_k_accuracy_score

from clip_factory.encoders import load_encoder
from clip_factory.encoders.open_clip import OpenClipEncoder
from clip_factory.errors import GoldError, ScenarioError
from clip_factory.label_sources.source import Phrases
from clip_factory.scenario import Teacher
from clip_factory.scenario.prompts import BACKGROUND, template_set
from clip_factory.store import EmbeddingStore
from clip_factory.zeroshot import few_shot as shots
from clip_factory.zeroshot.accuracy import measure
from clip_factory.zeroshot.classes import ClassPrompts, prompts_of
from clip_factory.zeroshot.classification import OTHER, Classification, classify
from clip_factory.zeroshot.few_shot import few_shot
from clip_factory.zeroshot.look_alikes import suggest
from clip_factory.zeroshot.search import Query, search
from clip_factory.zeroshot.wordings import PhraseScorer, Wording, compare_wordings

PHOTO = template_set("photo")


class AxisEncoder:
    """An encoder whose texts lie on the axis of the first known word in them, images where they are put."""

    name, key, license, dim, image_size, logit_scale, logit_bias = "axes", "axes-1", "MIT", 32, 32, 20.0, 0.0
    about: ClassVar[dict[str, object]] = {"name": "axes", "key": "axes-1", "license": "MIT", "dim": 32}

    def __init__(self, *words: str) -> None:
        self.words = words

    def embed_images(self, images: list[object]) -> np.ndarray:
        return np.empty((0, self.dim), np.float32)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        vectors = np.full((len(texts), self.dim), 0.01, np.float32)
        for row, text in zip(vectors, texts, strict=True):
            known = [place for place, word in enumerate(self.words) if word in text]
            row[known[0] if known else -1] = 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_probabilities_are_those_of_open_clips_own_classifier(tiny_clip: Path) -> None:
    encoder = load_encoder(Teacher(model=f"local-dir:{tiny_clip}"))
    assert isinstance(encoder, OpenClipEncoder)
    vectors = unit(np.random.default_rng(0).normal(size=(40, encoder.dim)))
    classes = prompts_of({"cat": ["cat"], "dog": ["dog"], "sea coast": ["sea coast"]}, PHOTO)
    oracle = open_clip.build_zero_shot_classifier(
        encoder.network, encoder._tokenize, list(classes.names), [lambda c, t=t: t.format(c) for t in PHOTO]
    )
    with torch.inference_mode():
        expected = (encoder.logit_scale * torch.from_numpy(vectors) @ oracle.cpu()).softmax(dim=1).numpy()

    assert classify(vectors, classes, encoder, PHOTO).probabilities == pytest.approx(expected, abs=1e-5)


def test_one_class_alone_has_the_encoders_sigmoid_where_it_was_trained_with_one() -> None:
    encoder = AxisEncoder("cat")
    vectors = unit(np.random.default_rng(0).normal(size=(30, 32)))
    alone = prompts_of({"cat": ["cat"]}, PHOTO)
    share = classify(vectors, alone, encoder, PHOTO).probabilities[:, 0]
    encoder.logit_bias = -5.0
    sigmoid = classify(vectors, alone, encoder, PHOTO).probabilities[:, 0]

    assert sigmoid == pytest.approx(expit(20.0 * vectors @ alone.vectors(encoder)[0] - 5.0), abs=1e-6)
    texts = encoder.embed_texts(["cat", *(text for thing in BACKGROUND for text in [t.format(thing) for t in PHOTO])])
    assert share == pytest.approx(scipy_softmax(20.0 * vectors @ texts.T, axis=1)[:, 0], abs=1e-5)


def test_other_is_the_share_of_everyday_things_that_no_class_names() -> None:
    encoder = AxisEncoder("dog", "person", "food")
    vectors = unit(np.eye(32)[[0, 1, 2, 31]] + 0.05)
    result = classify(vectors, prompts_of({"dog": ["dog"], "person": ["person"]}, PHOTO), encoder, PHOTO, other=True)

    assert result.names == ("dog", "person", OTHER)
    assert result.probabilities.sum(axis=1) == pytest.approx(np.ones(4))
    assert result.words[0] == "dog" and result.words[2] == OTHER
    assert result.words[1] == "person", "what a class names is no other thing"


def test_groups_correct_words_that_lean_to_one_class() -> None:
    random = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], 80)
    encoder = AxisEncoder("cat", "dog", "horse")
    vectors = 0.6 * np.eye(32)[kind] + random.normal(0, 0.12, (240, 32))
    vectors[:, 1] += 0.55  # every photo leans to the dog
    vectors[:, 10] += kind  # and the kinds lie apart elsewhere
    classes = prompts_of({"cat": ["cat"], "dog": ["dog"], "horse": ["horse"]}, PHOTO)
    words = classify(unit(vectors), classes, encoder, PHOTO)
    result = classify(unit(vectors), classes, encoder, PHOTO, refine=True)

    assert (words.answers == kind).mean() < 0.9 < 0.97 < (result.answers == kind).mean()
    assert f"gave {(words.answers != result.answers).sum():,} of 240 photos another class" in result.says
    few = classify(unit(vectors[::3]), classes, encoder, PHOTO, refine=True)
    assert "from 100 photos on" in few.says
    assert (few.probabilities == classify(unit(vectors[::3]), classes, encoder, PHOTO).probabilities).all()


def test_accuracy_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    names = tuple("abcdefg")
    p = random.dirichlet(np.ones(7), 200)
    folders = random.choice([*names, ""], 200).astype(object)
    result = measure(Classification(names, p, threshold=0.3), folders)
    known = folders != ""
    truth = [names.index(folder) for folder in folders[known]]

    assert result.rows.tolist() == np.flatnonzero(known).tolist()
    assert result.top5.figure == pytest.approx(top_k_accuracy_score(truth, p[known], k=5))
    answers = np.where(p[known].max(axis=1) >= 0.3, p[known].argmax(axis=1), -1)
    recalls = recall_score(truth, answers, average=None, labels=range(7), zero_division=0)
    assert [share.figure for share in result.recalls] == pytest.approx(recalls.tolist())
    assert result.confusion.shape == (7, 8) and result.confusion.sum() == known.sum()
    assert result.confusion[:, -1].sum() == (answers < 0).sum(), "what is unsure has a column of its own"
    worst = result.worst(p, 5)
    assert (np.diff(p[worst].max(axis=1)) <= 0).all()
    with pytest.raises(GoldError, match="no photo lies in a folder that is named like a class"):
        measure(Classification(("x", "y"), p[:, :2]), folders)


def test_few_shot_probes_are_scikit_learns_and_near_duplicates_lie_on_one_side(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1], 60)
    vectors = unit(random.normal(0, 1, (120, 8)) + 2 * np.eye(8)[truth])
    groups = np.arange(120) // 2
    fitted = []

    class Spy(LogisticRegression):
        def fit(self, x: np.ndarray, y: np.ndarray) -> LogisticRegression:
            fitted.append(x)
            return super().fit(x, y)

        def score(self, x: np.ndarray, y: np.ndarray) -> float:
            centered = vectors - vectors.mean(axis=0)
            centered = centered / np.sqrt((centered**2).sum(axis=1).mean())
            rows = [{int(np.abs(centered - row).sum(axis=1).argmin()) for row in part} for part in (fitted[-1], x)]
            assert not {groups[i] for i in rows[0]} & {groups[i] for i in rows[1]}
            return super().score(x, y)

    monkeypatch.setattr(shots, "LogisticRegression", Spy)
    result = few_shot(vectors, truth, groups, truth)

    assert result.shots == (1, 2, 4, 8, 16) and result.zero_shot == 1.0 and result.photos == 60
    assert [len(x) for x in fitted[:: shots.DRAWS]] == [2 * k for k in result.shots]
    assert result.mean[-1] > result.mean[0] and result.worth is None, "words that are always right are worth more"
    with pytest.raises(GoldError, match="two classes with two different photos each"):
        few_shot(vectors[:60], truth[:60], groups[:60], truth[:60])


def test_what_the_words_are_worth_lies_between_the_shots_that_reach_it() -> None:
    result = shots.FewShot((1, 2, 4), np.array([[0.4, 0.4], [0.6, 0.6], [0.8, 0.8]]), 0.6, 10)

    assert result.worth == pytest.approx(2.0)
    assert result.spread == pytest.approx([0, 0, 0])


def test_search_adds_and_takes_away() -> None:
    encoder = AxisEncoder("bicycle", "street", "tree")
    vectors = unit(np.array([np.eye(32)[0] + np.eye(32)[1], np.eye(32)[0] + np.eye(32)[2], np.eye(32)[1]]))
    paths = ["in a street.jpg", "under a tree.jpg", "street.jpg"]

    assert search(vectors, paths, Query(("bicycle",)), encoder, 3)[2].path == "street.jpg"
    assert search(vectors, paths, Query(("bicycle",), minus=("street",)), encoder, 1)[0].path == "under a tree.jpg"
    assert search(vectors, paths, Query(("bicycle", "street")), encoder, 1)[0].path == "in a street.jpg"
    with pytest.raises(ScenarioError, match="taken away is all"):
        search(vectors, paths, Query(("bicycle",), minus=("bicycle",)), encoder, 1)


def scorer(seed: int = 0) -> tuple[PhraseScorer, np.ndarray]:
    """Sixty photos of a forklift, sixty of a pallet, sixty of a crane, and which show a forklift."""
    random = np.random.default_rng(seed)
    kind = np.repeat([0, 1, 2], 60)
    vectors = unit(np.eye(32)[kind] + random.normal(0, 0.13, (180, 32)))
    return PhraseScorer(AxisEncoder("forklift", "pallet", "crane", "sea"), vectors), kind == 0


def test_the_wording_that_names_a_group_of_the_folder_comes_first_without_labels() -> None:
    photos, truth = scorer()
    right = Wording(Phrases(("forklift",), ("pallet", "crane")))
    wrong = Wording(Phrases(("sea",), ("pallet", "forklift")))
    unknown = compare_wordings(photos, [wrong, right])
    known = compare_wordings(photos, [wrong, right], truth.astype(float))

    assert unknown[0].wording == right and unknown[0].counts is None
    assert unknown[0].consistency > unknown[1].consistency
    assert known[0].wording == right and known[0].auc == pytest.approx(1.0)
    assert known[0].template_agreement == 1.0, "all templates are the same to this encoder"


def test_the_labels_decide_between_wordings_where_both_answers_are_known() -> None:
    photos, truth = scorer()
    right = Wording(Phrases(("forklift",), ("pallet", "crane")))
    other = Wording(Phrases(("pallet",), ("forklift", "crane")))
    pallets = np.repeat([0.0, 1.0, 0.0], 60)

    assert compare_wordings(photos, [right, other], pallets)[0].wording == other
    assert compare_wordings(photos, [right, other], np.where(truth, 1.0, np.nan))[0].counts is None


def test_suggestions_name_a_group_and_the_very_photos_that_they_turn(tmp_path: Path) -> None:
    photos, _ = scorer()
    wording = Wording(Phrases(("lift",), ("sea",)))
    made = suggest(photos, wording, EmbeddingStore(tmp_path), nouns=["crane", "pallet", "sea"])
    again = suggest(photos, wording, EmbeddingStore(tmp_path), nouns=["crane", "pallet", "sea"])

    assert {one.phrase for one in made} == {"crane", "pallet"}, "what is said already is not suggested"
    assert [one.phrase for one in made] == [one.phrase for one in again]
    before = photos.log_odds(wording.phrases, wording.chosen_templates)
    for one in made:
        after = photos.log_odds(Phrases(("lift",), ("sea", one.phrase)), wording.chosen_templates)
        assert set(one.turned.tolist()) == set(np.flatnonzero((before >= 0) & (after < 0)).tolist())


def test_nouns_are_embedded_once(tmp_path: Path) -> None:
    photos, _ = scorer()
    wording, store = Wording(Phrases(("forklift",), ("sea",))), EmbeddingStore(tmp_path)
    suggest(photos, wording, store, nouns=["crane", "pallet"])
    shards = sorted(tmp_path.rglob("*.parquet"))
    suggest(photos, wording, store, nouns=["pallet", "crane"])

    assert len(store.known("words-axes-1")) == 2
    assert shards and sorted(tmp_path.rglob("*.parquet")) == shards


@pytest.mark.parametrize("classes", [{}, {"a": []}])
def test_classes_without_prompts_are_refused(classes: dict[str, list[str]]) -> None:
    with pytest.raises(ScenarioError):
        ClassPrompts(tuple(classes), tuple(map(tuple, classes.values())))
