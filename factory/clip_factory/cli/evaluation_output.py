"""What commands print of an evaluation: tables of counts, figures and thresholds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from clip_factory.terminal import err, out, plain, table

if TYPE_CHECKING:
    from clip_factory.evaluation.joint_evaluation import JointEvaluation
    from clip_factory.evaluation.measure import Evaluation

THIN = "\u202f"
SHOWN = 20
"""Unreadable photos that are named."""


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the headline, the counts, the figures with their intervals, and what other thresholds would give."""
    from clip_factory.evaluation.evaluation_page import figure_row, threshold_row

    out.print(plain(evaluation.headline), style="bold")
    out.print()
    counts = evaluation.counts
    confusion = (
        ("right answer yes", f"{counts.hits:,} found", f"{counts.misses:,} missed"),
        ("right answer no", f"{counts.false_alarms:,} false alarms", f"{counts.correct_rejections:,} passed over"),
    )
    out.print(table(("", "said yes", "said no"), confusion))
    out.print()
    figures = [figure_row(one) for one in evaluation.figures]
    out.print(
        table(
            ("measure", "figure", "95 % interval", "photos"),
            ((row["name"], _wide(row["figure"]), _wide(row["interval"]), row["n"]) for row in figures),
        )
    )
    out.print()
    heads = ("threshold", "", "found", "missed", "false alarms", "recall", "precision", "of no photos")
    out.print(table(heads, map(_threshold_cells, map(threshold_row, evaluation.operating_points))))
    for remark in evaluation.remarks:
        err.print(plain(remark))


def print_joint_evaluation(joint: JointEvaluation) -> None:
    """Print which model is better, then the figures of each."""
    from clip_factory.evaluation.evaluation_page import side_by_side

    for comparison in joint.comparisons:
        out.print(plain(joint.line(comparison)), style="bold")
        if comparison.note:
            out.print(plain(comparison.note))
    rows = side_by_side(joint)
    named = zip(joint.candidates, rows, strict=True)
    out.print()
    out.print(table(("model", *(cell["head"] for cell in rows[0])), ((one.name, *_cells(row)) for one, row in named)))
    for remark in joint.sample.remarks:
        err.print(plain(remark))


def print_unreadable(unreadable: list[tuple[str, str]]) -> None:
    """Name the labeled photos that could not be read, and why."""
    if unreadable:
        err.print(f"{len(unreadable):,} labeled {'photo' if len(unreadable) == 1 else 'photos'} could not be read:")
    for path, why in unreadable[:SHOWN]:
        err.print(f"  {plain(path)}: {plain(why)}")
    if len(unreadable) > SHOWN:
        err.print(f"  and {len(unreadable) - SHOWN:,} more")


def _threshold_cells(row: dict[str, Any]) -> tuple[object, ...]:
    counts = row["counts"]
    return row["threshold"], row["what"], counts.hits, counts.misses, counts.false_alarms, *map(_wide, row["shares"])


def _cells(row: Iterable[dict[str, str]]) -> list[str]:
    return [_wide(f"{one['figure']} ({one['interval']})" if one["interval"] else one["figure"]) for one in row]


def _wide(text: str) -> str:
    """A text of the page for the terminal, which has no narrow spaces."""
    return text.replace(THIN, " ")
