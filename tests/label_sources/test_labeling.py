"""The stage from photos to labels: embedded once, scored once a question, split, refined; and checked."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import open_clip
import pyarrow as pa
import pytest
import torch
from PIL import Image

from clip_factory import progress
from clip_factory.errors import LabelsError, PluginError, ScenarioError
from clip_factory.images.photo import Photo
from clip_factory.label_sources import labeling, zero_shot
from clip_factory.label_sources.refinement import LOADERS, PseudoLabels, Refined
from clip_factory.label_sources.source import Phrases, Scores
from clip_factory.labels import Labels, hard_labels
from clip_factory.run_folder import sha256_file
from clip_factory.scenario import Labeling, Scenario, Teacher
from clip_factory.scenario.prompts import template_set
from clip_factory.splits import assign
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


def test_the_labels_tell_what_the_probe_did_and_which_photos_were_picked() -> None:
    labels = build(gold={"03": False, "04": True}, picked={"03", "09"})

    assert labels.refinement["used"] is False and labels.refinement["gold"] == 2
    assert labels.sha256[labels.picked].tolist() == ["03"]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[PseudoLabels]:
    """What the refinement `watching` has been given; it turns every probability round."""
    seen: list[PseudoLabels] = []

    class Watching:
        def refine(self, labels: PseudoLabels) -> Refined:
            seen.append(labels)
            return Refined(1 - labels.p, True, "Turned round.", {"gain": 0.5})

    monkeypatch.setitem(LOADERS.own, "watching", Watching)
    return seen


class Counting:
    """A label source that counts what it is asked."""

    key, about, batch_size = "counting", {"name": "counting", "license": "none"}, 2

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
        self.asked += [photo.sha256 for photo in photos]
        return Scores.of_probabilities(np.array([int(photo.sha256) / 7 for photo in photos]))


def test_what_is_no_score_is_refused(tmp_path: Path) -> None:
    class Bare(Counting):
        def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
            return np.zeros(len(photos))  # type: ignore[return-value]

    class Changing(Counting):
        def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
            scores = super().score(photos, scenario)
            return Scores(Phrases(("yes",), (f"no {photos[0].sha256}",)), scores.by_phrase)

    class Short(Counting):
        def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
            return super().score(photos[:1], scenario)

    photos = [Photo(str(i), tmp_path / f"{i}.png") for i in range(4)]
    for source, message in (
        (Bare(), "label source counting: answers ndarray, expected Scores"),
        (
            Changing(),
            "label source counting: the columns of its scores changed from "
            "Phrases(positive=('yes',), negative=('no 0',))",
        ),
        (Short(), "label source counting: scores (1, 2), expected (2, 2)"),
    ):
        with pytest.raises(PluginError) as told:
            labeling.score(source, photos, CAT, EmbeddingStore(tmp_path / type(source).__name__))
        assert str(told.value) == message


def test_no_photos_are_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(LabelsError) as told:
        labeling.score(Counting(), [], CAT, EmbeddingStore(tmp_path))
    assert str(told.value) == "there are no photos to label"


def test_progress_is_reported_after_each_batch_where_there_are_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[tuple[int, int]] = []
    monkeypatch.setattr(progress, "_lines", lambda what: lambda *done: reports.append((what, *done)))
    photos = [Photo(str(i), Path(f"{i}.jpg")) for i in range(6)]
    labeling.score(Counting(), photos[:2], CAT, EmbeddingStore(tmp_path))
    assert reports == []
    labeling.score(Counting(), photos, CAT, EmbeddingStore(tmp_path))
    assert reports == [("scoring", 2, 4), ("scoring", 4, 4)]


def test_the_store_says_what_its_scores_are(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path)
    labeling.score(Counting(), [Photo("1", Path("1.jpg"))], CAT, store)

    assert store.scores_about("counting", labeling.question_hash(CAT)) == {
        "phrases": {"positive": ["yes"], "negative": ["no"]},
        "source": {"name": "counting", "license": "none"},
    }


def test_the_question_is_all_that_a_source_may_be_asked() -> None:
    """Scores that earlier versions stored are found by this hash: what goes into it, and in which form, must stay."""
    asked = {
        "question": "Is there a cat?",
        "phrases": {"positive": ("cat",), "negative": ("dog", "tree")},
        "templates": ("a {}", "{}"),
        "labels": {"source": "zero-shot"},
    }
    scenario = CAT.model_copy(update={"question": "Is there a cat?", "templates": ("a {}", "{}")})

    def digest(asked: dict[str, object]) -> str:
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:24]

    assert labeling.question_hash(scenario) == digest(asked)
    named = scenario.model_copy(update={"templates": "photo"})
    assert labeling.question_hash(named) == digest({**asked, "templates": template_set("photo")})


def test_words_become_labels_and_nothing_is_embedded_twice(tiny_clip: Path, shapes: Path, tmp_path: Path) -> None:
    """The stage as the pipeline calls it, with a real encoder and photos; the oracle is open_clip's own classifier."""
    paths = sorted((shapes / "photos").glob("*.png"))[:30]
    photos = sorted(Photo(sha256_file(path), path) for path in paths)
    names = [photo.sha256 for photo in photos]
    images = pa.table(
        {"sha256": names, "path": [photo.path.name for photo in photos], "group": pa.array([i // 2 for i in range(30)])}
    )
    scenario = Scenario(
        name="disc",
        positive=("disc", "circle"),
        negative=("bar",),
        templates=("a {}", "{}!"),
        teacher=Teacher(model=f"local-dir:{tiny_clip}", batch_size=7),
    )
    gold = {names[3]: True, names[4]: False, names[29]: True, "another": True}
    store = EmbeddingStore(tmp_path)
    done = labeling.label(scenario, photos, images, store, gold, {names[4], names[5]})
    labels = done.labels

    network, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tiny_clip}")
    weights = open_clip.build_zero_shot_classifier(
        network, open_clip.get_tokenizer(f"local-dir:{tiny_clip}"), ["disc", "circle", "bar"], ["a {}", "{}!"]
    )
    with torch.inference_mode():
        pixels = torch.stack([preprocess(Image.open(photo.path).convert("RGB")) for photo in photos])
        cosines = network.eval().encode_image(pixels, normalize=True) @ weights
        wanted = (network.logit_scale.exp() * cosines).softmax(dim=-1).numpy()
    assert labels.scores == pytest.approx(wanted, abs=5e-3), "vectors are stored in 16 bits"
    assert labels.p_teacher == pytest.approx(wanted[:, :2].sum(axis=1), abs=5e-3)
    assert labels.p_teacher.dtype == np.float32
    assert (labels.sha256.tolist(), labels.path.tolist()) == (names, images["path"].to_pylist())
    assert (labels.group.tolist(), labels.group.dtype) == ([i // 2 for i in range(30)], np.int32)
    assert np.flatnonzero(labels.labeled).tolist() == [3, 4, 29]
    assert labels.gold[[3, 4, 29]].tolist() == [1, 0, 1]
    assert np.flatnonzero(labels.picked).tolist() == [4], "picked means that a person has answered"
    certain = np.maximum(0.05, np.abs(2 * labels.p_teacher - 1))
    certain[[3, 4, 29]] = 1
    assert labels.weight == pytest.approx(certain, abs=1e-5)
    answers = hard_labels(labels.p_teacher.astype(float), labels.gold).tolist()
    assert labels.split.tolist() == assign(names, [i // 2 for i in range(30)], answers, scenario.student.seed)
    assert labels.metadata["phrases"] == {"positive": ("disc", "circle"), "negative": ("bar",)}
    assert labels.metadata["probe"] == {
        "used": False,
        "says": "Zero-shot: a probe needs 20 labels from people, two of each answer; "
        f"there are {(labels.labeled & (labels.split != 'test')).sum()}.",
        "gold": (labels.labeled & (labels.split != "test")).sum(),
        **dict.fromkeys(("accuracy", "log_loss", "margin", "penalty")),
    }
    assert labels.teacher == {
        "name": scenario.teacher.name,
        "key": next((tmp_path / "vectors").iterdir()).name,
        "license": labels.teacher["license"],
        "dim": 16,
        "logit_scale": pytest.approx(network.logit_scale.exp().item()),
    }
    assert (done.embedded, done.seconds_to_load > 0) == (30, True)
    again = labeling.label(scenario, photos, images, store, gold)
    assert again.embedded == 0
    assert again.labels.p_teacher.tolist() == labels.p_teacher.tolist()
    assert not again.labels.picked.any()


def test_the_stage_hands_the_photos_own_vectors_on_and_says_how_long_loading_took(
    tiny_clip: Path, shapes: Path, tmp_path: Path, given: list[PseudoLabels]
) -> None:
    photos = sorted(Photo(sha256_file(path), path) for path in sorted((shapes / "photos").glob("*.png"))[:6])
    names = [photo.sha256 for photo in photos]
    images = pa.table({"sha256": names, "path": names, "group": pa.array(range(6))})
    scenario = Scenario(
        name="disc",
        positive=("disc",),
        negative=("bar",),
        teacher=Teacher(model=f"local-dir:{tiny_clip}"),
        labels=Labeling(refine="watching"),
    )
    start = time.perf_counter()
    done = labeling.label(scenario, photos, images, EmbeddingStore(tmp_path), {})

    assert 0 < done.seconds_to_load <= time.perf_counter() - start
    (key,) = (path.name for path in (tmp_path / "vectors").iterdir())
    assert given[0].vectors.tolist() == EmbeddingStore(tmp_path).get(key, names).tolist()


def test_labels_have_the_types_of_the_file(tmp_path: Path) -> None:
    labels = build(gold={"03": False})
    labels.write(tmp_path / "labels.parquet")
    read = Labels.read(tmp_path / "labels.parquet")

    for name, kind in (
        ("sha256", object),
        ("path", object),
        ("group", np.int32),
        ("p_teacher", np.float32),
        ("scores", np.float32),
        ("gold", np.float64),
        ("picked", bool),
        ("weight", np.float32),
    ):
        assert getattr(labels, name).dtype == getattr(read, name).dtype == kind, name
    assert labels.split.dtype.kind == read.split.dtype.kind == "U"
    assert labeling.certainty(np.array([0.1, 0.9])).dtype == np.float32


def test_what_is_said_of_the_teacher_is_the_sources_before_the_encoders_and_always_whose_vectors_they_are() -> None:
    source = {"name": "vqa", "license": "MIT", "key": "another", "dim": 1}
    space = {"key": "words", "dim": 3, "logit_scale": 10.0}

    assert labeling.teacher_about(Words()) == {"name": "words", "license": "none", **space}
    assert labeling.teacher_about(Words(), source) == {"name": "vqa", "license": "MIT", **space}


def test_an_unknown_source_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    scenario = CAT.model_copy(
        update={"labels": Labeling(source="oracle"), "teacher": Teacher(model="no-such", pretrained="x")}
    )
    with pytest.raises(ScenarioError, match=r"labels\.source: oracle: no such label source"):
        labeling.label(scenario, [], table(0), EmbeddingStore(tmp_path), {})


def test_a_refinement_is_given_what_is_known_before_it_and_its_answer_is_the_label(
    given: list[PseudoLabels],
) -> None:
    """Log-odds and probabilities of the source, people's labels, splits by both."""
    scenario = CAT.model_copy(update={"labels": Labeling(refine="watching")})
    labels = build(scenario, gold={"03": False, "07": True}, picked={"03"})
    (seen,) = given

    scores = zero_shot.zero_shot(Words(), vectors(12), CAT)
    assert seen.log_odds.tolist() == scores.log_odds.tolist()
    assert seen.p.tolist() == scores.p.tolist()
    assert seen.vectors.tolist() == vectors(12).tolist()
    assert np.array_equal(seen.gold, labels.gold, equal_nan=True)
    assert seen.groups.tolist() == list(range(12))
    assert seen.splits.tolist() == labels.split.tolist()
    assert np.flatnonzero(~seen.unbiased).tolist() == [3]
    assert seen.source == "zero-shot"
    assert labels.p_teacher == pytest.approx(1 - scores.p, abs=1e-6)
    assert labels.weight[[3, 7]].tolist() == [1, 1] and labels.weight[0] == pytest.approx(abs(1 - 2 * scores.p[0]))
    assert labels.refinement == {"used": True, "says": "Turned round.", "gain": 0.5}


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
