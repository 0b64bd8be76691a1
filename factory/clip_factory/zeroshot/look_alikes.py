"""Look-alikes that deserve a name: what a folder holds beside the positives, and what a phrase for it would change."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.cluster import KMeans

from clip_factory.encoders import Encoder
from clip_factory.label_sources.gaussian_classes import principal_components
from clip_factory.label_sources.probabilities import sigmoid
from clip_factory.label_sources.source import Phrases
from clip_factory.store import EmbeddingStore
from clip_factory.zeroshot.vocabulary import common_nouns
from clip_factory.zeroshot.wordings import PhraseScorer, Wording

CLUSTERS = 12
PHOTOS_A_CLUSTER = 20
"""Photos that a cluster has on average at the least."""
SAME = 0.8
"""Cosine of text vectors from which a noun says the same as a positive phrase."""
MAX_POSITIVE = 0.5
"""Share of a cluster's photos answered yes from which the cluster is what is looked for."""
MIN_NEAREST, MIN_SHARE = 3, 0.02
"""Photos answered yes, and the share of these, that a noun must lie nearest to: a few lie near any noun by chance."""
TEXTS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Suggestion:
    """A negative phrase, and what it would do."""

    phrase: str
    others: tuple[str, ...]
    """Other names that lie near."""
    kind: Literal["group", "in the yes photos"]
    """A group of the folder's photos that it names; or what the photos now answered yes look like beside it."""
    photos: np.ndarray
    """int: the photos of the group, nearest to its middle first; or those that the phrase lies nearest to."""
    turned: np.ndarray
    """int: the photos whose answer it turns from yes to no, the most changed first."""


def suggest(
    scorer: PhraseScorer, wording: Wording, store: EmbeddingStore, most: int = 12, nouns: Sequence[str] | None = None
) -> list[Suggestion]:
    """Negative phrases for a wording, those that would change most photos first.

    Args:
        scorer: Of N photos.
        wording: The words as they are.
        store: Where the nouns' vectors are kept for the next time.
        most: How many.
        nouns: What groups are named by; by default `vocabulary.common_nouns()`.
    """
    named = np.array(_unsaid(nouns or common_nouns(), wording.phrases), object)
    texts = noun_vectors(scorer.encoder, named.tolist(), store)
    positive = scorer.texts(wording.phrases.positive, wording.chosen_templates)
    kept = (texts @ positive.T).max(axis=1) < SAME
    named, texts = named[kept], texts[kept]
    logits = scorer.log_odds(wording.phrases, wording.chosen_templates)
    ideas = [*_groups(scorer, named, texts, logits), *_in_the_yes(scorer, named, texts, logits)]
    made: dict[str, Suggestion] = {}
    for phrase, others, kind, photos in ideas:
        if phrase not in made:
            made[phrase] = Suggestion(phrase, others, kind, photos, _taken(scorer, wording, phrase, logits))
    return _without_repeats(list(made.values()))[:most]


def noun_vectors(encoder: Encoder, nouns: Sequence[str], store: EmbeddingStore) -> np.ndarray:
    """Vectors of "a photo of a NOUN.", kept in the store by the hash of the text: float32 `(V, D)`."""
    texts = [f"a photo of a {noun}." for noun in nouns]
    names = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    key = f"words-{encoder.key}"
    known = store.known(key)
    missing = [i for i, name in enumerate(names) if name not in known]
    if missing:
        with store.writer(key, {**encoder.about, "texts": "a photo of a NOUN."}) as writer:
            for start in range(0, len(missing), TEXTS_AT_ONCE):
                rows = missing[start : start + TEXTS_AT_ONCE]
                writer.add([names[i] for i in rows], encoder.embed_texts([texts[i] for i in rows]))
    return store.get(key, names)


Idea = tuple[str, tuple[str, ...], Literal["group", "in the yes photos"], np.ndarray]


def _unsaid(nouns: Sequence[str], phrases: Phrases) -> list[str]:
    stated = {phrase.casefold() for phrase in phrases.all}
    return [noun for noun in dict.fromkeys(nouns) if noun.casefold() not in stated]


def _groups(scorer: PhraseScorer, nouns: np.ndarray, texts: np.ndarray, logits: np.ndarray) -> list[Idea]:
    """The folder's groups that are not what is looked for, each named by what sets it apart from the whole folder."""
    vectors, count = scorer.vectors, max(2, min(CLUSTERS, len(logits) // PHOTOS_A_CLUSTER))
    if len(logits) < 2 * PHOTOS_A_CLUSTER:
        return []
    points = principal_components(vectors)
    model = KMeans(count, n_init=4, random_state=0).fit(points)
    common, center = texts.mean(axis=0), vectors.mean(axis=0)
    ideas: list[Idea] = []
    for number in range(count):
        rows = np.flatnonzero(model.labels_ == number)
        if not len(rows) or (logits[rows] >= 0).mean() > MAX_POSITIVE:
            continue
        apart = vectors[rows].mean(axis=0) - center
        best = np.argsort(-((texts - common) @ apart))[:4]
        near = np.argsort(((points[rows] - model.cluster_centers_[number]) ** 2).sum(axis=1))
        ideas.append((nouns[best[0]], tuple(nouns[best[1:]]), "group", rows[near]))
    return ideas


def _in_the_yes(scorer: PhraseScorer, nouns: np.ndarray, texts: np.ndarray, logits: np.ndarray) -> list[Idea]:
    """Nouns that are nearest to most of the photos now answered yes."""
    rows = np.flatnonzero(logits >= 0)
    if not len(rows):
        return []
    nearest = (scorer.vectors[rows] @ texts.T).argmax(axis=1)
    numbers, counts = np.unique(nearest, return_counts=True)
    enough = counts >= max(MIN_NEAREST, MIN_SHARE * len(rows))
    best = numbers[enough][np.argsort(-counts[enough], kind="stable")][:CLUSTERS]
    return [(nouns[i], (), "in the yes photos", rows[nearest == i]) for i in best]


def _without_repeats(ideas: list[Suggestion]) -> list[Suggestion]:
    """One after the other the phrase that turns most photos that none before it turns; then those that turn none."""
    rest, ordered, turned = list(ideas), [], np.array([], int)
    while rest:
        best = max(rest, key=lambda one: (len(np.setdiff1d(one.turned, turned)), len(one.photos)))
        if not len(np.setdiff1d(best.turned, turned)):
            break
        ordered.append(best)
        rest.remove(best)
        turned = np.union1d(turned, best.turned)
    idle = [one for one in rest if not len(one.turned)]
    return ordered + sorted(idle, key=lambda one: -len(one.photos))


def _taken(scorer: PhraseScorer, wording: Wording, phrase: str, logits: np.ndarray) -> np.ndarray:
    """The photos that turn from yes to no with one more negative phrase, the most changed first."""
    more = Phrases(wording.phrases.positive, (*wording.phrases.negative, phrase))
    after = scorer.log_odds(more, wording.chosen_templates)
    rows = np.flatnonzero((logits >= 0) & (after < 0))
    return np.asarray(rows[np.argsort(sigmoid(after[rows]) - sigmoid(logits[rows]), kind="stable")])
