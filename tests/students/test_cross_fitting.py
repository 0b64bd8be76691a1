"""What is held out from each member, and in whose scale its answers are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from clip_factory import students as student
from clip_factory.run_folder import HELD_OUT, LABELS, RunFolder
from clip_factory.students.cross_fitting import MemberLogits, rescale
from clip_factory.students.lightning_module import Distillation
from clip_factory.students.training_data import decode
from support.shapes_run import make_shapes_run


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    scenario, run, store = make_shapes_run(tmp_path_factory.mktemp("student"), shapes, epochs=24)
    student.train(scenario, run, store)
    return run


def test_each_member_leaves_its_part_out_and_is_asked_about_it(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, set[int]] = {}
    original = Distillation.training_step

    def note(self: Distillation, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        said = {int(image.sum()) for image in batch["images"].long()}
        seen[self.seed] = seen.get(self.seed, set()) | said
        return original(self, batch, index)

    monkeypatch.setattr(Distillation, "training_step", note)
    scenario, run, store = make_shapes_run(tmp_path, shapes, epochs=2)
    student.train(scenario, run, store)
    rows = pq.read_table(run.file(LABELS)).to_pylist()
    held = pq.read_table(run.file(HELD_OUT)).to_pylist()
    of = {row["sha256"]: row for row in rows}
    train = [row for row in rows if row["split"] == "train"]
    asked = [row["sha256"] for row in held if row["split"] == "train"]
    sums = [int(decode([shapes / of[sha]["path"]], 60).astype(int).sum()) for sha in asked]
    members = list(seen.values())
    assert len(asked) == len(set(asked)) == pytest.approx(0.4 * len(train), abs=2)
    assert {row["sha256"] for row in held if row["split"] == "val"} == {
        row["sha256"] for row in rows if row["split"] == "val"
    }
    assert [sum(total not in member for member in members) for total in sums] == [1] * len(sums)
    assert len(members[0] | members[1]) == len({int(decode([shapes / r["path"]], 60).astype(int).sum()) for r in train})


def test_a_members_logits_are_brought_to_the_scale_of_the_average() -> None:
    random = np.random.default_rng(0)
    mixed = random.normal(1, 2, 200)
    member = MemberLogits(["a", "b"], np.array([0.0, 1.0]), (mixed - 3) / 4)
    assert rescale(member, mixed) == pytest.approx([3.0, 7.0])
    few = MemberLogits(["a"], np.array([0.5]), np.array([1.0]))
    assert rescale(few, np.array([9.0])) == pytest.approx([0.5])


def test_held_out_answers_are_of_the_shipped_network_on_val(trained: RunFolder, shapes: Path) -> None:
    held = {row["sha256"]: row for row in pq.read_table(trained.file(HELD_OUT)).to_pylist()}
    val = [row for row in pq.read_table(trained.file(LABELS)).to_pylist() if row["split"] == "val"]
    said = student.logits(student.load(trained), decode([shapes / row["path"] for row in val], 48))
    assert [held[row["sha256"]]["logit"] for row in val] == pytest.approx(said.tolist(), abs=1e-4)
