"""Phrases and vectors become labels; prompts; gold labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from factory import gold, labelling, prompts
from factory.errors import GoldError, LabelsError
from factory.scenario import Scenario


class Words:
    """A teacher whose space has one axis a phrase: exact answers can be worked out by hand."""

    key, logit_scale = "words", 10.0

    @property
    def about(self) -> dict[str, object]:
        return {"name": "words", "key": "words", "licence": "none", "dim": 3}

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


def build(scenario: Scenario = CAT, n: int = 12, golden: dict[str, bool] | None = None) -> pa.Table:
    return labelling.build(scenario, Words(), table(n), vectors(n), golden or {})


def test_probability_is_the_softmax_at_the_logit_scale_summed_over_positives() -> None:
    both = Scenario(name="pet", positive=("cat", "dog"), negative=("tree",))
    found = labelling.zero_shot(vectors(2), labelling.text_vectors(Words(), (*both.positive, "tree"), "photo"), 10.0)

    e = np.exp([10.0, 0.0, 0.0])
    assert found[0] == pytest.approx(e / e.sum(), abs=1e-6)
    assert found.sum(axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_text_vectors_are_normalised_means() -> None:
    found = labelling.text_vectors(Words(), ["cat"], ("a {}", "a {} and a dog?"))

    assert np.linalg.norm(found, axis=1) == pytest.approx([1.0])


def test_labels_are_soft_and_carry_what_made_them() -> None:
    labels = build()
    p = labels["p_teacher"].to_numpy()

    assert (p[:6] > 0.99).all() and (p[6:] < 0.01).all()
    assert labels["sha256"].to_pylist() == sorted(labels["sha256"].to_pylist())
    assert b'"positive": ["cat"]' in labels.schema.metadata[b"phrases"]
    assert len(labels["scores"][0]) == 3


def test_doubt_costs_weight_and_gold_restores_it() -> None:
    assert labelling.certainty(np.array([0.0, 0.5, 0.75, 1.0])) == pytest.approx([1, labelling.LEAST_WEIGHT, 0.5, 1])
    labels = build(golden={"03": False})

    assert labels["gold"][3].as_py() is False
    assert labels["weight"][3].as_py() == 1.0
    assert labels["p_teacher"][3].as_py() > 0.99, "gold never overwrites what the teacher said"


def test_labels_on_one_side_stop_the_run_with_a_histogram() -> None:
    birds = Scenario(name="tree", positive=("tree",), negative=("cat", "dog"))

    with pytest.raises(LabelsError, match="0 of 12 images are labelled yes") as caught:
        build(birds)

    assert "0.0-0.1 ########################################" in str(caught.value)
    assert "name look-alikes" in str(caught.value)


def test_background_stands_in_for_missing_negatives() -> None:
    phrases = labelling.Phrases.of(Scenario(name="x", positive=("person on a street",)))

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
        ("path,label\na.jpg,yes\ncopy.jpg,no\n", "g.csv:3: copy.jpg is labelled no, but line 2 says the opposite"),
        ("file,answer\n", "needs the columns path,label"),
        ("", "needs the columns path,label"),
    ],
)
def test_bad_gold_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GoldError, match=message):
        read(tmp_path, text)
