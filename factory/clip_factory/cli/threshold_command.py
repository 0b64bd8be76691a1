"""`factory threshold`: where the threshold lies, where each need would put it, and to move it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_factory import api
from clip_factory.api import Run
from clip_factory.cli.options import RunArgument
from clip_factory.cli.run_output import exit_code, print_verdict
from clip_factory.terminal import err, out, table

if TYPE_CHECKING:
    from clip_factory.exporters.threshold import Threshold

USUAL: tuple[Any, ...] = (
    *("break-even", "balanced"),
    *({"false_alarms": 0.01}, {"false_alarms": 0.05}, {"recall": 0.9}, {"precision": 0.9}),
)
"""The targets that are shown beside the run's own."""


def _share(name: str, help_text: str) -> Any:
    return typer.Option(name, min=0, max=1, help=help_text, metavar="SHARE", show_default=False)


def threshold(
    run: RunArgument,
    false_alarms: Annotated[
        float | None, _share("--false-alarms", "Of the no photos, so many may be called yes.")
    ] = None,
    recall: Annotated[float | None, _share("--recall", "Of the yes photos, so many are to be found.")] = None,
    precision: Annotated[float | None, _share("--precision", "Of its yeses, so many are to be right.")] = None,
    at: Annotated[float | None, _share("--at", "This very probability.")] = None,
    break_even: Annotated[bool, typer.Option("--break-even", help="As many false alarms as misses.")] = False,
    balanced: Annotated[bool, typer.Option("--balanced", help="Yes and no photos weigh alike.")] = False,
    store: Annotated[Path | None, typer.Option("--store", envvar="FACTORY_STORE", metavar="DIR", hidden=True)] = None,
) -> None:
    """Show where each need would put the threshold; with a need, move it there and judge the model again.

    Takes seconds and trains nothing: the weights of model.onnx stay the same bytes. The need is written into the
    run's scenario.yaml as `target`.

    Example:  factory threshold runs/forklift/2026-11-21T09-00-00 --false-alarms 0.01
    """
    shares = {"false_alarms": false_alarms, "recall": recall, "precision": precision, "threshold": at}
    named: list[Any] = [{key: share} for key, share in shares.items() if share is not None]
    outside = [share for share in shares.values() if share is not None and not 0 < share < 1]
    if outside:
        raise typer.BadParameter(f"{outside[0]:g} must lie between 0 and 1, and be neither")
    named += ["break-even"] * break_even + ["balanced"] * balanced
    if len(named) > 1:
        raise typer.BadParameter("name one need, not several")
    chosen = api.load_run(run)
    err.print(f"threshold of {chosen.path}", markup=False)
    if not named:
        _print_thresholds(chosen)
        return
    moved = api.set_threshold(chosen, named[0], store=store)
    _print_thresholds(moved)
    print_verdict(moved)
    raise typer.Exit(exit_code(moved))


def _print_thresholds(run: Run) -> None:
    """A row for the run's own target and for each usual one."""
    thresholds = api.thresholds(run, USUAL)
    heads = ("target", "threshold", "95 % interval", "recall", "precision", "false alarms")
    out.print(table(heads, map(_row, thresholds)))
    first = thresholds[0]
    err.print(
        f"the first is this run's own; expected on {first.images} photos that it was not trained on, against "
        f"{first.against}; of all photos {first.base_rate:.1%} are yes",
        markup=False,
    )


def _row(one: Threshold) -> Sequence[object]:
    low, high = one.interval
    shares = (f"{share:.1%}" for share in (one.recall, one.precision, one.false_alarms))
    target = one.target if one.reached else f"{one.target}: out of reach, the nearest"
    return (target, f"{one.threshold:.3f}", f"{low:.3f} to {high:.3f}", *shares)
