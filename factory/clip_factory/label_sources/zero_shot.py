"""Vectors and phrases become pseudo-labels: zero-shot classification, kept soft; people's labels may better it."""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from clip_factory.label_sources import probe
from clip_factory.scenario import Scenario
from clip_factory.scenario.prompts import BACKGROUND, TemplateSet, fill, template_set
from clip_factory.splits import assign
from clip_factory.statistics import break_even

if TYPE_CHECKING:  # the teacher pulls torch, which nothing here needs
    from clip_factory.encoders import Teacher

LEAST_WEIGHT = 0.05
"""The training weight of an image on which the teacher is wholly undecided."""

SCHEMA = pa.schema(
    [
        ("sha256", pa.string()),
        ("path", pa.string()),
        ("group", pa.int32()),
        ("p_teacher", pa.float32()),
        ("scores", pa.list_(pa.float32())),
        ("gold", pa.bool_()),
        ("picked", pa.bool_()),
        ("split", pa.string()),
        ("weight", pa.float32()),
    ]
)


@dataclass(frozen=True)
class Phrases:
    """The phrases of a scenario, positives first, as they stand in the columns of the scores."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]

    @classmethod
    def of(cls, scenario: Scenario) -> Phrases:
        """The scenario's phrases; the background set stands in for negatives that are not given."""
        if scenario.negative:
            return cls(scenario.positive, scenario.negative)
        said = " ".join(scenario.positive).casefold()
        return cls(scenario.positive, tuple(phrase for phrase in BACKGROUND if phrase not in said))

    @property
    def all(self) -> tuple[str, ...]:
        """Positives, then negatives."""
        return self.positive + self.negative


def text_vectors(teacher: Teacher, phrases: Sequence[str], templates: TemplateSet | tuple[str, ...]) -> np.ndarray:
    """One vector a phrase: the normalized mean of its prompts' normalized vectors.

    Prompt ensembling in the embedding space (Radford et al. 2021, arXiv:2103.00020, section 3.1.4).

    Returns:
        float32 `(P, D)`, L2-normalized.
    """
    chosen = template_set(templates) if isinstance(templates, str) else templates
    prompts = [prompt for phrase in phrases for prompt in fill(chosen, phrase)]
    means: np.ndarray = teacher.embed_texts(prompts).reshape(len(phrases), len(chosen), -1).mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return means


def zero_shot(images: np.ndarray, texts: np.ndarray, logit_scale: float) -> np.ndarray:
    """Softmax over phrases of the scaled cosine similarities.

    Args:
        images: float32 `(N, D)`, L2-normalized.
        texts: float32 `(P, D)`, L2-normalized.
        logit_scale: The teacher's.

    Returns:
        float32 `(N, P)`; each row sums to 1.
    """
    logits = logit_scale * images @ texts.T
    scores: np.ndarray = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float32)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def certainty(p_yes: np.ndarray) -> np.ndarray:
    """Training weights in [LEAST_WEIGHT, 1]: 1 where the teacher is sure, near 0 where it is not."""
    return np.asarray(np.maximum(LEAST_WEIGHT, np.abs(2 * p_yes - 1)), np.float32)


def build(
    scenario: Scenario,
    teacher: Teacher,
    images: pa.Table,
    vectors: np.ndarray,
    gold: dict[str, bool],
    picked: Set[str] = frozenset(),
) -> pa.Table:
    """The table of labels.parquet.

    Splits are dealt by the zero-shot answers and gold, before a probe has learned from anyone: it never learns from the
    test split, so that the gate measures what no label of a test photo has shaped.

    Args:
        scenario: The question.
        teacher: What embeds the phrases.
        images: Usable images, one row a content, sorted by sha256: columns sha256, path, group.
        vectors: float32 `(N, D)`, in the order of `images`.
        gold: Gold labels by sha256; they outrank the teacher.
        picked: Of these, the sha256 of those that were asked for because they looked doubtful, and not at random.
    """
    phrases = Phrases.of(scenario)
    scores = zero_shot(vectors, text_vectors(teacher, phrases.all, scenario.templates), teacher.logit_scale)
    logits = probe.log_odds(scores, len(phrases.positive))
    sha256s, groups = images["sha256"].to_pylist(), images["group"].to_pylist()
    golden = np.array([gold.get(sha, np.nan) for sha in sha256s], np.float64)
    splits = assign(sha256s, groups, _answers(probe.sigmoid(logits), golden), scenario.student.seed)
    chosen = np.array([sha in gold and sha in picked for sha in sha256s], bool)
    p_teacher, compared = probe.improve(vectors, logits, golden, np.array(groups), np.array(splits), ~chosen)
    columns = {
        "sha256": sha256s,
        "path": images["path"],
        "group": images["group"],
        "p_teacher": p_teacher.astype(np.float32),
        "scores": list(scores),
        "gold": [None if np.isnan(g) else bool(g) for g in golden],
        "picked": chosen,
        "split": splits,
        "weight": np.where(np.isnan(golden), certainty(p_teacher), np.float32(1)),
    }
    about = {
        "phrases": {"positive": phrases.positive, "negative": phrases.negative},
        "teacher": {**teacher.about, "logit_scale": teacher.logit_scale},
        "probe": compared.described(),
    }
    metadata = {key: json.dumps(value) for key, value in about.items()}
    return pa.table(columns, schema=SCHEMA).replace_schema_metadata(metadata)


def _answers(p: np.ndarray, gold: np.ndarray) -> list[bool]:
    """Gold where there is any, else yes for as many of the likeliest photos as the probabilities promise."""
    return [bool(answer) for answer in np.where(np.isnan(gold), p >= break_even(p), gold == 1)]
