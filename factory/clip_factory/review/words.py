"""Other words, tried on the review page: what they would label, what they cost on the answers given so far, and whether
to keep them. The encoder is loaded when words are first tried; photos are never opened.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clip_factory import run_folder as files
from clip_factory.encoders import EmbeddingStore, load_encoder
from clip_factory.errors import FactoryError
from clip_factory.label_sources.source import Phrases
from clip_factory.label_sources.zero_shot import zero_shot
from clip_factory.review.relabel import pseudo_labels
from clip_factory.review.session import Session
from clip_factory.run_folder import RunFolder
from clip_factory.runtime.atomic import write_text
from clip_factory.scenario import Scenario, dump, load, validated
from clip_factory.zeroshot.lint import lint
from clip_factory.zeroshot.look_alikes import suggest
from clip_factory.zeroshot.wordings import PhraseScorer, Wording

SUGGESTED = 8
ZERO_SHOT = "zero-shot"


@dataclass(frozen=True)
class Cost:
    """What one phrase does to the answers given so far."""

    phrase: str
    positive: bool
    right: int
    """Answers that the words are right on with the phrase, less those without it: below 0 it costs more."""


class WordTrials:
    """The words of a run, and what others would do; any thread may call."""

    def __init__(self, run: RunFolder, session: Session, store: Path) -> None:
        self._run, self._session, self._store = run, session, EmbeddingStore(store)
        self._lock = threading.Lock()
        self._scorer: PhraseScorer | None = None

    def current(self) -> dict[str, Any]:
        """The words of the run's scenario: `positive`, `negative`, whether these are `stated`; `refused`, why."""
        scenario = load(self._run.file(files.SCENARIO))
        phrases, other = Phrases.of(scenario), scenario.labels.source != ZERO_SHOT
        why = f"the labels are by {scenario.labels.name}, which asks in its own way" if other else ""
        return {**phrases.to_json(), "stated": scenario.negative is not None, "refused": why}

    def tried(self, positive: Sequence[str], negative: Sequence[str]) -> dict[str, Any]:
        """What these words would do.

        Args:
            positive: Phrases for yes.
            negative: Phrases for no; none for everyday things.

        Returns:
            `p`, the probability of yes of each photo, in the order of the session, refined as the label stage would;
            `answers`, how many there are and how many the old and the new labels are right on; `costs`, of each phrase;
            `remarks` on the phrases.

        Raises:
            ScenarioError: A phrase is not allowed.
            TeacherError: The encoder cannot be loaded.
        """
        scenario = self._with(positive, negative)
        wording = Wording.of(scenario)
        with self._lock:
            scorer = self._loaded(scenario)
            logits = scorer.log_odds(wording.phrases, wording.chosen_templates)
            costs = self._costs(scorer, wording, logits)
        pool = replace(self._session.pool, log_odds=logits)
        refined = pool.refinement.refine(pseudo_labels(pool, self._session.gold()))
        before, answers = self._session.probabilities(), self._session.gold().column(pool.sha256)
        known = ~np.isnan(answers)
        right = [int(((p[known] >= 0.5) == (answers[known] == 1)).sum()) for p in (before, refined.p)]
        remarks = lint(scenario.positive, scenario.negative or (), wording.chosen_templates, scorer.encoder)
        return {
            "p": refined.p.tolist(),  # rounded, a photo near a half would change side
            "says": refined.sentence,
            "answers": {"count": int(known.sum()), "before": right[0], "after": right[1]},
            "costs": [asdict(cost) for cost in costs],
            "remarks": [asdict(remark) for remark in remarks],
        }

    def suggested(self, positive: Sequence[str], negative: Sequence[str]) -> list[dict[str, Any]]:
        """Negative phrases for these words: `phrase`, `turned` (photos that would turn to no), `photos` near it."""
        scenario = self._with(positive, negative)
        with self._lock:
            ideas = suggest(self._loaded(scenario), Wording.of(scenario), self._store, SUGGESTED)
        names = self._session.pool.sha256
        return [
            {
                "phrase": one.phrase,
                "turned": [names[row] for row in one.turned.tolist()],
                "photos": [names[row] for row in one.photos.tolist()],
            }
            for one in ideas
        ]

    def accept(self, positive: Sequence[str], negative: Sequence[str]) -> dict[str, str]:
        """Write these words into the run's scenario.yaml; the next command on the run labels and trains with them.

        Returns:
            `file`, and the `command` that comes next.

        Raises:
            ScenarioError: The label stage would refuse these words. Nothing is written then.
            TeacherError: The encoder cannot be loaded. Nothing is written then.
        """
        scenario = self._with(positive, negative)
        with self._lock:
            encoder = self._loaded(scenario).encoder
        scores = zero_shot(encoder, self._session.pool.vectors, scenario)  # refuses what the label stage would
        write_text(self._run.file(files.SCENARIO), dump(scenario))
        self._session.reword(scores.log_odds)
        command = f"factory run {shlex.quote(self._session.pool.run)}"
        return {"file": str(self._run.file(files.SCENARIO)), "command": command}

    def _with(self, positive: Sequence[str], negative: Sequence[str]) -> Scenario:
        """The run's scenario with these words; what it does not allow is refused."""
        tree = load(self._run.file(files.SCENARIO)).model_dump()
        scenario = validated({**tree, "positive": list(positive), "negative": list(negative) or None}, "these words")
        if scenario.labels.source != ZERO_SHOT:
            raise FactoryError(f"the labels are by {scenario.labels.name}: its words cannot be tried here")
        return scenario

    def _loaded(self, scenario: Scenario) -> PhraseScorer:
        if self._scorer is None:
            self._scorer = PhraseScorer(load_encoder(scenario.teacher), self._session.pool.vectors)
        return self._scorer

    def _costs(self, scorer: PhraseScorer, wording: Wording, logits: np.ndarray) -> list[Cost]:
        """What leaving out each phrase would do to the answers, by the words alone."""
        answers = self._session.gold().column(self._session.pool.sha256)
        known, sides = np.flatnonzero(~np.isnan(answers)), wording.phrases

        def right(log_odds: np.ndarray) -> int:
            return int(((log_odds[known] >= 0) == (answers[known] == 1)).sum())

        costs = []
        for positive, phrases in ((True, sides.positive), (False, sides.negative)):
            for phrase in phrases if len(phrases) > 1 else ():
                rest = tuple(one for one in phrases if one != phrase)
                without = Phrases(rest, sides.negative) if positive else Phrases(sides.positive, rest)
                gained = right(logits) - right(scorer.log_odds(without, wording.chosen_templates))
                costs.append(Cost(phrase, positive, gained))
        return costs
