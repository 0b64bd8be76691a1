"""What people's answers did: to the labels, to the share of yes that all rests on."""

from __future__ import annotations

from clip_factory.report import formatting as words
from clip_factory.report.run_data import Evidence, Labels
from clip_factory.statistics import share


def sentences(evidence: Evidence) -> list[str]:
    """In a few sentences; the first says how many answers there are."""
    labels = evidence.labels
    golden = int(labels.has_gold.sum())
    if not golden:
        return ["No person has labeled a photo: labels, share of yes and threshold are all the teacher’s word."]
    picked = golden - int(labels.fair.sum())
    counted = f"People have labeled {words.plural(golden, 'photo')}"
    if picked:
        counted += f", {words.number(picked)} of them because they looked doubtful; these teach, and measure nothing"
    return [f"{counted}.", labels.probe, *_base_rate(labels)]


def _base_rate(labels: Labels) -> list[str]:
    """The share of yes as people's answers to photos that were not picked give it, against the teacher's."""
    fair = labels.gold[labels.fair] == 1
    if not len(fair):
        return []
    found = share(fair)
    alone = float(labels.scores[:, : len(labels.positive)].sum(axis=1).mean())
    teacher = f"the words alone expect {words.share(alone)} of all photos to be yes"
    if labels.bettered:
        teacher += f", the teacher that has learned from people {words.share(float(labels.teacher.mean()))}"
    return [
        f"Not picked for doubt: {words.plural(found.n, 'photo')}, of which people call {words.number(int(fair.sum()))} "
        f"a yes, {words.share(found.figure)} ({words.interval(found.interval)}); {teacher}."
    ]
