"""`factory publish`: a run becomes the next version of its model."""

from __future__ import annotations

from typing import Annotated

import typer

from clip_factory import api
from clip_factory.cli.options import ByOption, RunArgument, SigningKeyOption, TargetRegistryOption
from clip_factory.cli.registry_output import gated, moment, print_move
from clip_factory.cli.run_output import named_run
from clip_factory.terminal import err, out, plain


def publish(
    run: RunArgument,
    registry: TargetRegistryOption = "",
    alias: Annotated[str | None, typer.Option("--alias", help="Let this alias stand for it, such as champion.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Although the gate refused it; the card will say so.")] = False,
    allow_unproven: Annotated[
        bool,
        typer.Option("--allow-unproven", help="Although it is not proven; the card will say so."),
    ] = False,
    key: SigningKeyOption = None,
    by: ByOption = "",
) -> None:
    """Publish a run as the next version of its model; the last line printed is NAME@VERSION.

    Exit codes: 1 the gate refused the run, and it was not forced; 4 it is not proven, and that was not allowed.

    Example:  factory publish runs/forklift/2026-11-21T09-00-00 --registry registry/ --alias champion
    """
    named = named_run(run)
    with gated():
        done = api.publish(named, registry, alias=alias, force=force, allow_unproven=allow_unproven, key=key, by=by)
    release = done.release
    if not done.new:
        err.print(f"{release} has these very bytes already, published {moment(release.created)} by {plain(release.by)}")
    if alias is not None:
        print_move(done.move, release, alias)
    out.print(f"{release}", markup=False)
