"""Whether a run is better than the release that stands as champion, and what it changes, as `factory models diff`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from automation.markdown import NOTHING, code, codes
from automation.runs import Run
from clip_factory.errors import FactoryError
from clip_factory.evaluation.recorded import Recorded, is_against_teacher
from clip_factory.registry import Registry, open_existing
from clip_factory.registry.diff import Change, changes, of_files, verdict, without_teacher, written
from clip_factory.registry.release_contents import read_gate
from clip_factory.report import formatting as words
from clip_factory.runtime.releases.release_index import Reference

ALWAYS = (
    ("gate.agreement.figure", "agrees with its teacher"),
    ("gate.gold_accuracy.figure", "right by people’s labels"),
    ("figures.agreement_all.figure", "agrees, all test photos"),
    ("figures.test_images", "test photos"),
    ("size", "size"),
)
"""Facts that are told also where they are the same."""
CHANGED = (
    ("gate.agreement.rule", "asked: agreement"),
    ("gate.gold_accuracy.rule", "asked: people’s labels"),
    ("figures.calibration_error", "calibration error"),
    ("threshold", "threshold"),
)
"""Facts that are told where they differ; those of the scenario follow, under their keys."""
PLACES = ("scenario.images", "scenario.answers", "scenario.gold")
"""Where files lie on the machine that ran: of no interest."""
MOST = 25


@dataclass(frozen=True)
class Standing:
    """The release that an alias stands for, and what it and a run say of themselves, under the names of a diff."""

    version: int | None
    """None: there is none yet."""
    before: Mapping[str, Any] = field(default_factory=dict)
    now: Mapping[str, Any] = field(default_factory=dict)
    recorded: Recorded | None = None
    """Which of the two is better, by what they say of themselves; None where there is no release."""


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
    champion = read_gate(registry, release)
    old = written(registry, release, champion)
    found = verdict((champion, gate), (old, new), (f"version {release.version}", "this run"))
    return Standing(release.version, old, new, found)


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
    """What a run has and the release had, as cells of a table: what, before, now; texts of a scenario are in code."""
    found = changes(dict(standing.before), dict(standing.now))
    hidden = standing.recorded is not None and standing.recorded.people
    if standing.recorded is not None:
        found = without_teacher(found, standing.recorded)
    by_key = {change.what: change for change in found}
    told = [(title, Change(key, standing.before.get(key), standing.now.get(key))) for key, title in ALWAYS]
    told = [(title, change) for title, change in told if (change.before, change.after) != (None, None)]
    told = [(title, change) for title, change in told if not (hidden and is_against_teacher(change.what))]
    told += [(title, by_key[key]) for key, title in CHANGED if key in by_key]
    for change in found:
        if change.what.startswith("scenario.") and not change.what.startswith(PLACES):
            told.append((code(change.what.removeprefix("scenario.")), change))
    return [(title, *_cells(change)) for title, change in told]


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
