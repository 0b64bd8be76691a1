"""What people read of a run: a report to look at, and a model card that travels with the model."""

from __future__ import annotations

from clip_factory.readiness import Readiness, assess
from clip_factory.report import labels_page as before
from clip_factory.report import model_card as card
from clip_factory.report import report_page as page
from clip_factory.report.run_data import gather
from clip_factory.run_folder import CARD, LABELS, LABELS_PAGE, REPORT, RunFolder, atomic
from clip_factory.scenario import Scenario

__all__ = ["write_card", "write_labels", "write_report"]


def write_report(scenario: Scenario, run: RunFolder) -> None:
    """Write report.html: one page with everything inside, pictures included.

    Raises:
        RunError: An earlier stage has not made its file; the message names the command that does.
        ModelError: model.onnx is not a model of this factory.
    """
    text = page.render(gather(scenario, run))
    with atomic(run.file(REPORT)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_card(scenario: Scenario, run: RunFolder) -> None:
    """Write card.md: a model card in the Hugging Face format, with evaluation results in its front matter.

    Raises:
        RunError: An earlier stage has not made its file; the message names the command that does.
        ModelError: model.onnx is not a model of this factory.
    """
    text = card.render(gather(scenario, run))
    with atomic(run.file(CARD)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_labels(scenario: Scenario, run: RunFolder) -> Readiness:
    """Write labels.html, a page with the likeliest, most doubtful and least likely photos, and say what it says.

    Raises:
        RunError: The run has no labels; the message names the command that makes them.
    """
    labels = run.table(LABELS, "label")
    found = assess(labels)
    with atomic(run.file(LABELS_PAGE)) as temporary:
        temporary.write_text(before.render(scenario, run, found, labels), encoding="utf-8")
    return found
