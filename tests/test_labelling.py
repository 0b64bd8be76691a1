"""Phrases and vectors become labels; prompts; gold labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clip_factory.errors import GoldError
from clip_factory.gold import gold_csv as gold
from clip_factory.label_sources import probe
from clip_factory.label_sources import zero_shot as labeling
from clip_factory.scenario import Scenario, prompts


class Words:
    """A teacher whose space has one axis a phrase: exact answers can be worked out by hand."""

    key, logit_scale = "words", 10.0

    @property
    def about(self) -> dict[str, object]:
        return {"name": "words", "key": "words", "license": "none", "dim": 3}

    def embed_texts(self, texts: list[str]) -> np.ndarray:
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
    scenario: Scenario = CAT, n: int = 12, golden: dict[str, bool] | None = None, picked: set[str] | None = None
) -> pa.Table:
    return labeling.build(scenario, Words(), table(n), vectors(n), golden or {}, picked or set())


def test_probability_is_the_softmax_at_the_logit_scale_summed_over_positives() -> None:
    both = Scenario(name="pet", positive=("cat", "dog"), negative=("tree",))
    found = labeling.zero_shot(vectors(2), labeling.text_vectors(Words(), (*both.positive, "tree"), "photo"), 10.0)

    e = np.exp([10.0, 0.0, 0.0])
    assert found[0] == pytest.approx(e / e.sum(), abs=1e-6)
    assert found.sum(axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_text_vectors_are_normalized_means() -> None:
    found = labeling.text_vectors(Words(), ["cat"], ("a {}", "a {} and a dog?"))

    assert np.linalg.norm(found, axis=1) == pytest.approx([1.0])


def test_labels_are_soft_and_carry_what_made_them() -> None:
    labels = build()
    p = labels["p_teacher"].to_numpy()

    assert (p[:6] > 0.99).all() and (p[6:] < 0.01).all()
    assert labels["sha256"].to_pylist() == sorted(labels["sha256"].to_pylist())
    assert b'"positive": ["cat"]' in labels.schema.metadata[b"phrases"]
    assert len(labels["scores"][0]) == 3


def test_doubt_costs_weight_and_gold_restores_it() -> None:
    assert labeling.certainty(np.array([0.0, 0.5, 0.75, 1.0])) == pytest.approx([1, labeling.LEAST_WEIGHT, 0.5, 1])
    labels = build(golden={"03": False})

    assert labels["gold"][3].as_py() is False
    assert labels["weight"][3].as_py() == 1.0
    assert labels["p_teacher"][3].as_py() > 0.99, "gold never overwrites what the teacher said"


def test_background_stands_in_for_missing_negatives() -> None:
    phrases = labeling.Phrases.of(Scenario(name="x", positive=("person on a street",)))

    assert "person" not in phrases.negative and "street" not in phrases.negative
    assert "animal" in phrases.negative


@pytest.mark.parametrize("name", prompts.TEMPLATE_SETS)
def test_every_template_set_has_one_slot_a_line(name: prompts.TemplateSet) -> None:
    templates = prompts.template_set(name)

    assert all(template.count("{}") == 1 for template in templates)
    assert len(set(templates)) == len(templates)


def test_the_clip_set_has_eighty() -> None:
    assert len(prompts.template_set("clip-80")) == 80


@pytest.mark.parametrize(
    ("phrase", "word"),
    [
        ("no helmet", "no"),
        ("a head without a helmet", "without"),
        ("not a cat", "not"),
        ("knot", None),
        ("nothing", None),
    ],
)
def test_negations_are_found(phrase: str, word: str | None) -> None:
    assert prompts.negation_in(phrase) == word


def flowers(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[bool]]:
    """Unit vectors of two kinds that the words cannot tell apart, the zero-shot log-odds, and the truth."""
    random = np.random.default_rng(seed)
    truth = random.random(n) < 0.5
    vectors = random.normal(0, 0.4, (n, 12)).astype(np.float32)
    vectors[:, 0] += np.where(truth, 1, -1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, random.normal(0, 2, n), truth.tolist()


def improved(
    count: int, *, test_gold: bool = False, lie: bool = False
) -> tuple[np.ndarray, probe.Comparison, list[bool]]:
    """A probe from `count` labels in train, and maybe (right or wrong) labels of all test images."""
    vectors, logits, truth = flowers(300)
    splits = np.array(["train"] * 200 + ["val"] * 50 + ["test"] * 50)
    gold = np.full(300, np.nan)
    gold[:count] = truth[:count]
    if test_gold:
        gold[250:] = np.array(truth[250:]) ^ lie
    p, found = probe.improve(vectors, logits, gold, np.arange(300), splits, np.ones(300, bool))
    return p, found, truth


def test_a_probe_replaces_zero_shot_where_labels_show_it_better() -> None:
    p, found, truth = improved(60)

    assert found.used and found.accuracy is not None
    assert found.accuracy[1] > found.accuracy[0] + 0.2
    assert "on 60 labels from people that it was not fitted to" in found.says
    assert np.mean((p >= 0.5) == truth) > 0.9


def test_too_few_labels_leave_zero_shot() -> None:
    p, found, _ = improved(19)

    assert not found.used
    assert "needs 20 labels from people" in found.says
    assert p == pytest.approx(probe.sigmoid(flowers(300)[1]))


def test_a_probe_that_is_no_better_by_more_than_chance_is_not_taken() -> None:
    vectors, _, truth = flowers(300)
    sure = np.where(truth, 6.0, -6.0)
    splits = np.array(["train"] * 300)
    gold = np.where(np.arange(300) < 80, truth, np.nan)
    p, found = probe.improve(vectors, sure, gold, np.arange(300), splits, np.ones(300, bool))

    assert not found.used and "not better by more than chance" in found.says
    assert p == pytest.approx(probe.sigmoid(sure))


def test_labels_of_test_photos_teach_the_probe_nothing() -> None:
    plain, told, lied = improved(60), improved(60, test_gold=True), improved(60, test_gold=True, lie=True)

    assert told[0] == pytest.approx(plain[0])
    assert lied[0] == pytest.approx(plain[0])
    assert plain[1] == told[1] == lied[1]


def test_a_labeled_photo_is_graded_by_a_probe_that_never_saw_its_label() -> None:
    vectors, logits, _ = flowers(120)
    splits, groups = np.array(["train"] * 120), np.arange(120) // 2
    vectors[1::2], logits[1::2] = vectors[::2], logits[::2]  # pairs of near-duplicates
    coin = np.random.default_rng(5).random(60) < 0.5
    _, found = probe.improve(vectors, logits, np.repeat(coin, 2).astype(float), groups, splits, np.ones(120, bool))

    assert found.accuracy is not None
    assert found.accuracy[1] < 0.7, "labels of coins cannot be learned, unless a copy gives them away"


def test_a_probe_must_hold_on_photos_that_were_not_picked() -> None:
    vectors, _, truth = flowers(400)
    right = np.where(truth, 2.0, -2.0)
    hard = np.arange(400) < 60  # zero-shot is wrong on these alone, and the doubtful are picked
    logits = np.where(hard, -right, right)
    vectors[~hard, 0] *= -1  # what is learned from them misleads elsewhere
    gold = np.where(np.arange(400) < 80, truth, np.nan)
    splits = np.array(["train"] * 400)
    _, all_fair = probe.improve(vectors, logits, gold, np.arange(400), splits, np.ones(400, bool))
    p, found = probe.improve(vectors, logits, gold, np.arange(400), splits, ~hard)

    assert all_fair.used
    assert not found.used and "worse where photos were not picked" in found.says
    assert p == pytest.approx(probe.sigmoid(logits))


def test_the_table_says_what_the_probe_did_and_which_labels_were_picked() -> None:
    labels = build(golden={"03": False, "04": True}, picked={"03", "09"})

    assert json.loads(labels.schema.metadata[b"probe"])["used"] is False
    assert [sha for sha, p in zip(labels["sha256"].to_pylist(), labels["picked"].to_pylist(), strict=True) if p] == [
        "03"
    ]


def test_the_gold_table_of_a_review_is_gold(tmp_path: Path) -> None:
    reviewed = pa.table({"sha256": ["1", "2", "9", "3"], "label": ["no", "unsure", "yes", None]})
    pq.write_table(reviewed, tmp_path / "ball.gold.parquet")

    assert gold.read_gold(tmp_path / "ball.gold.parquet", IMAGES) == {"1": False}
    pq.write_table(reviewed.slice(2), tmp_path / "other.gold.parquet")
    with pytest.raises(GoldError, match="none of its 1 labels"):
        gold.read_gold(tmp_path / "other.gold.parquet", IMAGES)
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(GoldError, match=r"no gold\.parquet of a review"):
        gold.read_gold(tmp_path / "bad.parquet", IMAGES)


IMAGES = pa.table({"path": ["a.jpg", "b/c.jpg", "copy.jpg"], "sha256": ["1", "2", "1"]})


def read(tmp_path: Path, text: str) -> dict[str, bool]:
    (tmp_path / "g.csv").write_text(text, encoding="utf-8")
    return gold.read_gold(tmp_path / "g.csv", IMAGES)


def test_gold_is_matched_by_path_and_kept_by_content(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffpath,label\na.jpg,Yes\nb\\c.jpg,0\ncopy.jpg,true\n") == {"1": True, "2": False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.jpg,maybe\n", "g.csv:2: label 'maybe' is neither yes nor no"),
        ("path,label\nz.jpg,yes\n", "1 gold labels name no image: .*g.csv:2: z.jpg"),
        ("path,label\na.jpg,yes\ncopy.jpg,no\n", "g.csv:3: copy.jpg is labeled no, but line 2 says the opposite"),
        ("file,answer\n", "needs the columns path,label"),
        ("", "needs the columns path,label"),
    ],
)
def test_bad_gold_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GoldError, match=message):
        read(tmp_path, text)
