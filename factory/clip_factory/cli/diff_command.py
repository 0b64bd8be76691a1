"""`factory models diff`: which of two releases is better, and what changed."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_factory.cli.evaluation_output import print_joint_evaluation
from clip_factory.cli.options import Form, FormOption, PublicKeyOption, Reference, RegistryOption
from clip_factory.cli.registry_output import change_row, print_json
from clip_factory.terminal import out, plain, table

if TYPE_CHECKING:
    from clip_factory.evaluation.joint_evaluation import JointEvaluation
    from clip_factory.registry import Diff, Registry


def diff(
    before: Reference,
    after: Reference,
    registry: RegistryOption = "",
    public_key: PublicKeyOption = None,
    gold: Annotated[
        Path | None,
        typer.Option(
            "--gold",
            help="Measure both now, by these labels: CSV with the columns path,label.",
            metavar="CSV",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="Folder that the paths of the labels start from; else that of the CSV.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    form: FormOption = Form.table,
) -> None:
    """Say which of two versions is better, by people's labels, and what changed from one to the other.

    Example:  factory models diff forklift@2 forklift@3 --registry registry/ --gold truth.csv --images photos/
    """
    from clip_factory.registry import Trust, open_existing, without_teacher
    from clip_factory.registry import diff as compare_releases

    opened = open_existing(registry)
    difference = compare_releases(opened, before, after, Trust.read(public_key))
    changes, joint = difference.changes, None
    if gold is not None:
        joint = _measure(opened, difference, (before, after), gold, images or gold.parent)
        changes = without_teacher(changes, replace(difference.recorded, by_people=True))
    if form is Form.json:
        print_json({"comparison": _comparison_json(difference, joint)})
        for change in changes:
            print_json(asdict(change))
        return
    if joint is not None:
        print_joint_evaluation(joint)
    else:
        out.print(plain(difference.recorded.line), style="bold")
    out.print()
    out.print(
        table(("what", before, after), map(change_row, changes)) if changes else "nothing that is compared differs"
    )


def _measure(registry: Registry, difference: Diff, names: tuple[str, str], gold: Path, images: Path) -> JointEvaluation:
    from clip_factory.evaluation.candidates import Candidate
    from clip_factory.evaluation.joint_evaluation import evaluate_on_labels
    from clip_factory.registry.release_reader import read_model

    named = zip(names, difference.releases, strict=True)
    return evaluate_on_labels([Candidate(name, read_model(registry, release)) for name, release in named], gold, images)


def _comparison_json(difference: Diff, joint: JointEvaluation | None) -> dict[str, Any]:
    from clip_factory.evaluation.gate_comparison import as_json

    if joint is not None:
        comparison = joint.comparisons[0]
        return as_json(comparison, joint.line(comparison))
    recorded = difference.recorded
    return {"line": recorded.line} if recorded.comparison is None else as_json(recorded.comparison, recorded.line)
