"""`factory evaluate` and `factory compare`: the gate applied to a run, and models measured by people's labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from clip_factory import api
from clip_factory.cli import completion
from clip_factory.cli.evaluation_output import print_evaluation, print_joint_evaluation, print_unreadable
from clip_factory.cli.options import (
    AllowUnprovenOption,
    Form,
    FormOption,
    GoOnOption,
    LabeledImagesOption,
    LookupKeyOption,
    LookupOption,
    ResumeOption,
    StoreOption,
    TeacherOption,
)
from clip_factory.cli.run_output import exit_code, print_verdict
from clip_factory.cli.stage_commands import stoppable
from clip_factory.terminal import DONE, SOME_UNREADABLE, err, out

if TYPE_CHECKING:
    from clip_factory.evaluation.measure import Evaluation


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="A run, `latest`, or a scenario; with --gold a model file, a run, or a name in a registry.",
            metavar="RUN|MODEL",
            show_default=False,
            autocompletion=completion.measurable,
        ),
    ],
    gold: Annotated[
        Path | None,
        typer.Option(
            "--gold",
            help="Measure by these labels from people: CSV with the columns path,label; or a gold.parquet.",
            metavar="CSV",
            show_default=False,
        ),
    ] = None,
    images: LabeledImagesOption = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Write evaluation.html, evaluation.json, predictions.csv here. Of a scenario: its folder of runs.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    registry: LookupOption = None,
    public_key: LookupKeyOption = None,
    form: FormOption = Form.table,
    teacher: TeacherOption = None,
    resume: ResumeOption = True,
    go_on: GoOnOption = False,
    store: StoreOption = None,
    allow_unproven: AllowUnprovenOption = False,
) -> None:
    """Apply the gate to a run; or, with --gold, measure a model on any labeled folder.

    Of a run: what the gate asks, what was measured, and the verdict. Exit codes: 1 refused, 4 not proven. With --gold:
    found, missed, false alarms, at its own threshold and at others; it measures, and there is no verdict. Exit code 3:
    some labeled photos could not be read, the rest are done.

    Example:  factory evaluate latest

    Example:  factory evaluate model.onnx --gold truth.csv --images photos/ --out evaluation/
    """
    if folder is not None and gold is not None:
        from clip_factory.evaluation.evaluation_files import check_folder

        check_folder(folder, gold)
    with stoppable():
        result = api.evaluate(
            model,
            gold=gold,
            images=images,
            registry=registry,
            public_key=public_key,
            teacher=teacher,
            runs=folder or api.RUNS,
            store=store,
            resume=resume,
            go_on=go_on,
        )
    if not isinstance(result, api.Run):
        _finish_measuring(result, folder, form)
    print_verdict(result)
    out.print(str(result.path), markup=False)
    raise typer.Exit(exit_code(result, allow_unproven=allow_unproven))


def _finish_measuring(evaluation: Evaluation, folder: Path | None, form: Form) -> NoReturn:
    from clip_factory.evaluation.evaluation_files import write_evaluation
    from clip_factory.evaluation.measure import as_json

    if form is Form.json:
        print(json.dumps(as_json(evaluation), ensure_ascii=False))  # noqa: T201
    else:
        print_evaluation(evaluation)
    if folder is not None:
        err.print(f"page: {write_evaluation(evaluation, folder)}", markup=False)
    else:
        err.print("the mistakes as a page: --out DIR")
    print_unreadable(evaluation.unreadable)
    raise typer.Exit(SOME_UNREADABLE if evaluation.unreadable else DONE)


def compare(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more: runs, model files, names in a registry. The first is what the others are compared with.",
            metavar="A B...",
            show_default=False,
            autocompletion=completion.models,
        ),
    ],
    gold: Annotated[
        Path | None,
        typer.Option(
            "--gold",
            help="Labels from people: CSV with the columns path,label; or a gold.parquet. Else what the runs hold.",
            metavar="CSV",
            show_default=False,
        ),
    ] = None,
    images: LabeledImagesOption = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Write compare.html and compare.json here.", metavar="DIR", show_default=False),
    ] = None,
    registry: LookupOption = None,
    public_key: LookupKeyOption = None,
    form: FormOption = Form.table,
) -> None:
    """Say in one line which model is better, by the same people's labels on photos that none of them has seen.

    Exit code 3: some labeled photos could not be read, the rest are done.

    Example:  factory compare runs/ball/2026-11-21T09-00-00 runs/ball/latest --out comparison/
    """
    joint = api.compare(models, gold=gold, images=images, registry=registry, public_key=public_key)
    if form is Form.json:
        print(json.dumps(joint.as_json(), ensure_ascii=False))  # noqa: T201
    else:
        print_joint_evaluation(joint)
    if folder is not None:
        from clip_factory.evaluation.evaluation_files import write_comparison

        err.print(f"page: {write_comparison(joint, folder)}", markup=False)
    else:
        err.print("the photos that change side as a page: --out DIR")
    print_unreadable(joint.sample.unreadable)
    raise typer.Exit(SOME_UNREADABLE if joint.sample.unreadable else DONE)
