"""`factory search`: the photos of a folder that lie nearest to words or to another photo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clip_factory import api
from clip_factory.cli.options import EncoderOption, PhotosArgument, StoreOption
from clip_factory.cli.stage_commands import stoppable
from clip_factory.terminal import err, out, table


def search(
    photos: PhotosArgument,
    words: Annotated[
        list[str] | None, typer.Argument(help="What is looked for; several are added up.", metavar="[WORDS]...")
    ] = None,
    like: Annotated[
        list[Path] | None, typer.Option("--like", help="A photo that the answer is to be like.", metavar="FILE")
    ] = None,
    minus: Annotated[
        list[str] | None, typer.Option("--minus", help="What the answer is not to be like.", metavar="WORDS")
    ] = None,
    most: Annotated[int, typer.Option("-n", "--number", help="How many photos.", min=1)] = 20,
    files_only: Annotated[
        bool, typer.Option("-f", help="Print the paths only, one a line, for other programs.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option("--page", help="Write the photos as a page.", metavar="FILE.html")
    ] = None,
    encoder: EncoderOption = "auto",
    store: StoreOption = None,
) -> None:
    """Find photos by words, by another photo, or by both; nothing is trained, and each photo is embedded once, ever.

    Example:  factory search photos/ "a red bicycle" --minus street

    Example:  factory search photos/ --like bicycle.jpg -n 5 -f
    """
    with stoppable():
        matches, folder = api.search(
            photos, words or (), like=like or (), minus=minus or (), most=most, encoder=encoder, store=store
        )
    if files_only:
        for match in matches:
            print(folder.root / match.path)  # noqa: T201
    else:
        out.print(table(("similarity", "photo"), ((f"{match.score:.3f}", match.path) for match in matches)))
    if page is not None:
        from clip_factory.zeroshot.pages import search_page, write_page

        asked = " + ".join([*(words or []), *(path.name for path in like or [])])
        asked += "".join(f" - {text}" for text in minus or [])
        text = search_page(folder.root, matches, asked, len(folder.paths))
        err.print(f"page: {write_page(page, text)}", markup=False)
