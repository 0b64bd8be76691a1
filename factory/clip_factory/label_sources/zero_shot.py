"""The default label source: zero-shot classification with a dual encoder, kept soft."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from clip_factory.encoders import EmbeddingStore, Encoder, embed
from clip_factory.errors import ScenarioError
from clip_factory.images.photo import Photo
from clip_factory.label_sources.source import Phrases, Scores
from clip_factory.progress import warn
from clip_factory.scenario import Scenario
from clip_factory.scenario.prompts import TemplateSet, fill, template_set

SAME_COSINE = 0.99999
"""Of the vectors of two phrases between which an encoder makes no difference."""


class ZeroShot:
    """A `LabelSource`: the softmax over phrases of how close each lies to the photo."""

    batch_size = 100_000

    def __init__(self, encoder: Encoder, store: EmbeddingStore) -> None:
        """`store`: where the photos' vectors are, and those of new photos go."""
        self.encoder, self.store = encoder, store

    @property
    def key(self) -> str:
        """The encoder's."""
        return f"zero-shot-{self.encoder.key}"

    @property
    def about(self) -> Mapping[str, object]:
        """The encoder's."""
        return self.encoder.about

    def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
        """Scores of N photos by phrase; photos without vectors are embedded.

        Raises:
            ImagesError: A file has changed or vanished since it was scanned.
        """
        embed(self.encoder, photos, self.store, scenario.teacher.batch_size, lambda done, total: None)
        return zero_shot(self.encoder, self.store.get(self.encoder.key, [photo.sha256 for photo in photos]), scenario)


def zero_shot(encoder: Encoder, vectors: np.ndarray, scenario: Scenario) -> Scores:
    """Scores of N photos by phrase, from their vectors: float32 `(N, D)`, L2-normalized."""
    phrases = Phrases.of(scenario)
    _check_words(encoder, phrases)
    texts = text_vectors(encoder, phrases.all, scenario.templates)
    _check_differences(encoder, phrases, texts)
    return Scores(phrases, phrase_probabilities(vectors, texts, encoder.logit_scale))


def _check_words(encoder: Encoder, phrases: Phrases) -> None:
    """Warn of words that the encoder's tokenizer does not know.

    Raises:
        ScenarioError: A phrase has no other words.
    """
    unknown_words: Callable[[str], list[str]] = getattr(encoder, "unknown_words", lambda text: [])
    for phrase in phrases.all:
        unknown = unknown_words(phrase)
        if unknown and len(unknown) == len(phrase.split()):
            raise ScenarioError(
                f"phrase {phrase!r}: the teacher {encoder.name} knows none of its words",
                hint="say it in words that this teacher knows, such as English ones, or name another teacher",
            )
        if unknown:
            warn(f"phrase {phrase!r}: the teacher {encoder.name} does not know {', '.join(unknown)}")


def _check_differences(encoder: Encoder, phrases: Phrases, texts: np.ndarray) -> None:
    """Refuse phrases of opposite sides that are one and the same to the encoder.

    Raises:
        ScenarioError: There is such a pair.
    """
    yes = len(phrases.positive)
    row, column = np.unravel_index(np.argmax(cosines := texts[:yes] @ texts[yes:].T), cosines.shape)
    if cosines[row, column] > SAME_COSINE:
        pair = f"phrases {phrases.positive[row]!r} and {phrases.negative[column]!r}"
        raise ScenarioError(f"{pair} are the same to the teacher {encoder.name}", hint="say one of them otherwise")


def text_vectors(encoder: Encoder, phrases: Sequence[str], templates: TemplateSet | tuple[str, ...]) -> np.ndarray:
    """One vector a phrase: the normalized mean of its prompts' normalized vectors.

    Prompt ensembling in the embedding space (Radford et al. 2021, arXiv:2103.00020, section 3.1.4).

    Returns:
        float32 `(P, D)`, L2-normalized.
    """
    chosen = template_set(templates) if isinstance(templates, str) else templates
    prompts = [prompt for phrase in phrases for prompt in fill(chosen, phrase)]
    means: np.ndarray = encoder.embed_texts(prompts).reshape(len(phrases), len(chosen), -1).mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return means


def phrase_probabilities(images: np.ndarray, texts: np.ndarray, logit_scale: float) -> np.ndarray:
    """Softmax over phrases of the scaled cosine similarities.

    Args:
        images: float32 `(N, D)`, L2-normalized.
        texts: float32 `(P, D)`, L2-normalized.
        logit_scale: The encoder's; its bias is the same for all phrases, and makes no difference here.

    Returns:
        float32 `(N, P)`; each row sums to 1.
    """
    logits = logit_scale * images @ texts.T
    scores: np.ndarray = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float32)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores
