"""`factory review`: people's answers, on a page in the browser or from other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clip_factory import api
from clip_factory.cli.options import RunArgument, StoreOption
from clip_factory.cli.run_output import named_run
from clip_factory.terminal import err, out


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
    named = named_run(run)
    err.print(f"review of {named.path}", markup=False)
    if source or target:
        report = api.exchange_answers(named, source=source, target=target, reviewer=reviewer, store=store)
        err.print(report, markup=False)
        return
    page = api.review(named, reviewer=reviewer, port=port, prove=prove, store=store)
    err.print("answers are saved as they are given; Ctrl-C ends")
    page.serve(lambda url: out.print(url, markup=False), browser=browser)
