"""The report's plots: each is drawn where its data allow, and says in a sentence what it shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from clip_factory.gate.rule import CONFIDENT
from clip_factory.report.formatting import number, plural, score, share
from clip_factory.report.plot_data import Flags, Floats, precision_recall, reliability
from clip_factory.report.svg import INK, NO, SOFT, YES, Plot, svg

BINS = 20


def teacher_scores(teacher: Floats, threshold: float = 0.5, name: str = "teacher") -> Plot:
    """Histogram of the teacher’s probability of yes, `(N,)` in [0, 1], with the line where its yes begins.

    `name`: unique on the page.
    """
    edges = np.linspace(0, 1, BINS + 1)
    sides = [np.histogram(teacher[side], edges)[0] for side in (teacher < threshold, teacher >= threshold)]
    doubtful = float(np.mean(np.maximum(teacher, 1 - teacher) < CONFIDENT)) if len(teacher) else 0.0
    says = (
        f"{number(int((teacher >= threshold).sum()))} of {plural(len(teacher), 'image')} lie on the side of yes; "
        f"{share(doubtful)} lie between {1 - CONFIDENT:.1f} and {CONFIDENT}, where the teacher is in doubt."
    )
    if threshold != 0.5:
        says += f" Its yes begins at {score(threshold)}: as many as its probabilities promise over all photos."

    def draw(axes: Any) -> None:
        axes.bar(edges[:-1], sides[0], 0.92 / BINS, align="edge", color=NO)
        axes.bar(edges[:-1], sides[1], 0.92 / BINS, bottom=sides[0], align="edge", color=YES)
        _scores_axis(axes, "teacher’s probability of yes", threshold, f"{threshold:.2g}")

    return Plot("What the teacher said", says, svg(name, says, draw))


def student_scores(student: Floats, reference: Flags, threshold: float) -> Plot:
    """Histogram of the exported file's probability `(N,)`, by what is right, with the threshold."""
    title = "What the student says"
    if not len(student):
        return Plot(title, "There are no images that it was not trained on.", None)
    wrong = int(((student >= threshold) != reference).sum())
    says = (
        f"On {plural(len(student), 'image')} that it was not trained on, split by the right answer; "
        f"{number(wrong) if wrong else 'none'} on the wrong side of the threshold."
    )

    def draw(axes: Any) -> None:
        edges = np.linspace(0, 1, BINS + 1)
        no, yes = (np.histogram(student[side], edges)[0] for side in (~reference, reference))
        axes.bar(edges[:-1], no, 0.92 / BINS, align="edge", color=NO)
        axes.bar(edges[:-1], yes, 0.92 / BINS, bottom=no, align="edge", color=YES)
        _scores_axis(axes, "student’s probability of yes", threshold, f"threshold {score(threshold)}")

    return Plot(title, says, svg("student", says, draw), (("yes", "right answer yes"), ("no", "right answer no")))


def losses(training: dict[str, Floats]) -> Plot:
    """Training and validation loss by epoch."""
    return _curves("Loss", training, {"train_loss": ("train", SOFT, "--"), "val_loss": ("val", YES, "-")}, score=False)


def agreement(training: dict[str, Floats]) -> Plot:
    """Agreement with the teacher on the validation images by epoch, in [0, 1]."""
    return _curves("Agreement on val", training, {"val_agreement": ("val", YES, "-")}, score=True)


def precision_recall_plot(student: Floats, reference: Flags, threshold: float) -> Plot:
    """Precision against recall on the test images `(N,)`, with the threshold's point."""
    title = "Precision and recall"
    curve = precision_recall(student, reference)
    if curve is None:
        return Plot(title, _one_sided(reference), None)
    answers = student >= threshold
    hits = int((answers & reference).sum())
    recall, precision = hits / int(reference.sum()), hits / max(int(answers.sum()), 1)
    says = (
        f"At the threshold {share(precision)} of its yeses are right and it finds {share(recall)} of all yeses. "
        f"Average precision {number(curve.average)}; guessing gives {number(float(reference.mean()))}."
    )

    def draw(axes: Any) -> None:
        axes.step(curve.recall, curve.precision, where="pre", color=YES)
        axes.axhline(float(reference.mean()), color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.plot([recall], [precision], "o", color=INK, markersize=5)
        left = recall > 0.5
        spot = (-4 if left else 4, -16)
        axes.annotate(
            f"threshold {score(threshold)}", (recall, precision), spot, textcoords="offset points",
            ha="right" if left else "left",
        )  # fmt: skip
        axes.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel="precision")

    return Plot(title, says, svg("precision-recall", says, draw))


def reliability_plot(student: Floats, reference: Flags) -> Plot:
    """Share of yes against the probability given, on the test images `(N,)`, with 95 % intervals."""
    title = "Can its probabilities be trusted?"
    if not len(student):
        return Plot(title, _one_sided(reference), None)
    bins = reliability(student, reference)
    gap = float(np.average(np.abs(bins.observed - bins.predicted), weights=bins.images))
    says = (
        "Of images given a probability of 0.8, eight in ten should be yes: points on the diagonal. "
        f"Their mean distance from it, the calibration error, is {number(gap, 2)}."
    )

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.9, linestyle=(0, (2, 2)))
        reach = np.abs(np.stack([bins.low, bins.high]) - bins.observed)
        axes.errorbar(bins.predicted, bins.observed, reach, fmt="none", ecolor=YES, elinewidth=1, alpha=0.55)
        axes.scatter(bins.predicted, bins.observed, 14 + 60 * bins.images / bins.images.max(), color=YES, linewidths=0)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="probability given", ylabel="share that is yes")

    return Plot(title, says, svg("reliability", says, draw))


def _one_sided(reference: Flags) -> str:
    if not len(reference):
        return "Not drawn: there are no test images."
    side = "yes" if reference.all() else "no"
    return f"Not drawn: the {plural(len(reference), 'test image')} are all {side}, and the curve needs both answers."


def _curves(title: str, columns: dict[str, Floats], lines: dict[str, tuple[str, str, str]], *, score: bool) -> Plot:
    drawn = {name: columns[name] for name in lines if np.isfinite(columns.get(name, np.empty(0))).any()}
    if not drawn:
        return Plot(title, "Not drawn: the training left no record of it.", None)
    epochs = columns.get("epoch", np.arange(len(next(iter(drawn.values())))))
    word = share if score else number
    ends = [f"{lines[name][0]} {word(float(values[np.isfinite(values)][-1]))}" for name, values in drawn.items()]
    says = f"{plural(len(epochs), 'epoch')}; at the end {', '.join(ends)}."

    def draw(axes: Any) -> None:
        for name, values in drawn.items():
            label, color, dashes = lines[name]
            finite = np.isfinite(values)
            axes.plot(epochs[finite], values[finite], dashes, color=color, label=label, marker="o" * (len(epochs) < 3))
        if len(drawn) > 1:
            axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="epoch")
        axes.margins(x=0.01)

    return Plot(title, says, svg(title.lower().replace(" ", "-"), says, draw))


def _scores_axis(axes: Any, label: str, line: float, name: str) -> None:
    axes.axvline(line, color=INK, linewidth=1, linestyle=(0, (3, 2)))
    place = (4, "left") if line < 0.7 else (-4, "right")
    axes.annotate(
        name, (line, 1), (place[0], 2), xycoords=("data", "axes fraction"), textcoords="offset points", ha=place[1]
    )
    axes.set(xlim=(-0.005, 1.005), xlabel=label, ylabel="images")
    axes.yaxis.get_major_locator().set_params(integer=True, nbins=5)
