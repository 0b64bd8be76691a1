"""A run in a notebook: the question, the verdict, counts, a few photos, and where the rest lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np

from clip_factory import run_folder as files
from clip_factory.errors import FactoryError
from clip_factory.gate.gate_result import GateResult
from clip_factory.images.scenario_region import scenario_region
from clip_factory.labels import Labels
from clip_factory.report.embedded_images import tile, uri
from clip_factory.report.labels_page import examples
from clip_factory.run_folder import RunFolder
from clip_factory.runtime.region import Region
from clip_factory.scenario import load

SHOWN = 6
"""Photos of each kind."""
COLORS = {"passed": "#1a7f37", "refused": "#b42318", "not proven": "#9a6700"}
LINKS = (files.REPORT, files.LABELS_PAGE, files.MODEL, files.CARD)
KINDS = ("The likeliest", "The most doubtful")


def run_html(run: RunFolder, state: str) -> str:
    """A run as HTML: text and small pictures inside, links to its files relative to the working folder.

    Args:
        run: The run.
        state: The verdict, or how far the run has come.
    """
    scenario = load(run.file(files.SCENARIO))
    color = COLORS.get(state, "#57606a")
    parts = [
        f"<b>{escape(scenario.asked)}</b> "
        f'<span style="color:#fff;background:{color};border-radius:3px;padding:1px 6px">{escape(state)}</span>'
    ]
    parts += [f"<div>{escape(line)}</div>" for line in _headline(run)]
    if run.file(files.LABELS).is_file():
        labels = Labels.of_run(run)
        parts.append(f"<div>{_counts(labels)}</div>")
        parts += _galleries(labels, Path(scenario.images.path or "."), scenario_region(scenario))
    there = [name for name in LINKS if run.file(name).is_file()]
    links = (f'<a href="{escape(os.path.relpath(run.file(name)), quote=True)}">{name}</a>' for name in there)
    parts.append(f"<div>{escape(str(run.path))} {' · '.join(links)}</div>")
    return f'<div style="font-family:sans-serif;line-height:1.6">{"".join(parts)}</div>'


def _headline(run: RunFolder) -> list[str]:
    try:
        return [GateResult.of_run(run).verdict.headline]
    except FactoryError:
        return []


def _counts(labels: Labels) -> str:
    count = labels.counts
    answers = (
        f"{count['photos']:,} photos: {count['yes']:,} yes, {count['no']:,} no; {count['labeled']:,} labeled by people"
    )
    return f"{answers}; {count['train']:,} to train, {count['val']:,} to validate, {count['test']:,} to test"


def _galleries(labels: Labels, root: Path, region: Region | None) -> Iterator[str]:
    """A row of pictures for each kind that the page of the labels has, too."""
    p = labels.p_teacher.astype(np.float64)
    for title, _, rows in examples(p, labels.group):
        if title in KINDS:
            figures = "".join(_figure(root, region, str(labels.path[row]), float(p[row])) for row in rows[:SHOWN])
            yield f'<div style="margin-top:6px;color:#57606a">{title}</div><div>{figures}</div>'


def _figure(root: Path, region: Region | None, path: str, p: float) -> str:
    image = tile(root, path, region=region)
    if image is None:
        return ""
    image.thumbnail((96, 96))
    return (
        f'<figure style="display:inline-block;margin:0 6px 0 0;text-align:center" title="{escape(path, quote=True)}">'
        f'<img src="{uri(image)}" height="72" alt=""><figcaption style="font-size:11px">{p:.2f}</figcaption></figure>'
    )
