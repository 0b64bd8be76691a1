"""The `factory` command: verbs that parse, call one function and print."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from clip_factory import __version__
from clip_factory.cli import completion
from clip_factory.cli import evaluate_commands as cli_evaluate
from clip_factory.cli import model_commands as cli_models
from clip_factory.cli import predict_commands as cli_predict
from clip_factory.cli import threshold_command as cli_threshold
from clip_factory.cli.threshold_command import RunArgument
from clip_factory.cli.verdict_output import exit_code, print_change, print_verdict
from clip_factory.run_folder import means_run
from clip_factory.terminal import DONE, REFUSED, STOPPED, err, obey, out, table

if TYPE_CHECKING:  # everything past the base install is imported where a command needs it
    from clip_factory import run_request as start
    from clip_factory.gate.verdict import State

app = typer.Typer(
    name="factory",
    help="Distil CLIP labels into tiny yes/no image classifiers: photos and a question in words go in, "
    "one small ONNX file comes out.",
    epilog="Start here:  factory demo  |  factory new forklift  |  factory run forklift.yaml",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_models.app)


Target = Annotated[
    Path,
    typer.Argument(
        help="Scenario file, or a run: its folder, a folder of runs for the newest in it, or `latest`.",
        metavar="SCENARIO.yaml|RUN",
        show_default=False,
        autocompletion=completion.targets,
    ),
]
ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Folder or archive of photos; overrides the scenario's.", metavar="DIR")
]
TeacherOption = Annotated[
    str | None,
    typer.Option(
        "--teacher", help="auto, offline, MODEL/WEIGHTS, hf-hub:..., local-dir:...; overrides the scenario's."
    ),
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of runs.", metavar="DIR")]
GoldOption = Annotated[
    Path | None, typer.Option("--gold", help="CSV of labels from a person: columns path,label (yes/no).", metavar="CSV")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume/--fresh", help="Go on with a run of this scenario that was cut short, or start anew.")
]
GoOnOption = Annotated[bool, typer.Option("--go-on", help="Train even on labels that carry nothing.")]
AllowUnprovenOption = Annotated[
    bool, typer.Option("--allow-unproven", help="Exit with 0 also where the verdict is `not proven` (run, gate).")
]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="Folder where image vectors are kept.", envvar="FACTORY_STORE", metavar="DIR"),
]


def main() -> NoReturn:
    """Run the command line; errors of the factory become one message and exit code 2."""
    # Threads of torch that wait by spinning slow each other down several times on a machine that others use too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    asked_by_bash = os.environ.get("_FACTORY_COMPLETE") == "complete_bash"
    with completion.for_bash(os.environ) if asked_by_bash else nullcontext():
        obey(app)


def _version(asked: bool) -> None:
    if asked:
        out.print(f"clip-factory {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name: small letters, digits, dashes.", show_default=False)],
    folder: Annotated[Path, typer.Option("--out", help="Folder for NAME.yaml.", metavar="DIR")] = Path(),
) -> None:
    """Write a commented scenario file to start from.

    Example:  factory new forklift
    """
    from clip_factory.scenario import write_example

    path = write_example(name, folder)
    out.print(f"{path}", markup=False)
    err.print(f"edit it, then: factory run {path}", markup=False)


def _verb(name: str, until: str, text: str) -> None:
    """One command that takes a scenario, or a run, through the stages up to `until`."""

    def command(
        target: Target,
        images: ImagesOption = None,
        teacher: TeacherOption = None,
        runs: OutOption = Path("runs"),
        gold: GoldOption = None,
        resume: ResumeOption = True,
        go_on: GoOnOption = False,
        store: StoreOption = None,
        allow_unproven: AllowUnprovenOption = False,
    ) -> None:
        from clip_factory import run_request as start

        changes, kept = start.Changes(images, teacher, gold), store or start.default_store()
        state = _take_through(until, target, changes, runs, kept, resume=resume, go_on=go_on)
        raise typer.Exit(DONE if state is None else exit_code(state, allow_unproven=allow_unproven))

    app.command(name, help=text)(command)


_verb(
    "run",
    "report",
    """Run all stages: photos and a question in, a gated model and a report out.

    The last line printed is the run folder. Exit codes: 0 passed; 4 not proven, as long as too few test photos have
    labels from people; 1 the gate refused the student, or the labels carry nothing to train on.

    Example:  factory run forklift.yaml --images photos/ --teacher offline""",
)
_verb(
    "label",
    "label",
    """Label the photos with the teacher, split them, and say whether it can know the answer; go no further.

    Writes labels.html, a page with the likeliest and the most doubtful photos. Exit code 1: the labels carry nothing.

    Example:  factory label forklift.yaml --images photos/""",
)
_verb(
    "train",
    "train",
    """Train the student, after whatever stage before it is out of date.

    Example:  factory train runs/forklift/2026-11-21T09-00-00 --fresh""",
)
_verb(
    "export",
    "export",
    """Export the student to one ONNX file within the budget.

    Example:  factory export runs/forklift/2026-11-21T09-00-00""",
)
_verb(
    "gate",
    "gate",
    """Hold the model against the rule; exit code 1 if it is refused, 4 if it is not proven.

    Example:  factory gate runs/forklift/2026-11-21T09-00-00""",
)


app.command()(cli_models.publish)


@app.command()
def review(
    run: RunArgument,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port on 127.0.0.1; else the run's last one, or any free one.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
    prove: Annotated[
        bool, typer.Option("--prove", help="Begin with random test photos: they alone show whether the model is right.")
    ] = False,
    reviewer: Annotated[
        str | None, typer.Option(help="Who answers; else the name of the user.", metavar="NAME", show_default=False)
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--import", help="Add answers from FILE.csv, Label Studio's FILE.json, or a folder.", metavar="PATH"
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--export", help="Write the answers to FILE.csv, FILE.json, NAME.fiftyone or a new folder.", metavar="PATH"
        ),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Correct doubtful labels on a page in the browser; nothing leaves this machine.

    Prints the page's address, and serves it until Ctrl-C. Whoever has the address can answer. With --import or
    --export, answers are exchanged and no page is opened. A folder holds yes/ and bad/; photos are copied, never moved.

    Example:  factory review runs/forklift/2026-11-21T09-00-00
    """
    run = cli_models.find(run)
    err.print(f"review of {run}", markup=False)
    from clip_factory import run_request as start
    from clip_factory.gold import exchange  # pulls scikit-learn and more: only now
    from clip_factory.review import launch  # pulls scikit-learn and more: only now

    if source or target:
        err.print(exchange.trade(run, store or start.default_store(), reviewer, source, target), markup=False)
        return
    page = launch.prepare(run, store or start.default_store(), reviewer, port, prove=prove)
    err.print("answers are saved as they are given; Ctrl-C ends")
    page.serve(lambda url: out.print(url, markup=False), browser=browser)


