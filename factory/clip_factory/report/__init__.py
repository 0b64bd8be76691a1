"""What people read of a run: a report to look at, and a model card that travels with the model."""

from __future__ import annotations

from clip_factory.labels import Labels
from clip_factory.readiness import Readiness, assess
from clip_factory.report import labels_page, model_card, report_page
from clip_factory.report.run_data import read_run_data
from clip_factory.run_folder import CARD, LABELS_PAGE, REPORT, RunFolder
from clip_factory.runtime.atomic import write_text
from clip_factory.scenario import Scenario

__all__ = ["write_card", "write_labels", "write_report"]


def write_report(scenario: Scenario, run: RunFolder) -> None:
    """Write report.html: one page with everything inside, pictures included.

    Raises:
        RunError: An earlier stage has not made its file; the message names the command that does.
        ModelError: model.onnx is not a model of this factory.
    """
    text = report_page.render(read_run_data(scenario, run))
    write_text(run.file(REPORT), text)


def write_card(scenario: Scenario, run: RunFolder) -> None:
    """Write card.md: a model card in the Hugging Face format, with evaluation results in its front matter.

    Raises:
        RunError: An earlier stage has not made its file; the message names the command that does.
        ModelError: model.onnx is not a model of this factory.
    """
    text = model_card.render(read_run_data(scenario, run))
    write_text(run.file(CARD), text)


def write_labels(scenario: Scenario, run: RunFolder) -> Readiness:
    """Write labels.html, a page with the likeliest, most doubtful and least likely photos, and say what it says.

    Raises:
        RunError: The run has no labels; the message names the command that makes them.
    """
    labels = Labels.of_run(run)
    readiness = assess(labels)
    write_text(run.file(LABELS_PAGE), labels_page.render(scenario, run, readiness, labels))
    return readiness
