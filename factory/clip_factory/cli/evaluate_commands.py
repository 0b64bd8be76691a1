"""`factory evaluate` and `factory compare`: models held against what people said."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_factory.cli import completion
from clip_factory.cli import predict_commands as cli_predict
from clip_factory.cli.predict_commands import PublicOption, RegistryOption
from clip_factory.errors import FactoryError
from clip_factory.terminal import DONE, SOME_UNREADABLE, err, out, plain, table

if TYPE_CHECKING:
    from clip_factory.evaluation.candidates import Contender, Loader
    from clip_factory.evaluation.measure import Evaluation
    from clip_factory.evaluation.paired import Bout

THIN = "\u202f"
SHOWN = 20
"""Unreadable photos that are named."""


class Form(StrEnum):
    """How figures are printed."""

    table = "table"
    json = "json"


FormOption = Annotated[Form, typer.Option("--format", help="How to print; json is for programs.")]
ImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        help="Folder that the paths of the labels start from. Else that of a run's photos, else that of the labels.",
        metavar="DIR",
        show_default=False,
    ),
]

EvaluationOption = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Write evaluation.html, evaluation.json, predictions.csv here.", metavar="DIR", show_default=False
    ),
]
ComparisonOption = Annotated[
    Path | None,
    typer.Option("--out", help="Write compare.html and compare.json here.", metavar="DIR", show_default=False),
]


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="A model file, a run, `latest`, or a name in a registry.",
            metavar="MODEL|RUN",
            show_default=False,
            autocompletion=completion.models,
        ),
    ],
    gold: Annotated[
        Path,
        typer.Option(
            "--gold", help="Labels from people: CSV with the columns path,label; or a gold.parquet.", metavar="CSV"
        ),
    ],
    images: ImagesOption = None,
    folder: EvaluationOption = None,
    registry: RegistryOption = None,
    public_key: PublicOption = None,
    form: FormOption = Form.table,
) -> None:
    """Measure a model on any labeled folder: found, missed, false alarms, at its own threshold and at others.

    It measures and does not judge. Exit code 3: some labeled photos could not be read, the rest are done.

    Example:  factory evaluate model.onnx --gold truth.csv --images photos/ --out evaluation/
    """
    from clip_factory.evaluation.candidates import find
    from clip_factory.evaluation.measure import as_json
    from clip_factory.evaluation.measure import evaluate as measure

    if folder is not None:
        _check_folder(folder, gold)
    contender = find(model, _loader(registry, public_key))
    found = measure(contender, gold, images or _home([contender], gold))
    if form is Form.json:
        print(json.dumps(as_json(found), ensure_ascii=False))  # noqa: T201
    else:
        _print_evaluation(found)
    if folder is not None:
        _write_evaluation(found, folder)
    else:
        err.print("the mistakes as a page: --out DIR")
    _name_unreadable(found.unreadable)
    raise typer.Exit(SOME_UNREADABLE if found.unreadable else DONE)


def compare(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more: runs, model files, names in a registry. The first is what the others are held against.",
            metavar="A B...",
            show_default=False,
            autocompletion=completion.models,
        ),
    ],
    gold: Annotated[
        Path | None,
        typer.Option(
            "--gold",
            help="Labels from people: CSV with the columns path,label; or a gold.parquet. Else what the runs hold.",
            metavar="CSV",
            show_default=False,
        ),
    ] = None,
    images: ImagesOption = None,
    folder: ComparisonOption = None,
    registry: RegistryOption = None,
    public_key: PublicOption = None,
    form: FormOption = Form.table,
) -> None:
    """Say in one line which model is better, by the same people's labels on photos that none of them has seen.

    Exit code 3: some labeled photos could not be read, the rest are done.

    Example:  factory compare runs/ball/2026-11-21T09-00-00 runs/ball/latest --out comparison/
    """
    from clip_factory.evaluation.candidates import find_all
    from clip_factory.evaluation.paired import by_labels, by_runs

    contenders = find_all(models, _loader(registry, public_key))
    bout = by_runs(contenders) if gold is None else by_labels(contenders, gold, images or _home(contenders, gold))
    if form is Form.json:
        print(json.dumps(bout.as_json(), ensure_ascii=False))  # noqa: T201
    else:
        print_bout(bout)
    if folder is not None:
        _write_comparison(bout, folder)
    else:
        err.print("the photos that change side as a page: --out DIR")
    _name_unreadable(bout.sample.unreadable)
    raise typer.Exit(SOME_UNREADABLE if bout.sample.unreadable else DONE)


def print_bout(bout: Bout) -> None:
    """Print the verdict, then the figures of each."""
    from clip_factory.evaluation.evaluation_page import side_by_side

    for found in bout.comparisons:
        out.print(plain(bout.line(found)), style="bold")
        if found.note:
            out.print(plain(found.note))
    rows = side_by_side(bout)
    named = zip(bout.contenders, rows, strict=True)
    out.print()
    out.print(table(("model", *(cell["head"] for cell in rows[0])), ((one.name, *_cells(row)) for one, row in named)))
    for remark in bout.sample.remarks:
        err.print(plain(remark))


def _cells(row: Iterable[dict[str, str]]) -> list[str]:
    return [_wide(f"{one['figure']} ({one['interval']})" if one["interval"] else one["figure"]) for one in row]


def _wide(text: str) -> str:
    """A text of the page for the terminal, which has no narrow spaces."""
    return text.replace(THIN, " ")


def _print_evaluation(found: Evaluation) -> None:
    from clip_factory.evaluation.evaluation_page import cut_row, figure_row

    out.print(plain(found.headline), style="bold")
    out.print()
    counts = found.counts
    confusion = (
        ("right answer yes", f"{counts.hits:,} found", f"{counts.misses:,} missed"),
        ("right answer no", f"{counts.false_alarms:,} false alarms", f"{counts.correct_rejections:,} passed over"),
    )
    out.print(table(("", "said yes", "said no"), confusion))
    out.print()
    figures = [figure_row(one) for one in found.figures]
    out.print(
        table(
            ("measure", "figure", "95 % interval", "photos"),
            ((row["name"], _wide(row["figure"]), _wide(row["interval"]), row["n"]) for row in figures),
        )
    )
    out.print()
    heads = ("threshold", "", "found", "missed", "false alarms", "recall", "precision", "of no photos")
    out.print(table(heads, map(_cut, map(cut_row, found.cuts))))
    for remark in found.remarks:
        err.print(plain(remark))


def _cut(row: dict[str, Any]) -> tuple[object, ...]:
    counts = row["counts"]
    return row["threshold"], row["what"], counts.hits, counts.misses, counts.false_alarms, *map(_wide, row["shares"])


EVALUATION = ("evaluation.json", "predictions.csv", "evaluation.html")


def _check_folder(folder: Path, gold: Path) -> None:
    """Refuse, before the work, a folder that is none, or in which the labels themselves would be written over."""
    if folder.exists() and not folder.is_dir():
        raise FactoryError(f"{folder} is a file, not a folder", hint="--out takes a folder for page, CSV and JSON")
    if gold.resolve() in {(folder / name).resolve() for name in EVALUATION}:
        raise FactoryError(f"{gold} would be written over", hint="name another folder with --out")


def _write_evaluation(found: Evaluation, folder: Path) -> None:
    from clip_factory.evaluation.evaluation_page import evaluation_page
    from clip_factory.evaluation.measure import as_json, rows
    from clip_factory.run_folder import atomic, write_json

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "evaluation.json", as_json(found))
    with (
        atomic(folder / "predictions.csv") as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "probability", "answer", "label", "outcome", "split"))
        writer.writerows(rows(found))
    _write_page(folder / "evaluation.html", evaluation_page(found))


def _write_comparison(bout: Bout, folder: Path) -> None:
    from clip_factory.evaluation.evaluation_page import comparison_page
    from clip_factory.run_folder import write_json

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "compare.json", bout.as_json())
    _write_page(folder / "compare.html", comparison_page(bout))


def _write_page(path: Path, text: str) -> None:
    from clip_factory.run_folder import atomic

    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    err.print(f"page: {path}", markup=False)


def _name_unreadable(unreadable: list[tuple[str, str]]) -> None:
    if unreadable:
        err.print(f"{len(unreadable):,} labeled {'photo' if len(unreadable) == 1 else 'photos'} could not be read:")
    for path, why in unreadable[:SHOWN]:
        err.print(f"  {plain(path)}: {plain(why)}")
    if len(unreadable) > SHOWN:
        err.print(f"  and {len(unreadable) - SHOWN:,} more")


def _home(contenders: Iterable[Contender], gold: Path) -> Path:
    """Where photos lie, unless they are named: with the first run, else beside their labels."""
    return next((one.images for one in contenders if one.images is not None), gold.parent)


def _loader(registry: str | None, public_key: Path | None) -> Loader:
    return lambda target: cli_predict._load(target, registry, public_key)
