"""`factory encoders serve`: an encoder for other machines and processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clip_factory import api
from clip_factory.terminal import err, out


def serve(
    encoder: Annotated[
        str,
        typer.Argument(help="auto, offline, MODEL/WEIGHTS, hf-hub:..., local-dir:..., onnx:DIR.", metavar="[ENCODER]"),
    ] = "auto",
    host: Annotated[
        str, typer.Option(help="Address or name to listen at; one that others can reach needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8600,
    token: Annotated[
        Path | None,
        typer.Option(
            help="File with the token that clients must bring; else $FACTORY_ENCODER_TOKEN.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, max=4096, help="Photos that the encoder is handed at once.")] = 64,
    max_wait: Annotated[
        float, typer.Option(min=0, max=1000, help="Milliseconds that a batch which is not full waits for more.")
    ] = 5,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Photos that may wait; requests beyond are told to come again.")
    ] = 1024,
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Of one photo.")] = 178,
    max_megabytes: Annotated[float, typer.Option(min=0.001, help="Of the bodies of all requests at once.")] = 1100,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that a request waits for its vectors.")] = 120,
) -> None:
    """Serve an encoder: its clients name the address as their teacher, and share its batches.

    Prints the address, and serves it until Ctrl-C. Photos arrive as pixels and are kept no longer than their request;
    nothing is written to the disk. For https put a reverse proxy before it: docs/remote_encoder.md.

    Example:  factory encoders serve offline

    Example:  factory label ball.yaml --teacher http://127.0.0.1:8600
    """
    server = api.serve_encoder(
        encoder,
        host=host,
        port=port,
        token=token,
        max_batch=max_batch,
        max_wait=max_wait / 1000,
        max_waiting=max_waiting,
        max_pixels=round(max_megapixels * 1e6),
        max_held=round(max_megabytes * 1e6),
        timeout=timeout,
    )
    err.print(f"{server.encoder.name} is loaded; Ctrl-C ends", markup=False)
    server.serve(lambda url: out.print(url, markup=False))
