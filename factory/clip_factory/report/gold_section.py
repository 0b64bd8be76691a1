"""What refinement and people's answers did: to the labels, to the share of yes that all rests on."""

from __future__ import annotations

from clip_factory.report import formatting as words
from clip_factory.report.run_data import LabeledPhotos, RunData
from clip_factory.statistics import share


def sentences(data: RunData) -> list[str]:
    """In a few sentences; the first says how many answers there are."""
    labels = data.labels
    labeled_photos = int(labels.labeled.sum())
    if not labeled_photos:
        alone = "No person has labeled a photo: labels, share of yes and threshold are all the teacher’s word."
        return [alone, labels.probe] if labels.refined else [alone]
    picked = labeled_photos - int(labels.unbiased.sum())
    text = f"People have labeled {words.plural(labeled_photos, 'photo')}"
    if picked:
        text += f", {words.number(picked)} of them because they looked doubtful; these teach, and measure nothing"
    return [f"{text}.", labels.probe, *_base_rate(labels)]


def _base_rate(labels: LabeledPhotos) -> list[str]:
    """The share of yes as people's answers to photos that were not picked give it, against the teacher's."""
    unbiased = labels.gold[labels.unbiased] == 1
    if not len(unbiased):
        return []
    measured = share(unbiased)
    alone = words.share(float(labels.words.mean()))
    source = "the words alone expect" if labels.by_phrases else "the teacher by itself expects"
    teacher = f"{source} {alone} of all photos to be yes"
    if labels.refined:
        teacher += f", the refined labels {words.share(float(labels.teacher.mean()))}"
    count = words.number(int(unbiased.sum()))
    return [
        f"Not picked for doubt: {words.plural(measured.n, 'photo')}, of which people call {count} a yes, "
        f"{words.share(measured.figure)} ({words.interval(measured.interval)}); {teacher}."
    ]
