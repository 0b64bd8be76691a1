"""Wordings compared before anything is trained: phrases and templates on one folder, from stored vectors.

Without labels, a wording is judged by how well it agrees with the groups that the folder itself falls into when this
wording names them: `consistency`. A wording that parts the folder where its photos part is a good name for what is
there; docs/zero_shot.md has how often it chose well.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from clip_factory.encoders import Encoder
from clip_factory.errors import ScenarioError
from clip_factory.images.scenario_region import scenario_region
from clip_factory.label_sources.probabilities import log_odds, sigmoid
from clip_factory.label_sources.refinement import PseudoLabels
from clip_factory.label_sources.source import Phrases
from clip_factory.label_sources.transduction import MIN_PHOTOS, transduce
from clip_factory.label_sources.zero_shot import phrase_probabilities
from clip_factory.readiness.facts import auc_interval, separation
from clip_factory.runtime.region import Region
from clip_factory.scenario import Scenario, Teacher, load, validated
from clip_factory.scenario.prompts import TemplateSet, fill, template_set
from clip_factory.statistics import Confusion, Share

DOUBTFUL = 0.9
"""A photo is doubtful where neither answer has this probability."""


@dataclass(frozen=True)
class Wording:
    """One way to ask."""

    phrases: Phrases
    templates: TemplateSet | tuple[str, ...] = "photo"

    @classmethod
    def of(cls, scenario: Scenario) -> Wording:
        """The scenario's own."""
        return cls(Phrases.of(scenario), scenario.templates)

    @property
    def chosen_templates(self) -> tuple[str, ...]:
        """The templates, each with one `{}`."""
        return template_set(self.templates) if isinstance(self.templates, str) else self.templates

    @property
    def says(self) -> str:
        """Phrases and templates in a line."""
        named = self.templates if isinstance(self.templates, str) else ", ".join(self.templates)
        few = ", ".join(self.phrases.negative[:4]) + (", ..." if len(self.phrases.negative) > 4 else "")
        return f"{', '.join(self.phrases.positive)} | not {few} | {named}"


@dataclass(frozen=True, eq=False)
class WordingResult:
    """What a wording makes of N photos."""

    wording: Wording
    p: np.ndarray
    """float64 `(N,)`: probability of yes."""
    separation: float
    """How often a yes would rank above a no if the probabilities were right, in [0.5, 1]."""
    doubtful: float
    """Share of photos of which it is not sure."""
    template_agreement: float
    """Share of the answers that a template alone gives as all of them together do; 1 with one template."""
    consistency: float | None
    """Agreement with the folder's own groups in [0, 1]; None with too few photos."""
    counts: Confusion | None = None
    """Answers at 0.5 against the truth, where it is known."""
    auc: float | None = None
    auc_interval: tuple[float, float] | None = None

    @property
    def balanced_accuracy(self) -> Share | None:
        """With its 95 % interval, where the truth is known."""
        return self.counts.balanced_accuracy if self.counts else None

    @property
    def yes(self) -> int:
        """Photos with a probability of 0.5 or more."""
        return int((self.p >= 0.5).sum())


@dataclass(frozen=True)
class Asked:
    """What a user wants to be compared, and on what."""

    wordings: tuple[Wording, ...]
    images: Path | None
    """The scenario's photos; None where it names none."""
    encoder: str
    """As `Teacher.parse` reads it."""
    stated: Phrases
    """The phrases as they are given, without everyday things in the place of negatives."""
    region: Region | None = None
    """The part of each photo that the scenario asks about; None: the whole."""


def read_wordings(
    file: Path | None, positive: Sequence[str], negative: Sequence[str], templates: Sequence[str], *, check: bool = True
) -> Asked:
    """The wordings of a scenario file and of phrases given beside it.

    Args:
        file: A scenario; its own wording comes first, and what is not given is its.
        positive: Phrases for yes, with commas between; each text is a wording of its own.
        negative: Phrases for no, likewise.
        templates: Named sets, likewise: every combination is a wording.
        check: Whether phrases must be such as a scenario may have; what is wrong with them may be what is asked.

    Raises:
        ScenarioError: There are no phrases, or they are not allowed.
    """
    scenario = load(file) if file is not None else None
    if scenario is None and not positive:
        raise ScenarioError("no phrases are named", hint="name a scenario file, or --positive PHRASE")
    yes = tuple(one for text in positive for one in _split(text)) or (scenario.positive if scenario else ())
    no = tuple(one for text in negative for one in _split(text)) or (scenario.negative if scenario else None) or ()
    return Asked(
        wordings=_combined(scenario, positive, negative, templates) if check else (),
        images=Path(scenario.images.path) if scenario and scenario.images.path else None,
        encoder=scenario.teacher.name if scenario else Teacher().name,
        stated=Phrases(yes, no),
        region=scenario_region(scenario) if scenario else None,
    )


