"""`factory prompts ...`: the words of a question, tried and mended before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_factory import api
from clip_factory.cli import completion
from clip_factory.cli.options import Form, FormOption, StoreOption
from clip_factory.cli.stage_commands import stoppable
from clip_factory.errors import ScenarioError
from clip_factory.terminal import DONE, REFUSED, err, out, plain, table

if TYPE_CHECKING:
    from clip_factory.zeroshot.look_alikes import Suggestion
    from clip_factory.zeroshot.wordings import Asked, WordingResult

app = typer.Typer(name="prompts", help="Try and mend the words of a question before training.", no_args_is_help=True)

ScenarioArgument = Annotated[
    Path | None,
    typer.Argument(
        help="Scenario file.", metavar="[SCENARIO.yaml]", show_default=False, autocompletion=completion.targets
    ),
]
ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Folder or archive of photos; else the scenario's.", metavar="DIR")
]
PositiveOption = Annotated[
    list[str] | None,
    typer.Option(
        "--positive", help="Phrases for yes, with commas between; given again: another wording.", metavar="A,B"
    ),
]
NegativeOption = Annotated[
    list[str] | None,
    typer.Option("--negative", help="Phrases for no; given again: another wording.", metavar="A,B"),
]
TemplatesOption = Annotated[
    list[str] | None,
    typer.Option("--templates", help="Named set of templates; given again: another wording.", metavar="SET"),
]
PageOption = Annotated[Path | None, typer.Option("--page", help="Write it as a page.", metavar="FILE.html")]


@app.callback()
def _root() -> None:
    pass


@app.command()
def compare(
    scenario: ScenarioArgument = None,
    positive: PositiveOption = None,
    negative: NegativeOption = None,
    templates: TemplatesOption = None,
    images: ImagesOption = None,
    gold: Annotated[
        Path | None, typer.Option("--gold", help="Labels from people, if there are any: they decide.", metavar="CSV")
    ] = None,
    yes_folder: Annotated[
        list[str] | None,
        typer.Option("--yes-folder", help="A folder of the photos whose photos are yes.", metavar="NAME"),
    ] = None,
    page: PageOption = None,
    form: FormOption = Form.table,
    encoder: Annotated[str | None, typer.Option("--encoder", help="As `teacher` in a scenario; else its own.")] = None,
    store: StoreOption = None,
) -> None:
    """Compare several ways to ask, on one folder, in seconds; the one to use comes first.

    Each --positive with each --negative and each --templates is a wording; so is what the scenario says.

    Example:  factory prompts compare forklift.yaml --positive "forklift truck" --positive "forklift,pallet truck"
    """
    from clip_factory.zeroshot.wordings import read_wordings

    asked = read_wordings(scenario, positive or (), negative or (), templates or ())
    with stoppable():
        results, folder = api.compare_prompts(
            asked.wordings,
            _images(asked, images),
            gold=gold,
            yes_folders=yes_folder or (),
            encoder=encoder or asked.encoder,
            store=store,
            region=asked.region,
        )
    if form is Form.json:
        print(json.dumps([_as_json(one) for one in results], ensure_ascii=False))  # noqa: T201
    else:
        _print_wordings(results)
    if page is not None:
        from clip_factory.zeroshot.pages import prompts_page, write_page

        text = prompts_page(folder, results, (), ", ".join(asked.stated.positive))
        err.print(f"page: {write_page(page, text)}", markup=False)


@app.command()
def suggest(
    scenario: ScenarioArgument = None,
    positive: PositiveOption = None,
    negative: NegativeOption = None,
    images: ImagesOption = None,
    most: Annotated[int, typer.Option("-n", "--number", help="How many phrases.", min=1)] = 12,
    page: PageOption = None,
    form: FormOption = Form.table,
    encoder: Annotated[str | None, typer.Option("--encoder", help="As `teacher` in a scenario; else its own.")] = None,
    store: StoreOption = None,
) -> None:
    """Suggest negative phrases: names of what else the folder holds, and the photos that each would turn to no.

    Example:  factory prompts suggest forklift.yaml --page suggestions.html
    """
    from clip_factory.zeroshot.wordings import read_wordings

    asked = read_wordings(scenario, positive or (), negative or (), ())
    wording, named = asked.wordings[0], encoder or asked.encoder
    with stoppable():
        suggestions, folder = api.suggest_prompts(
            wording, _images(asked, images), most=most, encoder=named, store=store, region=asked.region
        )
    if form is Form.json:
        print(json.dumps([_suggestion(one, folder.paths) for one in suggestions], ensure_ascii=False))  # noqa: T201
    else:
        rows = [
            (one.phrase, len(one.turned), len(one.photos), one.kind, ", ".join(one.others), folder.paths[one.photos[0]])
            for one in suggestions
        ]
        out.print(table(("negative phrase", "turns to no", "photos near it", "", "also near", "such as"), rows))
    if page is not None:
        from clip_factory.zeroshot.pages import prompts_page, write_page

        text = prompts_page(folder, (), suggestions, ", ".join(wording.phrases.positive))
        err.print(f"page: {write_page(page, text)}", markup=False)


@app.command()
def lint(
    scenario: ScenarioArgument = None,
    positive: PositiveOption = None,
    negative: NegativeOption = None,
    form: FormOption = Form.table,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="As `teacher` in a scenario; else its own; `none` asks no encoder.")
    ] = None,
) -> None:
    """Say what is doubtful about the phrases; no photo is looked at. Exit code 1: something is.

    Negation, words that the encoder does not know, words of several senses, plurals, underscores, phrases that are too
    long or nearly the same.

    Example:  factory prompts lint forklift.yaml
    """
    from clip_factory.zeroshot.wordings import read_wordings

    asked = read_wordings(scenario, positive or (), negative or (), (), check=False)
    named = encoder or asked.encoder
    with stoppable():
        remarks = api.lint_prompts(asked.stated, encoder=None if named == "none" else named)
    if form is Form.json:
        rows = [{"kind": one.kind, "phrase": one.phrase, "text": one.text} for one in remarks]
        print(json.dumps(rows, ensure_ascii=False))  # noqa: T201
    else:
        for one in remarks:
            out.print(f"{plain(one.kind)}: {plain(one.text)}")
        if not remarks:
            out.print("nothing is doubtful about these phrases")
    raise typer.Exit(REFUSED if remarks else DONE)


def _images(asked: Asked, named: Path | None) -> Path:
    path = named or asked.images
    if path is None:
        raise ScenarioError("no photos are named", hint="add --images DIR")
    return path


def _print_wordings(results: list[WordingResult]) -> None:
    known = results[0].counts is not None
    heads = ["", "wording", "yes", "doubtful", "separation", "consistency", "templates agree"]
    rows = []
    for number, one in enumerate(results):
        consistency = "" if one.consistency is None else f"{one.consistency:.3f}"
        shares = (one.yes, f"{one.doubtful:.0%}", f"{one.separation:.2f}", consistency, f"{one.template_agreement:.0%}")
        figures = (_share(one), "" if one.auc is None else f"{one.auc:.3f}") if known else ()
        rows.append((number + 1, one.wording.says, *shares, *figures))
    out.print(table([*heads, *(("balanced accuracy", "AUC") if known else ())], rows))
    why = "balanced accuracy by the labels" if known else "agreement with the groups that the photos fall into"
    err.print(f"the first is best by {why}")


def _share(one: WordingResult) -> str:
    share = one.balanced_accuracy
    return "" if share is None else "{:.1%} ({:.1%} to {:.1%})".format(share.figure, *share.interval)


def _as_json(one: WordingResult) -> dict[str, Any]:
    share = one.balanced_accuracy
    return {
        **one.wording.phrases.to_json(),
        "templates": one.wording.templates,
        "yes": one.yes,
        "doubtful": one.doubtful,
        "separation": one.separation,
        "consistency": one.consistency,
        "template_agreement": one.template_agreement,
        "balanced_accuracy": share.figure if share else None,
        "auc": one.auc,
    }


def _suggestion(one: Suggestion, paths: list[str]) -> dict[str, Any]:
    return {
        "phrase": one.phrase,
        "kind": one.kind,
        "others": list(one.others),
        "photos": [paths[row] for row in one.photos],
        "takes": [paths[row] for row in one.turned],
    }
