"""Bad inputs by the hundred: none ends in a traceback, a hang or a silent loss; docs/faults.md says what happened."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clip_factory.registry import open_registry, publish
from clip_factory.runtime import Model
from faults import file_kinds, photo_kinds
from faults.trials import LIMIT, Outcomes, Trial, try_all
from support.finished_run import finished
from support.make_run import RunKind
from support.review_run import make_review

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
ROW = re.compile(r"^\| (\w[\w ]*) \| .* \| (\d+) \| (.*) \|$", re.MULTILINE)


def _run_folders(folder: Path, model: Path) -> Iterator[Trial]:
    run, store, _ = make_review(folder, RunKind(images=40, gold=0.5))
    from support.finished_run import write_manifest

    (run.path / "student.ckpt").write_bytes(b"weights")
    (run.path / "report.html").write_text("<!doctype html>")
    (run.path / "card.md").write_text("---\nname: x\n---\n\n# x\n")
    write_manifest(run)
    return file_kinds.run_folders(folder, run.path, store)


def _registries(folder: Path, model: Path) -> Iterator[Trial]:
    publish(finished(folder / "run"), open_registry(str(folder / "registry")), "champion")
    return file_kinds.registries(folder, folder / "registry")


def _models(folder: Path, model: Path) -> Iterator[Trial]:
    photo_kinds.picture().save(folder / "photo.png")
    return file_kinds.models(folder, model, folder / "photo.png")


KINDS: dict[str, tuple[Callable[[Path, Path], Iterator[Trial]], Callable[..., Iterator[Trial]]]] = {
    "pictures": (lambda folder, model: photo_kinds.pictures(folder, Model.load(model)), photo_kinds.pictures),
    "names of files": (photo_kinds.names, photo_kinds.names),
    "archives": (lambda folder, model: photo_kinds.archives(folder), photo_kinds.archives),
    "tables of labels": (lambda folder, model: photo_kinds.label_tables(folder), photo_kinds.label_tables),
    "scenarios": (lambda folder, model: file_kinds.scenarios(folder), file_kinds.scenarios),
    "run folders": (_run_folders, file_kinds.run_folders),
    "models": (_models, file_kinds.models),
    "registries": (_registries, file_kinds.registries),
    "answers": (lambda folder, model: file_kinds.journals(folder), file_kinds.journals),
    "scores": (file_kinds.scores, file_kinds.scores),
    "machines": (file_kinds.environments, file_kinds.environments),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_input_ends_in_a_traceback_a_hang_or_a_loss(kind: str, tmp_path: Path, tiny_model: Path) -> None:
    make, described = KINDS[kind]
    # a process of its own imports torch first, which takes its seconds on a busy machine
    outcomes = try_all(make(tmp_path, tiny_model), 6 * LIMIT if kind == "machines" else LIMIT)
    assert not outcomes.failures, "\n".join(outcomes.failures)
    row = _row(kind, described.__doc__ or "", outcomes)
    if os.environ.get("FAULTS_PAGE") == "write":
        rest = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if not line.startswith(f"| {kind} |")]
        PAGE.write_text("\n".join([*rest, row]) + "\n", encoding="utf-8")
    assert row in PAGE.read_text(encoding="utf-8"), "FAULTS_PAGE=write pytest tests/faults writes the page"


def test_the_page_counts_enough_inputs_of_every_kind() -> None:
    rows = {kind: int(count) for kind, count, _ in ROW.findall(PAGE.read_text(encoding="utf-8"))}
    assert rows.keys() == KINDS.keys()
    assert sum(rows.values()) >= 400


def _row(kind: str, what: str, outcomes: Outcomes) -> str:
    happened = "; ".join(f"{count} {outcome}" for outcome, count in outcomes.counts.most_common())
    return f"| {kind} | {what.partition(chr(10))[0]} | {outcomes.counts.total()} | {happened} |"
