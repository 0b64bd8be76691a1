"""What commands say of a gate: the clauses, the verdict, what has changed since the last run, and the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clip_factory import run_folder as files
from clip_factory.terminal import DONE, NOT_PROVEN, REFUSED, err, gate_table, out

if TYPE_CHECKING:  # everything past the base install is imported where a command needs it
    from clip_factory.gate.verdict import State
    from clip_factory.run_folder import RunFolder


def print_change(folder: RunFolder) -> None:
    """What has changed since the last run of the same name, where people's labels can tell."""
    from clip_factory.evaluation.previous_run import since_last

    if line := since_last(folder):
        err.print(line, markup=False)


def print_verdict(folder: RunFolder) -> None:
    """The clauses, the verdict, why it is not `passed`, and what to do next."""
    from clip_factory import pipeline

    verdict = pipeline.verdict(folder)
    out.print(gate_table(folder.json(files.GATE, "gate")["clauses"]))
    out.print(f"{verdict.state.upper()}: {verdict.headline}", style="bold", markup=False)
    for reason in verdict.reasons:
        out.print(f"  {reason}", markup=False)
    if verdict.state == "not proven":
        err.print(_how_to_prove(folder), markup=False)


def _how_to_prove(folder: RunFolder) -> str:
    """What would show more: answers to test photos while there are such without one, else more photos."""
    labels = folder.table(files.LABELS, "label")
    open_ones = sum(
        split == "test" and gold is None
        for split, gold in zip(labels["split"].to_pylist(), labels["gold"].to_pylist(), strict=True)
    )
    if not open_ones:
        return "to prove it, add photos: all test photos are labeled, and they are too few"
    return f"to prove it, answer some of {open_ones:,} random test photos: factory review {folder.path} --prove"


def exit_code(state: State, *, allow_unproven: bool = False) -> int:
    """The exit code that stands for a verdict."""
    return {"passed": DONE, "refused": REFUSED, "not proven": DONE if allow_unproven else NOT_PROVEN}[state]
