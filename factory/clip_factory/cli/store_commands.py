"""`factory store ...`: what is kept of photos, looked after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clip_factory import api
from clip_factory.cli.options import StoreOption
from clip_factory.cli.stage_commands import stoppable
from clip_factory.terminal import DONE, REFUSED, err, out, plain

SHOWN = 20
"""Files named of each kind of finding."""

app = typer.Typer(name="store", help="Look after what is kept of photos: vectors and hashes.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    pass


@app.command()
def check(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of photos, beside those that earlier scans saw.", metavar="[DIR]..."),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take out what is wrong; it is computed anew when it is needed.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Hash and embed the photos that the store knows anew, and say where it holds something else.

    Exit code 1: something is wrong, and was not repaired.

    Example:  factory store check photos/ --repair
    """
    with stoppable():
        result = api.check_store(folders or [], repair=repair, store=store)
    for line in result.not_checked[:SHOWN]:
        err.print(f"not checked: {plain(line)}")
    wrong = [f"{plain(path)}: the scan took it for another photo" for path in result.wrong_hashes]
    wrong += [f"{plain(path)}: its {plain(name)} vector is of another picture" for name, path in result.wrong_vectors]
    for line in wrong[:SHOWN]:
        out.print(line)
    if len(wrong) > SHOWN:
        out.print(f"and {len(wrong) - SHOWN:,} more")
    done = "taken out" if repair else "wrong"
    out.print(f"{result.photos:,} photos hashed, {result.vectors:,} vectors compared, {len(wrong):,} {done}")
    if wrong and not repair:
        err.print("take it out: factory store check --repair")
    raise typer.Exit(DONE if repair or result.clean else REFUSED)