app.command()(cli_threshold.threshold)
app.command()(cli_evaluate.evaluate)
app.command()(cli_evaluate.compare)
app.command()(cli_predict.predict)
app.command()(cli_predict.drift)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", help="Folder for pictures and runs.", metavar="DIR")] = Path("demo"),
    count: Annotated[int, typer.Option(min=60, max=20_000, help="How many pictures to render.")] = 400,
    store: StoreOption = None,
) -> None:
    """Render a set of pictures, run the whole factory on them without a network, and use the model.

    Example:  factory demo
    """
    err.print(f"demo in {folder}: {count} pictures, one question, no network", markup=False)
    from clip_factory import demo as demo_set
    from clip_factory import run_request as start
    from clip_factory.runtime import Model

    made = demo_set.make(folder, count)
    changes = start.Changes(gold=made.truth)
    state = _take_through(
        "report", made.scenario, changes, folder / "runs", store or start.default_store(), resume=True
    )
    latest = start.latest(folder / "runs", made.scenario)
    cli_predict.print_table(Model.load(latest.file("model.onnx")).iter_predict(made.samples))
    out.print(f"model   {latest.file('model.onnx')}\nreport  {latest.file('report.html')}", markup=False)
    raise typer.Exit(REFUSED if state == "refused" else DONE)


@app.command()
def doctor() -> None:
    """Say what is installed, which devices there are, and which weights are at hand.

    Example:  factory doctor
    """
    err.print("looking at packages, devices and weights")
    from clip_factory.doctor import examine  # pulls torch

    out.print(table(("what", "state", "remedy"), ((one.what, one.state, one.remedy) for one in examine())))


def _take_through(
    until: str, target: Path, changes: start.Changes, runs: Path, store: Path, *, resume: bool, go_on: bool = False
) -> State | None:
    """Start or go on with a run; print what the gate says and the run folder. The verdict, where one was asked for."""
    from clip_factory import run_request as start
    from clip_factory.errors import LabelsError

    with start.enter(target, changes, runs, store, resume=resume) as folder:
        from clip_factory import pipeline  # pulls torch: only now, so that wrong input is answered at once

        try:
            pipeline.run(folder, store, until, again=means_run(target) and not resume, go_on=go_on)
        except KeyboardInterrupt:
            err.print("stopped; the same command goes on from here")
            raise typer.Exit(STOPPED) from None
        except LabelsError as error:  # no wrong input: the labels are made, and refused as a model would be
            err.print(f"refused: {error}", style="red", markup=False)
            out.print(str(folder.path), markup=False)
            raise typer.Exit(REFUSED) from None
        judged = until in ("gate", "report")
        if judged:
            print_verdict(folder)
        if until == "report":
            print_change(folder)
            err.print(f"report: {folder.path / 'report.html'}", markup=False)
        out.print(str(folder.path), markup=False)
        return pipeline.verdict(folder).state if judged else None
