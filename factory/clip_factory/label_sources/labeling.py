"""From scanned photos to labels: embed, score, split, refine."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from clip_factory.encoders import EmbeddingStore, Encoder, embed, for_region, load_encoder
from clip_factory.errors import LabelsError, PluginError
from clip_factory.images.photo import Photo
from clip_factory.images.scenario_region import scenario_region
from clip_factory.label_sources.refinement import PseudoLabels, checked, load_refinement
from clip_factory.label_sources.source import LabelSource, Phrases, Scores, find_label_source
from clip_factory.label_sources.visual_evidence import VisualEvidence, to_arrow
from clip_factory.labels import Labels, hard_labels
from clip_factory.progress import bar, warn
from clip_factory.scenario import Scenario
from clip_factory.scenario.prompts import template_set
from clip_factory.splits import assign

MIN_WEIGHT = 0.05
"""The training weight of an image on which the teacher is wholly undecided."""
MIN_MASS = 0.01
"""Of all that a label source could answer, the share that its columns hold together; below this it speaks of else."""


@dataclass(frozen=True)
class Labeled:
    """Labels, and what they cost."""

    labels: Labels
    embedded: int
    """Photos that were embedded for them; the others' vectors were in the store."""
    seconds_to_load: float
    """What loading the encoder took."""
    evidence: tuple[VisualEvidence, ...] | None = None
    """What the label source shows for its answer about each photo; None where it shows nothing of the kind."""


def label(
    scenario: Scenario,
    photos: Sequence[Photo],
    images: pa.Table,
    store: EmbeddingStore,
    gold: Mapping[str, bool],
    picked: Set[str] = frozenset(),
) -> Labeled:
    """Label photos as a scenario asks.

    Args:
        scenario: The question, the encoder, the label source and the refinement.
        photos: N photos; the scenario's region of each is looked at.
        images: The same N photos, one row a content, sorted by sha256: columns sha256, path, group.
        store: Where vectors and scores are kept; what it holds is not computed again.
        gold: People's labels by sha256; they outrank the teacher.
        picked: Of these, the sha256 of those that were asked for because they looked doubtful, and not at random.

    Raises:
        ScenarioError: It names a label source or refinement that is not known.
        FactoryError: The encoder cannot be loaded, or a photo has changed.
    """
    load_source = find_label_source(scenario)
    start = time.perf_counter()
    loaded = load_encoder(scenario.teacher)
    seconds = time.perf_counter() - start
    region = scenario_region(scenario)
    encoder, photos = for_region(loaded, region), [photo._replace(region=region) for photo in photos]
    source = load_source(scenario, encoder, store)
    with bar("embedding") as progress:
        embedded = embed(encoder, photos, store, scenario.teacher.batch_size, progress)
    several = scenario.labels.sources is not None  # their own answers are stored, and what is made of them is not
    scores = source.score(photos, scenario) if several else score(source, photos, scenario, store)
    vectors = store.get(encoder.key, [photo.sha256 for photo in photos])
    labels = build(scenario, teacher_about(encoder, source.about), scores, images, vectors, gold, picked)
    return Labeled(labels, embedded, seconds, scores.evidence)


def score(source: LabelSource, photos: Sequence[Photo], scenario: Scenario, store: EmbeddingStore) -> Scores:
    """The source's scores of N photos, in their order; those that the store holds are not asked for again.

    Raises:
        LabelsError: N is 0.
        PluginError: The source's answers are not scores.
    """
    question, names = question_hash(scenario, source), [photo.sha256 for photo in photos]
    phrases = _stored_phrases(store, source.key, question)
    rows = store.scores(source.key, question, names) if phrases else {}
    evidence = _stored_evidence(store, source.key, question, names) if phrases else {}
    missing = [photo for photo in photos if photo.sha256 not in rows]
    with ExitStack() as stack:
        progress, writer = stack.enter_context(bar("scoring")), None
        for start in range(0, len(missing), source.batch_size):
            batch = missing[start : start + source.batch_size]
            scores = source.score(batch, scenario)
            if not isinstance(scores, Scores):
                raise PluginError(f"label source {source.key}: answers {type(scores).__name__}, expected Scores")
            scores = scores.checked(len(batch), source.key)
            if phrases not in (None, scores.phrases):
                raise PluginError(f"label source {source.key}: the columns of its scores changed from {phrases}")
            if writer is None:
                phrases, about = scores.phrases, {"phrases": scores.phrases.to_json(), "source": dict(source.about)}
                writer = stack.enter_context(store.scores_writer(source.key, question, about))
            names = [photo.sha256 for photo in batch]
            writer.add(names, scores.by_phrase, None if scores.evidence is None else to_arrow(scores.evidence))
            rows.update(zip(names, scores.by_phrase, strict=True))
            evidence.update(zip(names, scores.evidence or (), strict=False))
            if source.batch_size < len(missing):
                progress(start + len(batch), len(missing))
    if phrases is None:
        raise LabelsError("there are no photos to label")
    shown = tuple(evidence.get(photo.sha256, VisualEvidence()) for photo in photos) if evidence else None
    scores = Scores(phrases, np.stack([rows[photo.sha256] for photo in photos]), shown)
    if (mass := float(scores.by_phrase.sum(axis=1, dtype=np.float64).mean())) < MIN_MASS:
        warn(
            f"{source.about['name']} does not answer this question with yes or no: both together are {mass:.2g} of what"
            " it would say, of which the labels are the ratio; ask in other words"
        )
    return scores


