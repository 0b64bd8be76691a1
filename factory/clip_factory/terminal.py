"""What commands run and print with: results to stdout, all else to stderr, tables, errors, and the exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clip_factory.runtime.runtime_errors import FactoryError

DONE, REFUSED, WRONG_INPUT, SOME_UNREADABLE, NOT_PROVEN, STOPPED = 0, 1, 2, 3, 4, 130
"""Exit codes; the last is what a shell gives a program that Ctrl-C ends."""

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def run_app(app: Callable[..., object]) -> NoReturn:
    """Run a command line and leave; errors of the factory become one message and exit code 2."""
    try:
        app(standalone_mode=True)
    except FactoryError as error:
        err.print(f"error: {escape(str(error))}", style="red")
    except OSError as error:
        err.print(f"error: {escape(str(error.filename or error))}: {error.strerror or 'cannot be used'}", style="red")
        err.print("  check the path, its rights, and the space left")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "clip_factory":
            raise
        err.print(f"error: {error.name} is not installed: this command needs more than the base install", style="red")
        err.print("  pip install 'clip-factory[all]'")
    sys.exit(WRONG_INPUT)


def plain(text: object) -> str:
    """Text from elsewhere as it may go to a terminal: nothing in it that rich or the terminal would obey."""
    return escape("".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in str(text)))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]] = ()) -> Table:
    """A table without lines; `columns` are its headings, none if all are empty."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(plain(cell) for cell in row))
    return made


def gate_table(clauses: Iterable[Mapping[str, Any]]) -> Table:
    """The clauses of a gate.json."""
    return table(("clause", "rule", "figure", "n", "95 % interval", "verdict"), map(_clause, clauses))


def _clause(clause: Mapping[str, Any]) -> tuple[object, ...]:
    interval = "-".join(f"{end:.3f}" for end in clause.get("interval") or ())
    figure = clause.get("figure")
    shown = "" if figure is None else f"{figure:.6g}"
    verdict = clause.get("verdict", "")
    verdict = verdict if clause.get("decides", True) else f"({verdict}, not decisive)"
    return clause["name"], clause.get("rule", ""), shown, clause.get("n", ""), interval, verdict
