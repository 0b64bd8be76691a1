"""Progress on stderr, so that stdout holds results only: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from clip_factory.terminal import SafeConsole

console = SafeConsole(stderr=True, highlight=False, soft_wrap=True)

LINE_EVERY = 30.0
"""Seconds between lines where there is no terminal."""

Report = Callable[[int, int], None]
"""Takes (done, total)."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.1f}/s" if task.speed else "")


def warn(message: str) -> None:
    """Print a warning: what a person should know, and what stops nothing."""
    console.print(f"warning: {message}", style="yellow", markup=False)


@contextmanager
def bar(what: str) -> Iterator[Report]:
    """Show how far a piece of work is, at which rate, and the time left; nothing if no work is reported."""
    if console.is_terminal:
        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(what, total=None, visible=False)
            yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)
    else:
        yield _lines(what)


def _lines(what: str) -> Report:
    start = time.monotonic()
    last = start

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < LINE_EVERY:
            return
        last = now
        rate = done / max(now - start, 1e-9)
        left = f", {(total - done) / rate:,.0f} s left" if 0 < done < total else ""
        console.print(f"{what} {done}/{total}, {rate:,.1f}/s{left}")

    return report