def question_hash(scenario: Scenario, source: LabelSource | None = None) -> str:
    """Hash of all that a label source may be asked, or of what it says by `question` that it reads: 24 hex digits."""
    own: Callable[[Scenario], Mapping[str, object]] | None = getattr(source, "question", None)
    asked = dict(own(scenario) if own is not None else _question(scenario))
    if (region := scenario_region(scenario)) is not None:
        asked["region"] = region.to_json()
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:24]


def _question(scenario: Scenario) -> dict[str, object]:
    templates = scenario.templates
    return {
        "question": scenario.question,
        "phrases": Phrases.of(scenario).to_json(),
        "templates": template_set(templates) if isinstance(templates, str) else templates,
        "labels": scenario.labels.model_dump(mode="json", exclude={"refine"}),
    }


def build(
    scenario: Scenario,
    teacher: Mapping[str, object],
    scores: Scores,
    images: pa.Table,
    vectors: np.ndarray,
    gold: Mapping[str, bool],
    picked: Set[str] = frozenset(),
) -> Labels:
    """Split the photos and refine their scores.

    Splits are assigned by the source's answers and gold, before a refinement has learned from anyone: it never learns
    from the test split, so that the gate measures what no label of a test photo has shaped.

    Args:
        scenario: The question.
        teacher: What labels.parquet says of the teacher; see `teacher_about`.
        scores: Of N photos.
        images: The same photos, one row a content, sorted by sha256: columns sha256, path, group.
        vectors: float32 `(N, D)`, theirs.
        gold: People's labels by sha256.
        picked: Of these, the sha256 of those that were asked for because they looked doubtful, and not at random.
    """
    sha256s, groups = images["sha256"].to_pylist(), images["group"].to_pylist()
    known = np.array([gold.get(sha, np.nan) for sha in sha256s], np.float64)
    doubtful = np.array([sha in gold and sha in picked for sha in sha256s], bool)
    log_odds, p = scores.log_odds, scores.p
    splits = assign(sha256s, groups, hard_labels(p, known).tolist(), scenario.student.seed)
    pseudo = PseudoLabels(
        log_odds, p, vectors, known, np.array(groups), np.array(splits), ~doubtful, scenario.labels.name
    )
    refined = checked(load_refinement(scenario).refine(pseudo), len(sha256s), scenario.labels.refine)
    return Labels(
        sha256=np.array(sha256s, object),
        path=np.array(images["path"].to_pylist(), object),
        group=np.array(groups, np.int32),
        p_teacher=refined.p.astype(np.float32),
        scores=scores.by_phrase,
        gold=known,
        picked=doubtful,
        split=np.array(splits, np.str_),
        weight=np.where(np.isnan(known), certainty(refined.p), np.float32(1)),
        metadata={
            "phrases": scores.phrases.to_json(),
            "teacher": dict(teacher),
            "probe": refined.to_json(),  # whichever refinement it was: the key of version 0.1.0
        },
    )


def teacher_about(encoder: Encoder, source: Mapping[str, object] | None = None) -> dict[str, object]:
    """What labels.parquet says of the teacher: the label source, and the encoder that vectors come from."""
    space = {"key": encoder.key, "dim": encoder.dim, "logit_scale": encoder.logit_scale}
    return {**encoder.about, **(source or {}), **space}


def certainty(p_yes: np.ndarray) -> np.ndarray:
    """Training weights in [MIN_WEIGHT, 1]: 1 where the teacher is sure, near 0 where it is not."""
    return np.asarray(np.maximum(MIN_WEIGHT, np.abs(2 * p_yes - 1)), np.float32)


def _stored_evidence(
    store: EmbeddingStore, source: str, question: str, sha256s: Sequence[str]
) -> dict[str, VisualEvidence]:
    plain = store.evidence(source, question, sha256s)
    return {sha256: VisualEvidence.of_plain(one) for sha256, one in plain.items()}


def _stored_phrases(store: EmbeddingStore, source: str, question: str) -> Phrases | None:
    """What the columns of the stored scores mean; None where there are none."""
    stored = store.scores_about(source, question).get("phrases")
    return Phrases(tuple(stored["positive"]), tuple(stored["negative"])) if stored else None
