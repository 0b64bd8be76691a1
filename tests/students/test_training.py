"""Whole trainings: they learn, repeat themselves, resume, and leave what they say."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from clip_factory import students as student
from clip_factory.errors import TrainError
from clip_factory.run_folder import HELD_OUT, LABELS, STUDENT, TRAINING, RunFolder
from clip_factory.students.lightning_module import Distillation
from clip_factory.students.recipe import Recipe
from clip_factory.students.training_data import decode
from support.shapes_run import make_shapes_run


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    scenario, run, store = make_shapes_run(tmp_path_factory.mktemp("student"), shapes, epochs=24)
    student.train(scenario, run, store)
    return run


def test_it_learns_the_shapes_and_leaves_three_files(trained: RunFolder, shapes: Path) -> None:
    labels = pq.read_table(trained.file(LABELS)).filter(
        pa.compute.equal(pq.read_table(trained.file(LABELS))["split"], "test")
    )
    pixels = decode([shapes / path for path in labels["path"].to_pylist()], 48)
    with torch.inference_mode():
        logits = student.load(trained)(torch.from_numpy(pixels)).numpy()
    assert ((logits > 0) == (labels["p_teacher"].to_numpy() > 0.5)).mean() >= 0.8
    assert sorted(p.name for p in trained.path.iterdir()) == sorted([HELD_OUT, LABELS, "log.jsonl", STUDENT, TRAINING])


def test_training_csv_has_a_row_for_each_epoch(trained: RunFolder) -> None:
    rows = list(csv.DictReader(trained.file(TRAINING).open()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
    assert list(rows[0]) == ["epoch", "train_loss", "val_loss", "val_agreement", "lr", "seconds"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


@pytest.mark.parametrize(
    ("member", "left"), [(0, [(0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3)]), (1, [(1, 2), (1, 3)])]
)
def test_killed_after_an_epoch_it_ends_with_the_same_weights(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: int, left: list[tuple[int, int]]
) -> None:
    seeds: list[int] = []
    original = Distillation.on_train_epoch_start

    def note(self: Distillation) -> None:
        seeds.extend({self.seed} - set(seeds))
        original(self)

    def run_once(folder: Path) -> dict[str, torch.Tensor]:
        scenario, run, store = make_shapes_run(folder, shapes, epochs=4)
        student.train(scenario, run, store)
        return student.load(run).state_dict()

    with monkeypatch.context() as patch:
        patch.setattr(Distillation, "on_train_epoch_start", note)
        whole = run_once(tmp_path / "whole")

    def die(self: Distillation) -> None:
        if (seeds.index(self.seed), self.current_epoch) == (member, 2):
            raise KeyboardInterrupt
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Distillation, "on_train_epoch_start", die)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run_once(tmp_path / "killed")
    assert list((tmp_path / "killed" / "tmp").glob("train-*/*.ckpt"))
    epochs = []
    monkeypatch.setattr(
        Distillation,
        "on_train_epoch_start",
        lambda self: (epochs.append((seeds.index(self.seed), self.current_epoch)), original(self)),
    )
    resumed = run_once(tmp_path / "killed")
    assert epochs == left
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_where_left_and_right_matter_nothing_is_mirrored(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    original = sys.modules["clip_factory.students.lightning_module"].augment
    monkeypatch.setattr(
        "clip_factory.students.lightning_module.augment",
        lambda images, size, how, dice: drawn.append(how.flip) or original(images, size, how, dice),
    )
    for mirror in (True, False):
        scenario, run, store = make_shapes_run(tmp_path / str(mirror), shapes, epochs=1, mirror=mirror)
        student.train(scenario, run, store)
        assert student.load(run).config["mirror"] is mirror
    assert set(drawn) == {0.5, 0.0}
    assert drawn == sorted(drawn, reverse=True)


def test_a_damaged_student_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / STUDENT).write_bytes(b"")
    with pytest.raises(TrainError, match="not a student"):
        student.load(RunFolder(tmp_path))


def test_training_csv_has_the_means_that_were_measured(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses by hand, from what each step returns: with no vector loss that is the logged one."""
    losses: list[tuple[int, int, float]] = []
    original = Distillation.training_step

    def note(self: Distillation, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        loss = original(self, batch, index)
        losses.append((self.seed, self.current_epoch, loss.item()))
        return loss

    monkeypatch.setattr(Distillation, "training_step", note)
    scenario, run, store = make_shapes_run(tmp_path, shapes, epochs=2)
    student.train(scenario, run, store, Recipe(vector_weight=0.0))
    rows = list(csv.DictReader(run.file(TRAINING).open()))
    for epoch, row in enumerate(rows):
        members = {seed for seed, *_ in losses}
        means = [np.mean([x for s, e, x in losses if (s, e) == (seed, epoch)]) for seed in members]
        assert float(row["train_loss"]) == pytest.approx(np.mean(means), rel=1e-4)
    assert all(0 <= float(row["val_agreement"]) <= 1 and float(row["seconds"]) > 0 for row in rows)
