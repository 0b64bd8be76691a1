"""Where the line between no and yes lies: why there, and what it would cost elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clip_factory.images.scenario_region import scenario_region
from clip_factory.report import formatting as words
from clip_factory.report.embedded_images import Picture, pictures
from clip_factory.report.plot_data import Floats, Indices, sweep
from clip_factory.report.run_data import EvaluatedPhotos, RunData

GRID: Floats = np.arange(1, 1000) / 1000
"""The thresholds that the slider offers."""
USUAL = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Thresholds of the table, beside the shipped one and the ends of its interval."""
EMBEDDED = 60
"""Photos that the page holds, those nearest to the shipped threshold."""
AT_REST = 12
"""Of these, those shown while the threshold is where it was shipped."""
WIDTH, HEIGHT = 1000, 100
"""The drawing's own units; the page stretches it over the slider."""
EVERY = 4
"""One point of a curve for so many thresholds of the grid."""
CELLS = 50
"""Of a strip that shows where photos lie."""


@dataclass(frozen=True)
class Fact:
    """A line of the list beside the slider."""

    term: str
    says: str
    more: str = ""


@dataclass(frozen=True)
class Row:
    """The counts at one threshold."""

    threshold: str
    what: str
    cells: tuple[str, ...]
    """Found, missed, false alarms, share of its yeses that are right."""


@dataclass(frozen=True)
class NearPhoto:
    """A test photo near the threshold."""

    photo: Picture
    probability: float
    yes: bool
    """What the model answers."""
    picked: bool
    """Whether a person was asked because it looked doubtful, so that the label does not count."""
    shown: bool
    """Whether it is shown before the slider is moved."""


@dataclass(frozen=True)
class Drawing:
    """What lies above the slider."""

    curves: dict[str, str]
    """SVG paths of recall, precision, and false alarms, in WIDTH x HEIGHT."""
    strips: dict[str, list[float]]
    """For the yes photos and the no photos: how many lie in each of CELLS, as opacities in [0, 1]."""
    band: tuple[float, float] | None
    """The threshold's interval."""


@dataclass(frozen=True)
class ThresholdSection:
    """All that the section says."""

    facts: list[Fact]
    rows: list[Row]
    drawing: Drawing | None
    """None where no test photo counts."""
    data: dict[str, Any]
    """For the script: counts at every threshold of the grid, and at the shipped one."""
    photos: list[NearPhoto]
    by: str
    """Whose word is right."""


def threshold_section(data: RunData, command: str) -> ThresholdSection:
    """What the section says; `command` is the one that moves the threshold, without the number."""
    evaluated, record = data.evaluated, data.threshold_record or {}
    band = _band(record)
    return ThresholdSection(
        facts=_facts(data, record, band),
        rows=_rows(data, band),
        drawing=_drawing(evaluated, band) if len(evaluated.rows) else None,
        data=_data(data, command),
        photos=_photos(data),
        by=words.BY[evaluated.against],
    )


def _band(record: dict[str, Any]) -> tuple[float, float] | None:
    ends = record.get("interval")
    if not isinstance(ends, list) or len(ends) != 2 or not all(words.known(end) and 0 <= end <= 1 for end in ends):
        return None
    return float(min(ends)), float(max(ends))


def _facts(data: RunData, record: dict[str, Any], band: tuple[float, float] | None) -> list[Fact]:
    facts = [Fact("Threshold", words.number(data.threshold, 4), "The answer is yes from this probability on.")]
    if not record:
        more = "An earlier version made this model: it says nothing of where else its threshold could lie."
        return [*facts, Fact("Made for", words.ABSENT, more)]
    if band:
        facts.append(Fact("95 % interval", _range(band), _between(data.evaluated, band)))
    target, against = str(record.get("target", "")), str(record.get("against", ""))
    base = f"{words.share(record.get('base_rate'))} of the photos are yes"
    return [
        *facts,
        Fact("Made for", words.TARGETS.get(target, target)),
        Fact("Base rate", base, f"{words.BASE_RATES.get(against, against)}.".capitalize()),
        Fact("Expected there", _expected(record), _held_out(data, record)),
    ]


def _range(band: tuple[float, float]) -> str:
    return f"{words.number(band[0])} to {words.number(band[1])}"


def _between(evaluated: EvaluatedPhotos, band: tuple[float, float]) -> str:
    says = "Other photos of this kind would have put it in here"
    low, high = (evaluated.at(end) for end in band)
    if not low.yes + low.no:
        return f"{says}."
    if low == high:
        return f"{says}; the counts on the test photos are the same at either end."
    return (
        f"{says}: of the test photos it finds {low.hits} of {low.yes} at the lower end, with "
        f"{words.plural(low.false_alarms, 'false alarm')}, and {high.hits} at the upper, with "
        f"{words.plural(high.false_alarms, 'false alarm')}."
    )


