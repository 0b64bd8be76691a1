"""The page of the labels, before anything is trained: whether the teacher can know this, and photos that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clip_factory.images.scenario_region import scenario_region
from clip_factory.label_sources.visual_evidence import read_evidence
from clip_factory.labels import Labels
from clip_factory.readiness import BARS, Readiness
from clip_factory.report import plots
from clip_factory.report.embedded_images import Picture, pictures
from clip_factory.report.plot_data import Floats, Indices, most_moved
from clip_factory.report.region_view import region_view
from clip_factory.report.report_page import environment
from clip_factory.report.run_data import LabeledPhotos, read_labels
from clip_factory.run_folder import RunFolder
from clip_factory.scenario import Scenario

SHOWN = 10
"""Photos of each kind."""
TONES = {"ready": "pass", "doubtful": "unproven", "carries nothing": "fail"}
WORDS = {"ready": "Ready to train", "doubtful": "Doubtful", "carries nothing": "Carries nothing"}


@dataclass(frozen=True)
class Gallery:
    """Photos of one kind."""

    title: str
    lead: str
    photos: Sequence[Picture]


def render(scenario: Scenario, run: RunFolder, readiness: Readiness, labels: Labels) -> str:
    """The whole page.

    Args:
        scenario: The question.
        run: Holds labels.parquet.
        readiness: What the labels are worth.
        labels: Those of the run.
    """
    read = replace(read_labels(labels), evidence=read_evidence(run), evidence_positive=scenario.positive)
    kinds = [*_moved(read), *examples(read.teacher, labels.group, by_phrases=read.by_phrases)]
    root, region = Path(scenario.images.path or "."), scenario_region(scenario)
    shown = pictures(read, np.concatenate([rows for _, _, rows in kinds]), root, region)
    ends = np.cumsum([len(rows) for _, _, rows in kinds])
    return (
        environment(html=True)
        .get_template("labels.html.j2")
        .render(
            scenario=scenario,
            run=run.path,
            readiness=readiness,
            facts=readiness.facts,
            labels=read,
            region=region_view(region, root, read.path),
            teacher={"name": scenario.teacher.model, "license": ""} | labels.teacher,
            tone=TONES[readiness.verdict],
            word=WORDS[readiness.verdict],
            bars=BARS,
            plot=plots.teacher_scores(read.teacher),
            galleries=[
                Gallery(title, lead, shown[end - len(rows) : end])
                for (title, lead, rows), end in zip(kinds, ends, strict=True)
            ],
        )
    )


def _moved(labels: LabeledPhotos) -> list[tuple[str, str, Indices]]:
    """The photos whose answer refinement has changed, where it has."""
    rows = most_moved(labels.words, labels.teacher, SHOWN) if labels.refined else np.array([], int)
    lead = f"{labels.probe} These have changed most: if they are wrong, set labels.refine: none in the scenario."
    return [("Changed by refinement", lead, rows)] if len(rows) else []


def examples(teacher: Floats, groups: NDArray[np.int32], *, by_phrases: bool = True) -> list[tuple[str, str, Indices]]:
    """Title, explanation and rows of the likeliest, the most doubtful and the least likely photos.

    Args:
        teacher: `(N,)` probability of yes, in [0, 1].
        groups: `(N,)` near-duplicate groups; each kind shows one photo of a group.
        by_phrases: Whether photos were compared with phrases, and not asked about.

    Returns:
        Without kinds that would show nothing: where all photos are on one side, the likeliest are the most doubtful.
    """
    likeliest, least, doubtful = (_top(rank, groups) for rank in (teacher, -teacher, -np.abs(teacher - 0.5)))
    words = "words mean" if by_phrases else "question means"
    confused = "what the phrases confuse. What is seen here makes good negative phrases."
    kinds = [
        ("The likeliest", f"If these are no yes, the {words} something else to the teacher.", likeliest),
        (
            "The most doubtful",
            f"Nearest to 0.5: {confused if by_phrases else 'where its answers say least.'}",
            doubtful[~np.isin(doubtful, np.concatenate([likeliest, least]))],
        ),
        ("The least likely", "If one of these is a yes, the teacher overlooks a kind of it.", least),
    ]
    return [kind for kind in kinds if len(kind[2])]


def _top(rank: Floats, groups: NDArray[np.int32]) -> Indices:
    order = np.argsort(-rank, kind="stable")
    first = np.sort(np.unique(groups[order], return_index=True)[1])
    top: Indices = order[first[:SHOWN]]
    return top
