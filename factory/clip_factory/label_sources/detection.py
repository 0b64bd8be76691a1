"""The label source `detection`: yes where a detector draws a box for a phrase of yes."""

from __future__ import annotations

import numpy as np

from clip_factory.label_sources.checkpoint import find_checkpoint
from clip_factory.label_sources.detectors import Detections, load_detector
from clip_factory.label_sources.localization import Answer, LocatingSource, Rule, rivals, unseen
from clip_factory.label_sources.probabilities import sigmoid
from clip_factory.label_sources.source import Phrases
from clip_factory.label_sources.visual_evidence import DIGITS, Box, VisualEvidence
from clip_factory.scenario import Scenario

DEFAULT = Rule(score=0.2, min_area=0.0)
SAME_PLACE = 0.5
"""Boxes whose intersection is this share of their union lie about the same thing."""
MAX_CANDIDATES = 300
"""Boxes of a photo that are compared with all others: those with the highest scores for yes."""
MAX_SHOWN = 12
"""Boxes of a photo that are kept, ..."""
SHOWN_FROM = 0.5
"""... of those with at least this share of the score that counts."""
BATCH_SIZE = 8
"""Few: a photo is many seconds of work without a GPU."""


def load_detection(scenario: Scenario) -> LocatingSource[Detections]:
    """The detector that a scenario names: boxes for phrases, of which the best for yes decides.

    Raises:
        TeacherError: It cannot be had or loaded, or is no detector.
    """
    checkpoint = find_checkpoint(scenario.labels.model)
    detector = load_detector(checkpoint)
    return LocatingSource("detection", checkpoint, detector, detector.detect, decide, DEFAULT, BATCH_SIZE)


def decide(detections: Detections, phrases: Phrases, rule: Rule) -> Answer:
    """The answer that the boxes in one photo give.

    A box for yes counts from the rule's score on, and only if no phrase for no scores higher in a box about the same
    thing. Elsewhere in the photo look-alikes do not matter: a photo of a forklift and a pallet truck shows a forklift.
    Without phrases for no, the score alone decides: a detector's score says by itself how sure it is, and a person
    beside the forklift, or the wall behind it, is no reason to answer no.

    Args:
        detections: Of the phrases for yes, then those for no.
        phrases: The same, and `NOTHING`.
        rule: When a box counts.
    """
    yes = len(phrases.positive)
    boxes = np.clip(detections.boxes.astype(np.float64), 0, 1)
    areas = _areas(boxes)
    large = (areas > 0) & (areas >= rule.min_area)
    boxes, log_odds = boxes[large], detections.log_odds[large].astype(np.float64)
    if not len(boxes):
        return unseen(rule)
    best = log_odds[:, :yes].max(axis=1)
    candidates = np.argsort(-best, kind="stable")[:MAX_CANDIDATES]
    same = overlaps(boxes[candidates], boxes) >= SAME_PLACE
    # of each phrase for no, the best score in a box about the same thing as each candidate
    around = np.array([np.where(same, column, -np.inf).max(axis=1) for column in log_odds[:, yes:].T])
    strongest, who = rivals(around.reshape(-1, len(candidates)).T, rule)
    margins = best[candidates] - strongest
    place = int(margins.argmax())
    row = candidates[place]
    return Answer(
        margin=float(margins[place]),
        winner=int(log_odds[row, :yes].argmax()),
        rival=int(who[place]),
        evidence=VisualEvidence(boxes=_shown(boxes, log_odds, phrases, rule)),
    )


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of M boxes `(M, 4)` with N others `(N, 4)`, by their edges: float `(M, N)` in [0, 1]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    return np.asarray(shared / (_areas(boxes)[:, None] + _areas(others)[None] - shared))


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def _shown(boxes: np.ndarray, log_odds: np.ndarray, phrases: Phrases, rule: Rule) -> tuple[Box, ...]:
    """The best boxes, each about something else (non-maximum suppression), with the phrase that scores highest."""
    scores, names = sigmoid(log_odds.max(axis=1)), log_odds.argmax(axis=1)
    order = [row for row in np.argsort(-scores, kind="stable") if scores[row] >= SHOWN_FROM * rule.score]
    kept: list[int] = []
    for row in order:
        if len(kept) == MAX_SHOWN:
            break
        if not kept or overlaps(boxes[[row]], boxes[kept]).max() < SAME_PLACE:
            kept.append(int(row))
    return tuple(_box(phrases.all[names[row]], float(scores[row]), boxes[row].tolist()) for row in kept)


def _box(phrase: str, score: float, edges: list[float]) -> Box:
    left, upper, right, lower = edges
    return Box(phrase, *(round(value, DIGITS) for value in (score, left, upper, right - left, lower - upper)))
