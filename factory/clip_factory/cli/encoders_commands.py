"""`factory encoders ...`: which there are, and which is best on one's own folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clip_factory import api
from clip_factory.cli.encoders_serve_command import serve
from clip_factory.cli.options import Form, FormOption, PhotosArgument, StoreOption
from clip_factory.cli.stage_commands import stoppable
from clip_factory.terminal import DONE, SOME_UNREADABLE, err, out, plain, table

if TYPE_CHECKING:
    from clip_factory.encoders.encoder_catalog import CatalogEntry
    from clip_factory.zeroshot.encoder_comparison import Trial

app = typer.Typer(name="encoders", help="Encoders: which there are, and which is best here.", no_args_is_help=True)
app.command()(serve)


@app.callback()
def _root() -> None:
    pass


@app.command("list")
def list_encoders(
    pattern: Annotated[str, typer.Argument(help="A part of the name.", metavar="[TEXT]")] = "",
    cached: Annotated[bool, typer.Option("--cached", help="Only those whose weights are on this machine.")] = False,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="Only those whose license is known to allow commercial use.")
    ] = False,
    form: FormOption = Form.table,
) -> None:
    """List the encoders that open_clip knows, with published accuracy, size, speed and license; the best first.

    Example:  factory encoders list SigLIP2 --commercial
    """
    entries = [
        one
        for one in api.encoders()
        if pattern.casefold() in one.name.casefold()
        and (one.cached or not cached)
        and (one.commercial or not commercial)
    ]
    entries.sort(key=lambda one: -(one.top1 or 0))
    if form is Form.json:
        print(json.dumps([{"name": one.name, "speed": one.speed, **asdict(one)} for one in entries]))  # noqa: T201
        return
    heads = ("encoder", "ImageNet", "million weights", "GFLOPs", "speed", "pixels", "license", "commercial", "cached")
    out.print(table(heads, map(_cells, entries)))
    err.print("ImageNet: published zero-shot top-1. An empty cell: no figure with a source. See docs/encoders.md")


def _cells(one: CatalogEntry) -> tuple[object, ...]:
    allowed = {True: "yes", False: "no", None: "not known"}[one.commercial]
    return (
        one.name,
        "" if one.top1 is None else f"{one.top1:.1%}",
        "" if one.parameters_m is None else f"{one.parameters_m:,.0f}",
        "" if one.gflops is None else f"{one.gflops:,.1f}",
        one.speed or "",
        one.image_size or "",
        one.license,
        allowed,
        "yes" if one.cached else "",
    )


class Precision(StrEnum):
    """Number formats of an exported encoder's weights."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


@app.command("export")
def export(
    encoder: Annotated[
        str, typer.Argument(help="offline, MODEL/WEIGHTS, hf-hub:..., local-dir:..., auto", metavar="ENCODER")
    ],
    folder: Annotated[Path, typer.Option("--out", help="New folder.", metavar="DIR")],
    precision: Annotated[
        Precision, typer.Option("--precision", help="fp16 is half, int8 a quarter of the size.")
    ] = Precision.fp32,
) -> None:
    """Write an encoder as ONNX files that run without torch: a teacher `onnx:DIR`, and `clip_factory.runtime.ZeroShot`.

    Its vectors are compared to torch's before the folder is there.

    Example:  factory encoders export offline --out encoder/
    """
    with stoppable():
        made = api.export_encoder(encoder, folder, precision=precision.value)
    err.print(f"license of the weights: {made.license}", markup=False)
    out.print(
        f"{made.path}: {made.name} in {made.precision}, {made.bytes / 1e6:,.0f} MB; least cosine to torch's vectors "
        f"{made.image_cosine:.6f} of images, {made.text_cosine:.6f} of texts",
        markup=False,
        soft_wrap=True,
    )
    err.print(f"next: factory zeroshot PHOTOS --classes cat,dog --encoder onnx:{made.path}", markup=False)


@app.command("compare")
def compare(
    photos: PhotosArgument,
    names: Annotated[
        list[str],
        typer.Argument(help="Encoders: offline, MODEL/WEIGHTS, hf-hub:..., local-dir:...", metavar="ENCODER..."),
    ],
    templates: Annotated[str, typer.Option("--templates", help="Named set for the folder names.")] = "photo",
    form: FormOption = Form.table,
    store: StoreOption = None,
) -> None:
    """Compare encoders on a folder of class folders: accuracy, photos a second, memory, license.

    Exit code 3: one of them could not be tried.

    Example:  factory encoders compare photos/ offline ViT-B-32-256/datacomp_s34b_b86k
    """
    with stoppable():
        trials = api.compare_encoders(names, photos, templates=templates, store=store)
    if form is Form.json:
        print(json.dumps([asdict(one) for one in trials]))  # noqa: T201
    else:
        out.print(table(("encoder", "right", "photos/s", "memory", "length", "license"), map(_trial, trials)))
    for one in trials:
        if one.error:
            err.print(f"{plain(one.name)}: {plain(one.error)}", style="red")
    raise typer.Exit(SOME_UNREADABLE if any(one.error for one in trials) else DONE)


def _trial(one: Trial) -> tuple[object, ...]:
    if one.error:
        return one.name, "not tried", "", "", "", ""
    right = "{:.1%} ({:.1%} to {:.1%})".format(one.top1.figure, *one.top1.interval) if one.top1 else "no class folders"
    memory = "" if one.memory_mb is None else f"{one.memory_mb:,.0f} MB"
    return one.name, right, f"{one.photos_per_second:,.1f}", memory, one.dim, one.license
