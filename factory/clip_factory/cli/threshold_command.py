"""`factory threshold`: where the line between no and yes lies, what each need would make of it, and to move it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clip_factory.cli import completion
from clip_factory.cli.verdict_output import exit_code, print_verdict
from clip_factory.terminal import err, out, table

if TYPE_CHECKING:
    from clip_factory.export.threshold import Cut
    from clip_factory.scenario import Need, Scenario

NAMED: tuple[Literal["break-even", "balanced"], ...] = ("break-even", "balanced")
STATED: tuple[dict[str, float], ...] = (
    {"false_alarms": 0.01},
    {"false_alarms": 0.05},
    {"recall": 0.9},
    {"precision": 0.9},
)
"""The needs that are shown beside the run's own."""
RunArgument = Annotated[
    Path,
    typer.Argument(
        help="The folder of a run; a folder of runs, or `latest`, for the newest.",
        metavar="RUN",
        show_default=False,
        autocompletion=completion.runs,
    ),
]


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
    from clip_factory.run_folder import find_run

    folder = find_run(run)
    err.print(f"threshold of {folder.path}", markup=False)
    if named:
        _move(folder.path, named[0], store)
    else:
        _show(folder.path)


def _show(run: Path) -> None:
    """A row for the run's own need and for each usual one."""
    from clip_factory.export import cut_for
    from clip_factory.run_folder import SCENARIO, RunFolder
    from clip_factory.scenario import Target, load

    folder, scenario = RunFolder.open(run), load(run / SCENARIO)
    needs: list[Need] = [scenario.need, *NAMED, *map(Target.model_validate, STATED)]
    cuts = [cut_for(folder, need) for need in dict.fromkeys(needs)]
    out.print(table(("target", "threshold", "95 % interval", "recall", "precision", "false alarms"), map(_row, cuts)))
    first = cuts[0]
    err.print(
        f"the first is this run's own; expected on {first.images} photos that it was not trained on, against "
        f"{first.against}; of all photos {first.base_rate:.1%} are yes",
        markup=False,
    )


def _row(cut: Cut) -> Sequence[object]:
    low, high = cut.interval
    shares = (f"{share:.1%}" for share in (cut.recall, cut.precision, cut.false_alarms))
    target = cut.target if cut.reached else f"{cut.target}: out of reach, the nearest"
    return (target, f"{cut.threshold:.3f}", f"{low:.3f} to {high:.3f}", *shares)


def _move(run: Path, target: Any, store: Path | None) -> None:
    """Write the target into the run, and take the run through to its report."""
    from clip_factory import pipeline
    from clip_factory import run_request as start
    from clip_factory.errors import RunError
    from clip_factory.export import cut_for
    from clip_factory.run_folder import HELD_OUT, LABELS, MODEL, SCENARIO, STUDENT, RunFolder, atomic
    from clip_factory.scenario import dump, load

    with start.hold(RunFolder.open(run)) as folder:
        for name in (LABELS, STUDENT, HELD_OUT, MODEL):
            folder.need(name, "run")
        scenario = _with_target(load(folder.file(SCENARIO)), target)
        best = cut_for(folder, scenario.need)
        if not best.reached:
            raise RunError(
                f"no threshold has {best.target}: the nearest, {best.threshold:g}, has {best.precision:.1%}",
                hint="ask for less, or better the labels: factory review RUN",
            )
        with atomic(folder.file(SCENARIO)) as temporary:
            temporary.write_text(dump(scenario), encoding="utf-8")
        pipeline.run(folder, store or start.default_store(), since="export")
        _show(run)
        print_verdict(folder)
        raise typer.Exit(exit_code(pipeline.verdict(folder).state))


def _with_target(scenario: Scenario, target: Any) -> Scenario:
    """The same scenario with another target, costs in their older form put aside.

    Raises:
        ScenarioError: The gate asks for more than the target aims at.
    """
    from clip_factory.scenario import validated

    tree = scenario.model_dump()
    gate = tree["gate"] | {"false_yes_cost": 1.0, "false_no_cost": 1.0}
    return validated(tree | {"target": target, "gate": gate})
