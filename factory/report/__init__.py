"""What people read of a run: a report to look at, and a model card that travels with the model."""

from __future__ import annotations

from factory.artifacts import CARD, REPORT, RunFolder, atomic
from factory.report import card, page
from factory.report.evidence import gather
from factory.scenario import Scenario

__all__ = ["write_card", "write_report"]


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
