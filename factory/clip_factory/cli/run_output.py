"""What commands print of a run: its name, the clauses, the verdict, what to do next; and the exit code."""

from __future__ import annotations

from pathlib import Path

from clip_factory import api
from clip_factory.api import Run
from clip_factory.terminal import DONE, NOT_PROVEN, REFUSED, err, gate_table, out


def named_run(name: Path) -> Run:
    """The run that a RUN argument means; printed on stderr where it was not named itself.

    Raises:
        RunError: There is no such run.
    """
    run = api.load_run(name)
    if run.path != name:
        err.print(f"run {run.path}", markup=False)
    return run


def print_run(run: Run) -> None:
    """What a finished run has come to, and where it is."""
    print_verdict(run)
    if line := run.change:
        err.print(line, markup=False)
    err.print(f"report: {run.report.path}", markup=False)
    out.print(str(run.path), markup=False)


def print_verdict(run: Run) -> None:
    """The clauses, the verdict, why it is not `passed`, and what to do next."""
    gate = run.gate
    out.print(gate_table(gate.clauses))
    out.print(f"{gate.state.upper()}: {gate.verdict.headline}", style="bold", markup=False)
    for reason in gate.verdict.reasons:
        out.print(f"  {reason}", markup=False)
    if gate.state == "not proven":
        err.print(_how_to_prove(run), markup=False)


def _how_to_prove(run: Run) -> str:
    """What would show more: answers to test photos while there are such without one, else more photos."""
    unlabeled = int((~run.labels.of_split("test").labeled).sum())
    if not unlabeled:
        return "to prove it, add photos: all test photos are labeled, and they are too few"
    return f"to prove it, answer some of {unlabeled:,} random test photos: factory review {run.path} --prove"


def exit_code(run: Run, *, allow_unproven: bool = False) -> int:
    """The exit code that stands for the verdict on a run."""
    return {"passed": DONE, "refused": REFUSED, "not proven": DONE if allow_unproven else NOT_PROVEN}[run.gate.state]
