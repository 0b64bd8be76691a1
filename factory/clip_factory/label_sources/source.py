"""The seam between the factory and what labels photos: photos and a question to probabilities of yes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from clip_factory.encoders import EmbeddingStore, Encoder
from clip_factory.errors import PluginError, ScenarioError
from clip_factory.images.photo import Photo
from clip_factory.label_sources.probabilities import log_odds, sigmoid
from clip_factory.label_sources.visual_evidence import VisualEvidence
from clip_factory.labels import ANSWER_COLUMNS
from clip_factory.loader_table import LoaderTable
from clip_factory.scenario import Labeling, Scenario
from clip_factory.scenario.prompts import BACKGROUND
from clip_factory.scenario.schema import MIXED, Part

GROUP = "clip_factory.label_sources"
"""Entry points of this group add label sources by name; each is called with (scenario, encoder, store)."""


@dataclass(frozen=True)
class Phrases:
    """What the columns of scores mean: first what speaks for yes, then what speaks for no."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]

    @classmethod
    def of(cls, scenario: Scenario) -> Phrases:
        """The scenario's phrases; the background set stands in for negatives that are not given."""
        if scenario.negative:
            return cls(scenario.positive, scenario.negative)
        named = " ".join(scenario.positive).casefold()
        return cls(scenario.positive, tuple(phrase for phrase in BACKGROUND if phrase not in named))

    @property
    def all(self) -> tuple[str, ...]:
        """Positives, then negatives."""
        return self.positive + self.negative

    def to_json(self) -> dict[str, object]:
        """As files keep them."""
        return asdict(self)


YES_NO = Phrases(*ANSWER_COLUMNS)
"""The columns of a source that gives probabilities and nothing else."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What a label source answers about N photos."""

    phrases: Phrases
    by_phrase: np.ndarray
    """float32 `(N, P)` in [0, 1]: how likely each phrase is, in the order of `phrases.all`."""
    evidence: tuple[VisualEvidence, ...] | None = None
    """What the source shows for each of the N answers; None where it shows nothing of the kind."""

    @classmethod
    def of_probabilities(cls, p: np.ndarray) -> Scores:
        """Of a source that gives probabilities of yes `(N,)` in [0, 1] and nothing else."""
        return cls(YES_NO, np.stack([p, 1 - np.asarray(p, np.float64)], axis=1).astype(np.float32))

    @property
    def log_odds(self) -> np.ndarray:
        """Of yes, float64 `(N,)`: finite, and exact where the probability is rounded to 0 or 1."""
        return log_odds(self.by_phrase, len(self.phrases.positive))

    @property
    def p(self) -> np.ndarray:
        """Probability of yes, float64 `(N,)` in [0, 1]: the share of the positive phrases."""
        return sigmoid(self.log_odds)

    def checked(self, count: int, source: str) -> Scores:
        """The same as float32, if they are scores of `count` photos.

        Raises:
            PluginError: They have another shape, or are not all in [0, 1].
        """
        values = np.asarray(self.by_phrase, np.float32)
        if not (self.phrases.positive and self.phrases.negative):
            raise PluginError(f"label source {source}: names no column for one of the two answers")
        if values.shape != (count, len(self.phrases.all)):
            expected = (count, len(self.phrases.all))
            raise PluginError(f"label source {source}: scores {values.shape}, expected {expected}")
        if not ((values >= 0) & (values <= 1)).all():
            raise PluginError(f"label source {source}: scores outside [0, 1]")
        if self.evidence is not None and len(self.evidence) != count:
            raise PluginError(f"label source {source}: evidence about {len(self.evidence)} photos, expected {count}")
        return Scores(self.phrases, values, self.evidence)


class LabelSource(Protocol):
    """Gives each photo a probability of yes, by itself: no photo's score depends on the others."""

    @property
    def key(self) -> str:
        """Names its scores in the store; changes with whatever changes them, the question aside."""

    @property
    def about(self) -> Mapping[str, object]:
        """What reports, cards and files say of it: `name` and `license` at least; JSON values."""

    @property
    def batch_size(self) -> int:
        """How many photos are asked for at once; their scores are on disk before the next batch begins."""

    def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
        """Scores of N photos.

        Raises:
            FactoryError: A photo cannot be read any more, or the source cannot answer.
        """


LabelSourceLoader = Callable[[Scenario, Encoder, EmbeddingStore], LabelSource]


def _zero_shot(scenario: Scenario, encoder: Encoder, store: EmbeddingStore) -> LabelSource:
    from clip_factory.label_sources.zero_shot import ZeroShot

    return ZeroShot(encoder, store)


def _detection(scenario: Scenario, encoder: Encoder, store: EmbeddingStore) -> LabelSource:
    from clip_factory.label_sources.detection import load_detection

    return load_detection(scenario)


def _segmentation(scenario: Scenario, encoder: Encoder, store: EmbeddingStore) -> LabelSource:
    from clip_factory.label_sources.segmentation import load_segmentation

    return load_segmentation(scenario)


def _vqa(scenario: Scenario, encoder: Encoder, store: EmbeddingStore) -> LabelSource:
    from clip_factory.label_sources.vqa import load_vqa

    return load_vqa(scenario)


def _mixed(scenario: Scenario, encoder: Encoder, store: EmbeddingStore) -> LabelSource:
    from clip_factory.label_sources.mixed import load_mixed

    return load_mixed(scenario, encoder, store)


def _x_clip(scenario: Scenario, encoder: Encoder, store: EmbeddingStore) -> LabelSource:
    from clip_factory.label_sources.x_clip import load_x_clip

    return load_x_clip(scenario)


LOADERS: LoaderTable[LabelSourceLoader] = LoaderTable(
    GROUP,
    {
        "zero-shot": _zero_shot,
        "detection": _detection,
        "segmentation": _segmentation,
        "vqa": _vqa,
        "x-clip": _x_clip,
        MIXED: _mixed,
    },
)


def find_label_source(scenario: Scenario) -> LabelSourceLoader:
    """The loader of the label source that a scenario names; of several, each is known, too.

    Raises:
        ScenarioError: There is no such source.
        PluginError: Its package cannot be imported.
    """
    for number, part in enumerate(scenario.labels.sources or ()):
        _find(part.source, f"labels.sources.{number}")
    return _find(scenario.labels.source, "labels.source")


def of_part(scenario: Scenario, part: Part) -> Scenario:
    """The same question, asked of one of a scenario's several label sources alone."""
    tree = part.model_dump(exclude={"weight"}) | {"refine": scenario.labels.refine}
    return scenario.model_copy(update={"labels": Labeling.model_validate(tree)})


def _find(name: str, key: str) -> LabelSourceLoader:
    loader = LOADERS.find(name)
    if loader is None:
        known = ", ".join(one for one in LOADERS.names if one != MIXED)
        raise ScenarioError(f"{key}: {name}: no such label source", hint=f"known: {known}")
    return loader
