"""Several label sources together: the mean of their log-odds, asked about all photos or where those before doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clip_factory.encoders import EmbeddingStore, Encoder
from clip_factory.images.photo import Photo
from clip_factory.label_sources.labeling import score
from clip_factory.label_sources.probabilities import logit, sigmoid
from clip_factory.label_sources.source import YES_NO, LabelSource, Scores, find_label_source, of_part
from clip_factory.label_sources.visual_evidence import VisualEvidence, together
from clip_factory.progress import console
from clip_factory.scenario import Scenario


@dataclass(frozen=True)
class Member:
    """One of the sources."""

    name: str
    """As `labels.sources` says it."""
    source: LabelSource
    scenario: Scenario
    """The same question, as if this source alone were asked: under its hash the source's answers are stored."""
    weight: float


class Mixed:
    """A `LabelSource` made of others. It keeps nothing of its own: each member's answers are in the store as if it had
    been asked alone, so that no source is asked twice, in a mixture or out of it.

    The mean of log-odds is the logarithmic opinion pool (Genest and Zidek 1986, "Combining probability distributions").
    In a cascade a photo in doubt gets the mean of all sources that were asked about it, and not the last one's answer:
    a cascade is the mean without the questions that hardly matter, and what the first source saw is not thrown away.
    """

    batch_size = 2**31
    """All at once: the members have batches of their own."""

    def __init__(self, members: Sequence[Member], store: EmbeddingStore, doubt: tuple[float, float] | None) -> None:
        """`doubt`: where a member after the first is asked, as probabilities of yes; None: about all photos."""
        self.members, self.store, self.doubt = tuple(members), store, doubt
        self.asked: tuple[int, ...] = ()
        """About how many photos each member was asked, when `score` last ended."""

    @property
    def key(self) -> str:
        """The members', with their weights."""
        parts = [f"{member.source.key} {member.weight:g}" for member in self.members]
        return f"mixed-1-{' + '.join(parts)} {self.doubt}"

    @property
    def about(self) -> Mapping[str, object]:
        """Every member by name and license; `asked`, about how many photos."""
        parts = [dict(member.source.about) for member in self.members]
        return {
            "name": " + ".join(str(part["name"]) for part in parts),
            "license": "; ".join(f"{part['name']}: {part['license']}" for part in parts),
            "parts": parts,
            "asked": list(self.asked),
        }

    def score(self, photos: Sequence[Photo], scenario: Scenario) -> Scores:
        """Yes and no of N photos, with all that the members show for them.

        A member's probability counts as no nearer to 0 or 1 than `MIN_P`: one that is far too sure could not be
        outvoted.

        Raises:
            LabelsError: N is 0.
            FactoryError: A member cannot answer. What was answered before is kept.
        """
        total, weights = np.zeros(len(photos)), np.zeros(len(photos))
        doubtful, asked = np.ones(len(photos), bool), []
        shown: list[list[VisualEvidence]] = [[] for _ in photos]
        for member in self.members:
            rows = np.flatnonzero(doubtful)
            asked.append(len(rows))
            if len(rows) or not photos:  # of no photos at all the first says what is wrong
                scores = score(member.source, [photos[row] for row in rows.tolist()], member.scenario, self.store)
                total[rows] += member.weight * logit(scores.p)
                weights[rows] += member.weight
                for row, evidence in zip(rows.tolist(), scores.evidence or (), strict=False):
                    shown[row].append(evidence)
            if self.doubt:
                p = sigmoid(total / weights)
                doubtful = (p >= self.doubt[0]) & (p <= self.doubt[1])
        self.asked = tuple(asked)
        console.print(self._sentence(), markup=False)
        log_odds = total / weights
        by_phrase = np.stack([sigmoid(log_odds), sigmoid(-log_odds)], axis=1).astype(np.float32)
        return Scores(YES_NO, by_phrase, tuple(map(together, shown)) if any(shown) else None)

    def _sentence(self) -> str:
        """Who answered about how many photos."""
        parts = [f"{member.name} about {count:,}" for member, count in zip(self.members, self.asked, strict=True)]
        where = " in doubt" if self.doubt else ""
        return f"asked: {parts[0]} photos, {', '.join(f'{part}{where}' for part in parts[1:])}"


def load_mixed(scenario: Scenario, encoder: Encoder, store: EmbeddingStore) -> Mixed:
    """The sources that a scenario names, together.

    Raises:
        ScenarioError: One of them is not known, or cannot be asked this question.
    """
    labels = scenario.labels
    members = []
    for part in labels.sources or ():
        alone = of_part(scenario, part)
        source = find_label_source(alone)(alone, encoder, store)
        members.append(Member(part.source, source, alone, part.weight))
    return Mixed(members, store, labels.doubt if labels.combine == "cascade" else None)