def _combined(
    scenario: Scenario | None, positive: Sequence[str], negative: Sequence[str], templates: Sequence[str]
) -> tuple[Wording, ...]:
    own = scenario.model_dump(exclude_none=True) if scenario else {"name": "wording"}
    sides: list[list[dict[str, Any]]] = [
        [{"positive": _split(text)} for text in positive] or [{}],
        [{"negative": _split(text)} for text in negative] or [{}],
        [{"templates": name} for name in templates] or [{}],
    ]
    given = [validated(own | one | two | three, "wording") for one, two, three in itertools.product(*sides)]
    return tuple(dict.fromkeys(Wording.of(one) for one in ([scenario] if scenario else []) + given))


def _split(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in text.split(",") if phrase.strip())


class PhraseScorer:
    """Log-odds of wordings on the same photos: a phrase in a template is embedded once."""

    def __init__(self, encoder: Encoder, vectors: np.ndarray) -> None:
        """`vectors`: float32 `(N, D)`, L2-normalized, of the encoder."""
        self.encoder, self.vectors = encoder, vectors
        self._texts: dict[str, np.ndarray] = {}

    def log_odds(self, phrases: Phrases, templates: Sequence[str]) -> np.ndarray:
        """Log-odds of yes, float64 `(N,)`, as the label source `zero-shot` gives them."""
        texts = self.texts(phrases.all, templates)
        scores = phrase_probabilities(self.vectors, texts, self.encoder.logit_scale)
        return log_odds(scores, len(phrases.positive))

    def texts(self, phrases: Sequence[str], templates: Sequence[str]) -> np.ndarray:
        """One vector a phrase: the normalized mean over templates; float32 `(P, D)`."""
        prompts = [prompt for phrase in phrases for prompt in fill(tuple(templates), phrase)]
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._texts]
        if missing:
            self._texts.update(zip(missing, self.encoder.embed_texts(missing), strict=True))
        means = np.stack([self._texts[prompt] for prompt in prompts]).reshape(len(phrases), len(templates), -1).mean(1)
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)


def compare_wordings(
    scorer: PhraseScorer, wordings: Sequence[Wording], truth: np.ndarray | None = None
) -> list[WordingResult]:
    """Measure wordings on the same photos; the one to use comes first.

    Args:
        scorer: Of the N photos.
        wordings: The wordings.
        truth: float64 `(N,)`: 1 yes, 0 no, NaN where it is not known; None where nothing is. With both answers among
            it, balanced accuracy decides; else consistency, or separation where the photos are too few for it.
    """
    results = [_measured(scorer, wording, truth) for wording in dict.fromkeys(wordings)]
    return sorted(results, key=_merit, reverse=True)


def _merit(result: WordingResult) -> tuple[float, float]:
    if result.balanced_accuracy is not None:
        return result.balanced_accuracy.figure, result.auc or 0.0
    return (result.separation if result.consistency is None else result.consistency), result.separation


def _measured(scorer: PhraseScorer, wording: Wording, truth: np.ndarray | None) -> WordingResult:
    templates = wording.chosen_templates
    logits = scorer.log_odds(wording.phrases, templates)
    p, answers = sigmoid(logits), logits >= 0
    alone = [(scorer.log_odds(wording.phrases, (one,)) >= 0) == answers for one in templates]
    counts, auc, interval = _against(truth, logits)
    return WordingResult(
        wording=wording,
        p=p,
        separation=separation(p),
        doubtful=float((np.maximum(p, 1 - p) < DOUBTFUL).mean()),
        template_agreement=float(np.mean(alone)),
        consistency=_consistency(scorer.vectors, logits),
        counts=counts,
        auc=auc,
        auc_interval=interval,
    )


def _consistency(vectors: np.ndarray, logits: np.ndarray) -> float | None:
    """Mean of the balanced agreement at 0.5 and of the ranking, both with the folder's groups as truth."""
    count = len(logits)
    if count < MIN_PHOTOS:
        return None
    labels = PseudoLabels(
        log_odds=logits,
        p=sigmoid(logits),
        vectors=vectors,
        gold=np.full(count, np.nan),
        groups=np.arange(count),
        splits=np.full(count, "train"),
        unbiased=np.ones(count, bool),
    )
    groups = transduce(labels).log_odds >= 0
    if groups.all() or not groups.any():
        return 0.0
    agreement = Confusion.of(groups, logits >= 0).balanced_accuracy.figure
    return (agreement + float(roc_auc_score(groups, logits))) / 2


def _against(
    truth: np.ndarray | None, logits: np.ndarray
) -> tuple[Confusion | None, float | None, tuple[float, float] | None]:
    known = np.flatnonzero(~np.isnan(truth)) if truth is not None else np.array([], int)
    if truth is None or len(set(truth[known].tolist())) < 2:
        return None, None, None
    yes = truth[known] == 1
    auc = float(roc_auc_score(yes, logits[known]))
    return Confusion.of(yes, logits[known] >= 0), auc, auc_interval(auc, int(yes.sum()), int((~yes).sum()))
