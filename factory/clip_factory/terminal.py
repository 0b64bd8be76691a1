"""What commands run and print with: results to stdout, all else to stderr, tables, errors, and the exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import TextIOWrapper
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clip_factory.runtime.runtime_errors import FactoryError
from clip_factory.runtime.safe_text import visible

ONE_LINE = str.maketrans("\n\t", "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}")

DONE, REFUSED, WRONG_INPUT, SOME_UNREADABLE, NOT_PROVEN = 0, 1, 2, 3, 4
OUR_FAULT, STOPPED, NO_READER = 70, 130, 141
"""Exit codes; 70 is what BSD calls an internal error, the last two are what a shell gives a program that Ctrl-C, or a
closed pipe, ends."""


class SafeConsole(Console):
    """A console that shows text from elsewhere as it is, `:cat:` too, and lets the terminal obey none of it."""

    def __init__(self, **options: Any) -> None:
        """Options as rich's Console has them."""
        super().__init__(emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich prints, but control characters and signs that turn the direction are only shown."""
        super().print(*(visible(one) if isinstance(one, str) else one for one in objects), **options)


out = SafeConsole(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)
err = SafeConsole(stderr=True, highlight=False, soft_wrap=True)


def run_app(app: Callable[..., object]) -> NoReturn:
    """Run a command line and leave; errors of the factory become one message and exit code 2.

    Whatever else is raised is a fault of the factory: it becomes a report in a file, and exit code 70.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name that the terminal's encoding lacks is shown escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush finds a reader
        sys.exit(NO_READER)
    except Exception as error:
        if (complaint := _complaint(error)) is None:
            _own_up(error)
        _complain(*complaint)
    sys.exit(WRONG_INPUT)


def _complaint(error: Exception) -> tuple[str, str] | None:
    """What is wrong with the input or the machine, and what to do; None where the factory is at fault."""
    match error:
        case FactoryError():
            return error.what, error.hint or ""
        case ModuleNotFoundError() if (error.name or "").split(".")[0] != "clip_factory":
            what = f"{error.name} is not installed: this command needs more than the base install"
            return what, "pip install 'clip-factory[all]'"
        case OSError():
            what = f"{error.filename or error}: {error.strerror or 'cannot be used'}"
            return what, "check the path, its rights, and the space left"
        case MemoryError():
            return "there is not enough memory", "close other programs, or ask for less: teacher.batch_size"
    return None


def _complain(what: str, hint: str = "") -> None:
    err.print(f"error: {escape(what)}", style="red")
    if hint:
        err.print(f"  {hint}", style="red", markup=False)


def _own_up(error: BaseException) -> NoReturn:
    from clip_factory.fault_report import write_report  # nobody else waits for it

    path = write_report(error, sys.argv[1:])
    _complain(f"the factory itself has failed ({type(error).__name__}): this is not your fault")
    if path is not None:
        err.print(f"  what is known of it is in {plain(path)}: no pictures, no secrets")
        err.print("  read it, and send it to those who maintain the factory, as a new issue of the project")
    sys.exit(OUR_FAULT)


def plain(text: object) -> str:
    """Text from elsewhere as one line of a terminal: nothing in it that rich or the terminal would obey."""
    return escape(visible(str(text)).translate(ONE_LINE))


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
