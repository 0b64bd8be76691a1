"""What a run says of the run before it: one line, on the same photos, only where people's labels can tell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from clip_factory.evaluation.previous_run import compare_with_previous
from clip_factory.run_folder import RunFolder
from support.finished_run import another, finished
from support.make_run import NOT_PROVEN


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "red-ball"


def later(run: Path, name: str, threshold: str) -> RunFolder:
    """A run that began after another, whose model answers from another probability on."""
    copy = RunFolder(another(run, run.parent / name, threshold=threshold))
    copy.file("log.jsonl").write_text(json.dumps({"event": "start", "time": 2e9}) + "\n", encoding="utf-8")
    return copy


def test_the_line_counts_what_has_changed_on_the_same_photos(home: Path) -> None:
    first = finished(home)
    strict = later(first, "2026-11-22T09-00-00", "0.99")
    line = compare_with_previous(strict)

    assert line is not None
    assert line.startswith("since 2026-11-21T09-00-00: ")
    assert "by people's labels" in line
    assert "2026-11-21T09-00-00 finds" in line and "more of" in line, "nearly everything is missed from .99 on"
    assert "AUC" in line and line.endswith("photos")


def test_the_first_run_has_nothing_before_it(home: Path) -> None:
    assert compare_with_previous(RunFolder(finished(home))) is None


def test_a_run_that_is_not_finished_does_not_count(home: Path) -> None:
    first = finished(home)
    second = later(first, "2026-11-22T09-00-00", "0.9")
    (first / "manifest.json").unlink()

    assert compare_with_previous(second) is None


def test_without_an_answer_nothing_is_said(home: Path) -> None:
    first = finished(home, NOT_PROVEN)

    assert compare_with_previous(later(first, "2026-11-22T09-00-00", "0.9")) is None
    shutil.rmtree(first)
