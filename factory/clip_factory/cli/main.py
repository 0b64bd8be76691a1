"""The `factory` command: verbs that parse, call one function of the API and print."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Annotated, NoReturn

import typer

from clip_factory import __version__
from clip_factory.cli import (
    completion,
    encoders_commands,
    model_commands,
    prompts_commands,
    stage_commands,
    store_commands,
)
from clip_factory.cli.evaluate_commands import compare, evaluate
from clip_factory.cli.predict_commands import drift, predict
from clip_factory.cli.publish_command import publish
from clip_factory.cli.review_command import review
from clip_factory.cli.search_command import search
from clip_factory.cli.setup_commands import demo, doctor, new
from clip_factory.cli.threshold_command import threshold
from clip_factory.cli.zeroshot_command import zeroshot
from clip_factory.terminal import out, run_app

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
app.command()(new)
app.command()(stage_commands.run)
app.command()(stage_commands.scan)
app.command()(stage_commands.label)
app.command()(review)
app.command()(stage_commands.train)
app.command()(stage_commands.export)
app.command()(evaluate)
app.command("gate", hidden=True)(evaluate)
app.command()(stage_commands.report)
app.command()(publish)
app.command()(predict)
app.command()(drift)
app.command()(threshold)
app.command()(compare)
app.command()(zeroshot)
app.command()(search)
app.command()(demo)
app.command()(doctor)
app.add_typer(prompts_commands.app)
app.add_typer(encoders_commands.app)
app.add_typer(model_commands.app)
app.add_typer(store_commands.app)


def main() -> NoReturn:
    """Run the command line; errors of the factory become one message and exit code 2."""
    # Threads of torch that wait by spinning slow each other down several times on a machine that others use too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    asked_by_bash = os.environ.get("_FACTORY_COMPLETE") == "complete_bash"
    with completion.for_bash(os.environ) if asked_by_bash else nullcontext():
        run_app(app)


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