def _expected(record: dict[str, Any]) -> str:
    return (
        f"finds {words.share(record.get('recall'))} of the yes photos; {words.share(record.get('precision'))} of its "
        f"yeses are right; false alarms on {words.share(record.get('false_alarms'))} of the no photos"
    )


def _held_out(data: RunData, record: dict[str, Any]) -> str:
    images, parts = record.get("images"), data.held_out
    says = f"On {words.number(images)} photos that it was not trained on, none of them a test photo"
    if not parts:
        return f"{says}."
    val, train = parts.get("val", 0), parts.get("train", 0)
    return f"{says}: {words.number(val)} of val, {words.number(train)} of train that a part of it had left out."


def _rows(data: RunData, band: tuple[float, float] | None) -> list[Row]:
    """The shipped threshold, the ends of its interval and some usual ones, in rising order."""
    named = dict.fromkeys(USUAL, "")
    if band:
        named |= {band[0]: "lower end of the interval", band[1]: "upper end of the interval"}
    named[data.threshold] = "shipped"
    return [_row(data.evaluated, at, named[at]) for at in sorted(named)] if len(data.evaluated.rows) else []


def _row(evaluated: EvaluatedPhotos, threshold: float, what: str) -> Row:
    counts = evaluated.at(threshold)
    return Row(
        words.number(threshold),
        what,
        (
            f"{words.number(counts.hits)} of {words.number(counts.yes)}",
            words.number(counts.misses),
            f"{words.number(counts.false_alarms)} of {words.number(counts.no)}",
            words.share(counts.precision.figure),
        ),
    )


def _drawing(evaluated: EvaluatedPhotos, band: tuple[float, float] | None) -> Drawing:
    yes = int(evaluated.truth.sum())
    hits, alarms = sweep(evaluated.student, evaluated.truth, GRID)
    with np.errstate(invalid="ignore"):
        shares = {
            "recall": hits / yes,
            "precision": hits / (hits + alarms),
            "false": alarms / (len(evaluated.truth) - yes),
        }
    sides = {"yes": evaluated.student[evaluated.truth], "no": evaluated.student[~evaluated.truth]}
    strips = {name: _cells(values) for name, values in sides.items()}
    return Drawing({name: _path(values) for name, values in shares.items()}, strips, band)


def _path(values: Floats) -> str:
    """A line through what is known of shares at each threshold of GRID."""
    points = [(at, value) for at, value in zip(GRID[::EVERY], values[::EVERY], strict=True) if np.isfinite(value)]
    return "M" + "L".join(f"{WIDTH * at:.0f} {HEIGHT * (1 - value):.1f}" for at, value in points) if points else ""


def _cells(probability: Floats) -> list[float]:
    """Root of the share of the fullest cell, so that a single photo is seen beside hundreds."""
    counts = np.histogram(probability, CELLS, (0, 1))[0]
    return [round(float(np.sqrt(count / max(counts.max(), 1))), 2) for count in counts]


def _data(data: RunData, command: str) -> dict[str, Any]:
    evaluated, asked = data.evaluated, data.labels.student[data.labels.test]
    grid = np.append(GRID, data.threshold)
    hits, alarms = sweep(evaluated.student, evaluated.truth, grid)
    calls = sweep(asked, np.ones(len(asked), bool), grid)[0]
    counts = [part.tolist() for part in (hits, alarms, calls)]
    return {
        "shipped": data.threshold,
        "yes": int(evaluated.truth.sum()),
        "no": int((~evaluated.truth).sum()),
        "at": [part.pop() for part in counts],
        **dict(zip(("hits", "alarms", "calls"), counts, strict=True)),
        "by": words.BY[evaluated.against],
        "command": f"{command} --at",
    }


def _photos(data: RunData) -> list[NearPhoto]:
    labels = data.labels
    order = nearest(labels.student, np.flatnonzero(labels.test), data.threshold, EMBEDDED)
    rest = set(nearest(labels.student, order, data.threshold, AT_REST).tolist())
    yes = labels.student[order].astype(np.float32) >= np.float32(data.threshold)
    root, region = Path(data.scenario.images.path or "."), scenario_region(data.scenario)
    shown = pictures(labels, order, root, region)
    return [
        NearPhoto(photo, float(labels.student[i]), answer, bool(labels.picked[i]), i in rest)
        for i, photo, answer in zip(order.tolist(), shown, yes.tolist(), strict=True)
    ]


def nearest(probability: Floats, rows: Indices, threshold: float, most: int) -> Indices:
    """The rows nearest to a threshold, half from either side where there are as many, by rising probability.

    Args:
        probability: `(N,)` in [0, 1].
        rows: Indices into it.
        threshold: In [0, 1].
        most: Largest number returned.
    """
    order = rows[np.argsort(probability[rows], kind="stable")]
    at = int(np.searchsorted(probability[order].astype(np.float32), np.float32(threshold)))
    below = min(at, max(most // 2, most - (len(order) - at)))
    return order[at - below : at - below + most]
