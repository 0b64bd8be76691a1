"""The stages as commands, and `factory run`, which takes a scenario or a run through all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from clip_factory import api
from clip_factory.api import Run
from clip_factory.cli.options import (
    AllowUnprovenOption,
    GoldOption,
    GoOnOption,
    ImagesOption,
    ResumeOption,
    RunsOption,
    StoreOption,
    Target,
    TeacherOption,
)
from clip_factory.cli.run_output import exit_code, print_run
from clip_factory.errors import LabelsError
from clip_factory.terminal import REFUSED, STOPPED, err, out


@contextmanager
def stoppable() -> Iterator[None]:
    """Leave with an exit code of its own where the labels carry nothing, or where a person stops the run."""
    try:
        yield
    except KeyboardInterrupt:
        err.print("stopped; the same command goes on from here")
        raise typer.Exit(STOPPED) from None
    except LabelsError as error:  # no wrong input: the labels are made, and refused as a model would be
        err.print(f"refused: {error}", style="red", markup=False)
        if error.run is not None:
            out.print(str(error.run), markup=False)
        raise typer.Exit(REFUSED) from None


def run(
    target: Target,
    images: ImagesOption = None,
    teacher: TeacherOption = None,
    runs: RunsOption = api.RUNS,
    gold: GoldOption = None,
    resume: ResumeOption = True,
    go_on: GoOnOption = False,
    store: StoreOption = None,
    allow_unproven: AllowUnprovenOption = False,
) -> None:
    """Run all stages: photos and a question in, a gated model and a report out.

    The last line printed is the run folder. Exit codes: 0 passed; 4 not proven, as long as too few test photos have
    labels from people; 1 the gate refused the student, or the labels carry nothing to train on.

    Example:  factory run forklift.yaml --images photos/ --teacher offline
    """
    with stoppable():
        done = api.run(
            target, images=images, teacher=teacher, gold=gold, runs=runs, store=store, resume=resume, go_on=go_on
        )
    print_run(done)
    raise typer.Exit(exit_code(done, allow_unproven=allow_unproven))


def scan(
    target: Target,
    images: ImagesOption = None,
    runs: RunsOption = api.RUNS,
    resume: ResumeOption = True,
    store: StoreOption = None,
) -> None:
    """Find, check and group the photos; go no further.

    Writes images.parquet: every file found, used or not, with the reason.

    Example:  factory scan forklift.yaml --images photos/
    """
    with stoppable():
        done = api.scan(target, images=images, runs=runs, store=store, resume=resume)
    out.print(str(done.path), markup=False)


def stage_command(stage: Callable[..., Run], text: str) -> Callable[..., None]:
    """A command that takes a scenario, or a run, through the stages up to this one, and prints the run folder."""

    def command(
        target: Target,
        images: ImagesOption = None,
        teacher: TeacherOption = None,
        runs: RunsOption = api.RUNS,
        gold: GoldOption = None,
        resume: ResumeOption = True,
        go_on: GoOnOption = False,
        store: StoreOption = None,
    ) -> None:
        with stoppable():
            done = stage(
                target, images=images, teacher=teacher, gold=gold, runs=runs, store=store, resume=resume, go_on=go_on
            )
        out.print(str(done.path), markup=False)

    command.__name__, command.__doc__ = stage.__name__, text
    return command


label = stage_command(
    api.label,
    """Label the photos with the teacher, split them, and say whether it can know the answer; go no further.

    Writes labels.html, a page with the likeliest and the most doubtful photos. Exit code 1: the labels carry nothing.

    Example:  factory label forklift.yaml --images photos/""",
)
train = stage_command(
    api.train,
    """Train the student, after whatever stage before it is out of date.

    Example:  factory train runs/forklift/2026-11-21T09-00-00 --fresh""",
)
export = stage_command(
    api.export,
    """Export the student to one ONNX file within the budget.

    Example:  factory export runs/forklift/2026-11-21T09-00-00""",
)
report = stage_command(
    api.report,
    """Write report.html and card.md, after whatever stage before is out of date.

    Example:  factory report runs/forklift/2026-11-21T09-00-00""",
)
