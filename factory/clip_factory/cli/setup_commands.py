"""`factory new`, `factory demo` and `factory doctor`: how one begins, and what this machine has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clip_factory import api
from clip_factory.cli.options import StoreOption
from clip_factory.cli.predict_commands import print_table
from clip_factory.cli.run_output import print_run
from clip_factory.cli.stage_commands import stoppable
from clip_factory.terminal import DONE, REFUSED, err, out, table


def new(
    name: Annotated[str, typer.Argument(help="Name: small letters, digits, dashes.", show_default=False)],
    folder: Annotated[Path, typer.Option("--out", help="Folder for NAME.yaml.", metavar="DIR")] = Path(),
) -> None:
    """Write a commented scenario file to start from.

    Example:  factory new forklift
    """
    path = api.new(name, folder)
    out.print(f"{path}", markup=False)
    err.print(f"edit it, then: factory run {path}", markup=False)


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder for pictures and runs.", metavar="DIR")] = Path("demo"),
    count: Annotated[int, typer.Option(min=60, max=20_000, help="How many pictures to render.")] = 400,
    store: StoreOption = None,
) -> None:
    """Render a set of pictures, run the whole factory on them without a network, and use the model.

    Example:  factory demo
    """
    err.print(f"demo in {folder}: {count} pictures, one question, no network", markup=False)
    with stoppable():
        run, rendered = api.demo(folder, count=count, store=store)
    print_run(run)
    print_table(run.model.iter_predict(rendered.samples))
    out.print(f"model   {run.path / 'model.onnx'}\nreport  {run.report.path}", markup=False)
    raise typer.Exit(REFUSED if run.gate.state == "refused" else DONE)


def doctor() -> None:
    """Say what is installed, which devices there are, and which weights are at hand.

    Example:  factory doctor
    """
    err.print("looking at packages, devices and weights")
    out.print(table(("what", "state", "remedy"), ((one.what, one.state, one.remedy) for one in api.doctor())))
