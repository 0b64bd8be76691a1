"""Bad inputs tried one by one: each ends in a result, a reason or a refusal, within seconds and without a traceback."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from typer.testing import CliRunner

from clip_factory.cli.main import app
from clip_factory.terminal import _complaint

LIMIT = 10.0
"""Seconds after which an input counts as a hang."""
CODES = {
    0: "done",
    1: "the gate's refusal (1)",
    2: "refused in words (2)",
    3: "some files answered with an error (3)",
    4: "not proven (4)",
}

Trial = tuple[str, Callable[[], str]]
"""The name of an input, and what tries it and says what happened."""


class HangError(BaseException):
    """An input took too long; no handler of the factory may catch it."""


@dataclass
class Outcomes:
    """What happened to the inputs of one kind."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    """Tracebacks, hangs and losses."""


def try_all(trials: Iterable[Trial], limit: float = LIMIT) -> Outcomes:
    """Try inputs one after another; `limit`: seconds that each may take."""
    outcomes = Outcomes()
    for name, trial in trials:
        try:
            with _alarm(limit):
                outcomes.counts[trial()] += 1
        except HangError:
            outcomes.failures.append(f"{name}: took over {limit:.0f} s")
        except Exception as error:
            if _complaint(error) is None:
                outcomes.failures.append(f"{name}: {type(error).__name__}: {error}")
            else:
                outcomes.counts[CODES[2]] += 1
    return outcomes


def command(*arguments: object, stdin: str | None = None) -> str:
    """What becomes of a command, in words."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return CODES[done.exit_code]


@contextmanager
def _alarm(limit: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
