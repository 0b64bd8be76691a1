"""The seam between pseudo-labels and what improves them: the folder's own structure, people's labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from clip_factory.errors import PluginError, ScenarioError
from clip_factory.loader_table import LoaderTable
from clip_factory.scenario import Scenario

ZERO_SHOT = "zero-shot"
GROUP = "clip_factory.refinements"
"""Entry points of this group add refinements by name; each is called without arguments."""


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """What is known of N photos before refinement."""

    log_odds: np.ndarray
    """float64 `(N,)`, of yes, by the label source."""
    p: np.ndarray
    """float64 `(N,)` in [0, 1], the same as probabilities."""
    vectors: np.ndarray
    """float32 `(N, D)`, L2-normalized, the encoder's."""
    gold: np.ndarray
    """float64 `(N,)`: 1 yes, 0 no, NaN where no person has labeled the photo."""
    groups: np.ndarray
    """int `(N,)`: near-duplicates share a number."""
    splits: np.ndarray
    """str `(N,)`: train, val or test."""
    unbiased: np.ndarray
    """bool `(N,)`: false where a person was asked because the photo looked doubtful."""
    source: str = ZERO_SHOT
    """Name of the label source."""

    @property
    def noun(self) -> str:
        """What sentences call what the label source goes by: words, or answers."""
        return "words" if self.source == ZERO_SHOT else "answers"


@dataclass(frozen=True, eq=False)
class Refined:
    """What a refinement makes of pseudo-labels."""

    p: np.ndarray
    """float64 `(N,)` in [0, 1]."""
    used: bool
    """Whether these are others than the label source's."""
    sentence: str
    """What was done, by how much it helps, and why that is believed."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """The same in numbers; JSON values."""

    def to_json(self) -> dict[str, Any]:
        """For the metadata of labels.parquet."""
        return {"used": self.used, "says": self.sentence, **self.figures}


class Refinement(Protocol):
    """Improves pseudo-labels. It learns nothing from gold labels of the test split: the gate measures on them."""

    def refine(self, labels: PseudoLabels) -> Refined:
        """Better probabilities, or the same ones where nothing shows that others are better."""


class NoRefinement:
    """A `Refinement` that leaves the pseudo-labels as they are."""

    def refine(self, labels: PseudoLabels) -> Refined:
        """The same probabilities."""
        return Refined(labels.p, False, "The labels are as their source gives them: no refinement is asked for.")


RefinementLoader = Callable[[], Refinement]


def _auto() -> Refinement:
    from clip_factory.label_sources.auto_refinement import AutoRefinement

    return AutoRefinement()


def _probe() -> Refinement:
    from clip_factory.label_sources.probe import Probe

    return Probe()


def _transduction() -> Refinement:
    from clip_factory.label_sources.transduction import Transduction

    return Transduction(guarded=False)


LOADERS: LoaderTable[RefinementLoader] = LoaderTable(
    GROUP, {"auto": _auto, "none": NoRefinement, "transduction": _transduction, "probe": _probe}
)


def load_refinement(scenario: Scenario) -> Refinement:
    """The refinement that a scenario names.

    Raises:
        ScenarioError: There is no such refinement.
        PluginError: Its package cannot be imported.
    """
    name = scenario.labels.refine
    loader = LOADERS.find(name)
    if loader is None:
        raise ScenarioError(f"labels.refine: {name}: no such refinement", hint=f"known: {', '.join(LOADERS.names)}")
    return loader()


def checked(refined: Refined, count: int, name: str) -> Refined:
    """What a refinement answers, if it is a probability for each of `count` photos.

    Raises:
        PluginError: It is not.
    """
    if not isinstance(refined, Refined):
        raise PluginError(f"refinement {name}: answers {type(refined).__name__}, expected Refined")
    if refined.p.shape != (count,) or not ((refined.p >= 0) & (refined.p <= 1)).all():
        raise PluginError(f"refinement {name}: {refined.p.shape} values, expected {count} in [0, 1]")
    return refined
