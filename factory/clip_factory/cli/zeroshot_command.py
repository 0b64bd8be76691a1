"""`factory zeroshot`: a folder against several classes, without training anything."""

from __future__ import annotations

import csv
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_factory import api
from clip_factory.cli.options import EncoderOption, PhotosArgument, StoreOption
from clip_factory.cli.stage_commands import stoppable
from clip_factory.errors import ScenarioError
from clip_factory.terminal import err, out, plain, table

if TYPE_CHECKING:
    from clip_factory.zeroshot.folder_result import FolderResult, Truth

SHOWN = 40
"""Photos, classes or templates that a table on the terminal has."""


class Rows(StrEnum):
    """How answers are printed."""

    table = "table"
    csv = "csv"
    json = "json"


def zeroshot(
    photos: PhotosArgument,
    classes: Annotated[str, typer.Option("--classes", help="Classes, with commas between.", metavar="A,B,C")] = "",
    classes_file: Annotated[
        Path | None,
        typer.Option(
            "--classes-file",
            help="A class a line (name: phrase, phrase), or JSON: names, or texts by name (CLIP_benchmark, CuPL).",
            metavar="FILE",
        ),
    ] = None,
    folders: Annotated[
        bool, typer.Option("--folders", help="The photos' folders are the truth, and the classes if none are named.")
    ] = False,
    template: Annotated[
        list[str] | None,
        typer.Option("--template", help="Such as 'a photo of a {}, a type of flower.'; may be given again."),
    ] = None,
    templates: Annotated[
        str, typer.Option("--templates", help="A named set (plain, photo, clip-80, ...) or a JSON file.", metavar="SET")
    ] = "",
    data_set: Annotated[
        str, typer.Option("--dataset", help="Which one of a JSON file that holds several.", metavar="NAME")
    ] = "",
    encoder: EncoderOption = "auto",
    refine: Annotated[
        bool,
        typer.Option("--refine", help="Let the folder's own groups correct the words; most classes must be there."),
    ] = False,
    top_k: Annotated[int, typer.Option("--top-k", help="Classes shown of each photo.", min=1)] = 1,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Least probability of an answer; below it: unsure.", min=0, max=1)
    ] = 0.0,
    other: Annotated[
        bool, typer.Option("--other", help="Add the class `other`: everyday things beside these.")
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="With --folders: how right 1 to 16 labels of each class would be.")
    ] = False,
    form: Annotated[Rows, typer.Option("--format", help="How to print the answers.")] = Rows.table,
    files_only: Annotated[
        bool, typer.Option("-f", help="Print the paths of answered photos only, class by class.")
    ] = False,
    sort_into: Annotated[
        Path | None, typer.Option("--sort-into", help="Copy each photo into a folder of its class.", metavar="DIR")
    ] = None,
    to_scenarios: Annotated[
        Path | None, typer.Option("--to-scenarios", help="Write a scenario of each class.", metavar="DIR")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--page", help="Write a page with matrix, mistakes and photos.", metavar="FILE.html")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="With --folders: the matrix as .png, .svg or .pdf.", metavar="FILE")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Say what each photo of a folder shows, from words alone; with --folders also how often that is right.

    One class alone gives the probability that it is there at all.

    Example:  factory zeroshot photos/ --classes "cat,dog,horse" --format csv

    Example:  factory zeroshot photos/ --folders --template "a photo of a {}, a type of flower." --page zeroshot.html

    Example:  factory zeroshot photos/ --folders --refine --probe
    """
    if (probe or picture) and not folders:
        raise ScenarioError(
            "--probe and --picture need a truth", hint="add --folders: the photos' folders are the classes"
        )
    phrases, whole = _classes(classes, classes_file, data_set)
    with stoppable():
        result = api.zero_shot(
            photos,
            phrases,
            templates=_templates(template, templates, data_set),
            whole_prompts=whole,
            encoder=encoder,
            folders=folders or phrases is None,
            other=other,
            refine=refine,
            threshold=threshold,
            probe=probe,
            store=store,
        )
    _print(result, form, top_k, files_only=files_only)
    if result.truth is not None and form is Rows.table and not files_only:
        _print_truth(result.truth)
    _write(result, photos, sort_into, to_scenarios, page, picture)


def _classes(named: str, file: Path | None, data_set: str) -> tuple[dict[str, list[str]] | None, bool]:
    from clip_factory.zeroshot import classes

    if named and file:
        raise ScenarioError("--classes and --classes-file name classes both", hint="give one of them")
    if file is not None:
        return classes.read_classes(file, data_set)
    return (classes.named(named) if named else None), False


def _templates(alone: list[str] | None, named: str, data_set: str) -> str | tuple[str, ...] | None:
    from clip_factory.zeroshot.classes import read_templates

    if alone and named:
        raise ScenarioError("--template and --templates name templates both", hint="give one of them")
    if alone:
        return tuple(alone)
    return read_templates(named, data_set) if named else None


def _print(result: FolderResult, form: Rows, top_k: int, *, files_only: bool) -> None:
    if files_only:
        for name, path in sorted(zip(result.names, result.paths, strict=True)):
            if name not in ("unsure", "other"):
                print(result.root / path)  # noqa: T201
    elif form is Rows.json:
        print(json.dumps(_as_json(result, top_k), ensure_ascii=False))  # noqa: T201
    elif form is Rows.csv:
        _print_csv(result, top_k)
    else:
        rows = list(_rows(result, top_k))
        heads = ("photo", "answer", "likelihood") if top_k == 1 else ("photo", "answer", "likeliest classes")
        out.print(table(heads, rows[:SHOWN]))
        if len(rows) > SHOWN:
            out.print(f"and {len(rows) - SHOWN:,} more: --format csv has all")
    if result.classification.says:
        err.print(result.classification.says, markup=False)
    if result.unused:
        path, reason = result.unused[0]
        err.print(f"{len(result.unused):,} files are not used, such as {plain(path)}: {plain(reason)}")


def _rows(result: FolderResult, top_k: int) -> Any:
    names = result.classification.names
    top = result.classification.top(top_k)
    for path, answer, best, p in zip(result.paths, result.names, top, result.probabilities, strict=True):
        likely = f"{p[best[0]]:.3f}" if top_k == 1 else ", ".join(f"{names[k]} {p[k]:.3f}" for k in best)
        yield path, answer, likely


def _print_csv(result: FolderResult, top_k: int) -> None:
    names, top = result.classification.names, result.classification.top(top_k)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    places = range(1, top.shape[1] + 1)
    writer.writerow(["path", "answer", *(f"{what}{k}" for k in places for what in ("class_", "probability_"))])
    for path, answer, best, p in zip(result.paths, result.names, top, result.probabilities, strict=True):
        writer.writerow([path, answer, *(cell for k in best for cell in (names[k], f"{p[k]:.6f}"))])


def _as_json(result: FolderResult, top_k: int) -> dict[str, Any]:
    names, top = result.classification.names, result.classification.top(top_k)
    photos = [
        {
            "path": path,
            "answer": answer,
            "top": [{"class": names[k], "probability": round(float(p[k]), 6)} for k in best],
        }
        for path, answer, best, p in zip(result.paths, result.names, top, result.probabilities, strict=True)
    ]
    made: dict[str, Any] = {
        "encoder": dict(result.encoder.about),
        "classes": dict(zip(result.classes.names, result.classes.prompts, strict=True)),
        "photos": photos,
        "unused": [{"path": path, "reason": reason} for path, reason in result.unused],
    }
    if result.truth:
        accuracy, shots = result.truth.accuracy, result.truth.few_shot
        made["accuracy"] = {
            "photos": accuracy.top1.n,
            "top1": accuracy.top1.figure,
            "top1_interval": accuracy.top1.interval,
            "top5": accuracy.top5.figure if accuracy.top5 else None,
            "mean_recall": accuracy.mean_recall,
            "recall": {name: share.figure for name, share in zip(accuracy.names, accuracy.recalls, strict=False)},
            "confusion": accuracy.confusion.tolist(),
            "templates": {row.template: row.top1.figure for row in result.truth.by_template},
            "few_shot": {str(k): mean for k, mean in zip(shots.shots, shots.mean.tolist(), strict=True)}
            if shots
            else None,
        }
    return made


def _print_truth(truth: Truth) -> None:
    accuracy = truth.accuracy
    low, high = accuracy.top1.interval
    five = f"; among the five likeliest for {accuracy.top5.figure:.1%}" if accuracy.top5 else ""
    out.print()
    out.print(
        f"right on {accuracy.top1.figure:.1%} of {accuracy.top1.n:,} photos ({low:.1%} to {high:.1%}){five}; "
        f"mean recall {accuracy.mean_recall:.1%}",
        style="bold",
    )
    recalls = [
        (name, f"{share.figure:.1%}", "{:.1%} to {:.1%}".format(*share.interval), share.n, _most_taken_for(truth, row))
        for row, (name, share) in enumerate(zip(accuracy.names, accuracy.recalls, strict=False))
    ]
    out.print(table(("class", "recall", "95 % interval", "photos", "most taken for"), recalls[:SHOWN]))
    out.print()
    rows = [(row.template, f"{row.top1.figure:.1%}", f"{row.mean_recall:.1%}") for row in truth.by_template]
    out.print(table(("template", "right", "mean recall"), rows[:SHOWN]))
    if truth.few_shot:
        shots = truth.few_shot
        rows = [
            (f"{k} a class", f"{mean:.1%}", f"± {spread:.1%}")
            for k, mean, spread in zip(shots.shots, shots.mean.tolist(), shots.spread.tolist(), strict=True)
        ]
        out.print()
        out.print(table(("labels", "right", "spread"), [("none, the words", f"{shots.zero_shot:.1%}", ""), *rows]))


def _most_taken_for(truth: Truth, row: int) -> str:
    line = truth.accuracy.confusion[row].copy()
    line[row] = 0
    if not line.any():
        return ""
    names = (*truth.accuracy.names, "unsure")
    return f"{names[int(line.argmax())]} ({int(line.max())})"


def _write(
    result: FolderResult,
    photos: Path,
    sorted_folder: Path | None,
    scenarios: Path | None,
    page: Path | None,
    picture: Path | None,
) -> None:
    if sorted_folder is not None:
        from clip_factory.zeroshot.sorting import sort_into

        count = sort_into(sorted_folder, result.root, result.paths, result.names)
        err.print(f"{count:,} photos copied into {sorted_folder}", markup=False)
    if scenarios is not None:
        from clip_factory.zeroshot.class_scenarios import write_scenarios

        for file in write_scenarios(scenarios, result, photos):
            err.print(f"scenario: {file}", markup=False)
    if picture is not None and result.truth:
        from clip_factory.zeroshot.accuracy_plots import draw_confusion

        err.print(f"picture: {draw_confusion(result.truth.accuracy, picture)}", markup=False)
    if page is not None:
        from clip_factory.zeroshot.pages import write_page, zeroshot_page

        err.print(f"page: {write_page(page, zeroshot_page(result, ', '.join(result.classes.names[:6])))}", markup=False)
