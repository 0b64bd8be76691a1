"""Whether a run is better than the release that is champion now, and what it changes, as `factory models diff`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from automation.markdown import NOTHING, code, codes
from automation.runs import Run
from clip_factory.evaluation.gate_comparison import GateComparison, is_about_teacher
from clip_factory.registry import Registry, RegistryNotFoundError, open_existing
from clip_factory.registry.diff import (
    Change,
    changes,
    compare_records,
    facts_of_files,
    facts_without_model,
    without_teacher,
)
from clip_factory.registry.release_reader import read_gate
from clip_factory.report import formatting as words
from clip_factory.runtime.releases.release_reference import Reference

ALWAYS = (
    ("gate.agreement.figure", "agrees with its teacher"),
    ("gate.gold_accuracy.figure", "right by people’s labels"),
    ("figures.agreement_all.figure", "agrees, all test photos"),
    ("figures.test_images", "test photos"),
    ("size", "size"),
)
"""Facts that are shown also where they are the same."""
CHANGED = (
    ("gate.agreement.rule", "asked: agreement"),
    ("gate.gold_accuracy.rule", "asked: people’s labels"),
    ("figures.calibration_error", "calibration error"),
    ("threshold", "threshold"),
)
"""Facts that are shown where they differ; those of the scenario follow, under their keys."""
PLACES = ("scenario.images", "scenario.answers", "scenario.gold")
"""Where files lie on the machine that ran: of no interest."""
MAX_ROWS = 25
"""Of the table in the comment."""


@dataclass(frozen=True)
class Comparison:
    """The release that an alias stands for, and what it and a run say of themselves, under the names of a diff."""

    version: int | None
    """None: there is none yet."""
    before: Mapping[str, Any] = field(default_factory=dict)
    now: Mapping[str, Any] = field(default_factory=dict)
    recorded: GateComparison | None = None
    """Which of the two is better, by what they say of themselves; None where there is no release."""


def compare(run: Run, registry: Registry | None, alias: str) -> Comparison:
    """Compare a run with the release that the alias stands for; `registry` None: there is none yet.

    Raises:
        FactoryError: The registry cannot be read, or was altered.
    """
    entry = registry.index().models.get(run.name) if registry is not None else None
    if registry is None or entry is None or alias not in entry.aliases:
        return Comparison(None)
    release = registry.index().find(Reference(run.name, alias=alias))
    gate = {"clauses": list(run.clauses), "figures": run.figures}
    scenario = json.loads(run.scenario.model_dump_json())
    new = {"threshold": run.threshold, "size": run.size, **facts_of_files(gate, scenario)}
    champion = read_gate(registry, release)
    old = facts_without_model(registry, release, champion)
    recorded = compare_records((champion, gate), (old, new), (f"version {release.version}", "this run"))
    return Comparison(release.version, old, new, recorded)


def open_if_exists(address: str) -> Registry | None:
    """The registry at an address; None where there is none yet.

    Raises:
        FactoryError: It cannot be opened.
    """
    try:
        return open_existing(address)
    except RegistryNotFoundError:
        return None


def rows(comparison: Comparison) -> list[tuple[str, str, str]]:
    """What a run has and the release had, as cells of a table: what, before, now; texts of a scenario are in code."""
    changed = changes(dict(comparison.before), dict(comparison.now))
    by_people = comparison.recorded is not None and comparison.recorded.by_people
    if comparison.recorded is not None:
        changed = without_teacher(changed, comparison.recorded)
    by_key = {change.what: change for change in changed}
    shown = [(title, Change(key, comparison.before.get(key), comparison.now.get(key))) for key, title in ALWAYS]
    shown = [(title, change) for title, change in shown if (change.before, change.after) != (None, None)]
    shown = [(title, change) for title, change in shown if not (by_people and is_about_teacher(change.what))]
    shown += [(title, by_key[key]) for key, title in CHANGED if key in by_key]
    for change in changed:
        if change.what.startswith("scenario.") and not change.what.startswith(PLACES):
            shown.append((code(change.what.removeprefix("scenario.")), change))
    return [(title, *_cells(change)) for title, change in shown]


def _cells(change: Change) -> tuple[str, str]:
    """Before and now; of two lists, what was taken away and what was added."""
    before, after = change.before, change.after
    if isinstance(before, list) and isinstance(after, list):
        gone, new = [one for one in before if one not in after], [one for one in after if one not in before]
        return f"without {codes(gone)}" if gone else NOTHING, f"with {codes(new)}" if new else NOTHING
    return _value(change.what, before), _value(change.what, after)


def _value(what: str, value: Any) -> str:
    if value is None:
        return NOTHING
    if what == "size":
        return words.kilobytes(value)
    if what.startswith(("gate.", "figures.agreement")) and what.endswith("figure"):
        return words.share(value)
    if words.known(value) and not isinstance(value, bool):
        return words.number(value)
    return code(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
