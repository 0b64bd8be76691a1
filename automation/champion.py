"""What a run changes against the release that stands as champion, in the words of `factory models diff`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from automation.markdown import NOTHING, code
from automation.runs import Run
from factory.errors import FactoryError
from factory.registry import Registry, open_existing
from factory.registry.diff import Change, changes, of_files, written
from factory.report import words
from factory.runtime.index import Reference

SHOWN = (
    ("gate.agreement.figure", "agrees with its teacher"),
    ("gate.gold_accuracy.figure", "right by people’s labels"),
    ("figures.agreement_all.figure", "agrees, all test photos"),
    ("figures.calibration_error", "calibration error"),
    ("figures.test_images", "test photos"),
    ("gate.agreement.verdict", "verdict: agreement"),
    ("gate.gold_accuracy.verdict", "verdict: people’s labels"),
    ("size", "size"),
    ("threshold", "threshold"),
)
"""Facts that are shown by names of our own, in this order; those of the scenario follow under their keys."""
PLACES = ("scenario.images", "scenario.answers", "scenario.gold")
"""Where files lie on the machine that ran: of no interest."""
MOST = 25


@dataclass(frozen=True)
class Standing:
    """The release that an alias stands for, and what a run has different from it."""

    version: int | None
    """None: there is none yet."""
    found: tuple[Change, ...] = ()


def against(run: Run, registry: Registry | None, alias: str) -> Standing:
    """Hold a run against the release that the alias stands for; `registry` None: there is none yet.

    Raises:
        FactoryError: The registry cannot be read, or was altered.
    """
    entry = registry.index().models.get(run.name) if registry is not None else None
    if registry is None or entry is None or alias not in entry.aliases:
        return Standing(None)
    release = registry.index().find(Reference(run.name, alias=alias))
    gate = {"clauses": list(run.clauses), "figures": run.figures}
    scenario = json.loads(run.scenario.model_dump_json())
    new = {"threshold": run.threshold, "size": run.size, **of_files(gate, scenario)}
    return Standing(release.version, tuple(changes(written(registry, release), new)))


def open_if_there(address: str) -> Registry | None:
    """The registry at an address; None where there is none yet.

    Raises:
        FactoryError: It cannot be opened.
    """
    try:
        return open_existing(address)
    except FactoryError as error:
        if "there is no such folder" in error.what:
            return None
        raise


def rows(standing: Standing) -> list[tuple[str, str, str]]:
    """What changed, as cells of a table: what, before, after; texts of a scenario are in code."""
    by_key = {change.what: change for change in standing.found}
    named = [(title, by_key[key]) for key, title in SHOWN if key in by_key]
    own = [
        (code(change.what.removeprefix("scenario.")), change)
        for change in standing.found
        if change.what.startswith("scenario.") and not change.what.startswith(PLACES)
    ]
    return [
        (title, _value(change.what, change.before), _value(change.what, change.after)) for title, change in named + own
    ]


def _value(what: str, value: Any) -> str:
    if value is None:
        return NOTHING
    if what == "size":
        return words.kilobytes(value)
    if (what.startswith("gate.") and what.endswith("figure")) or what.endswith("agreement_all.figure"):
        return words.share(value)
    if words.known(value) and not isinstance(value, bool):
        return words.number(value)
    return code(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
