"""What is held out from each member, and in whose scale its answers are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from clip_factory import students as student
from clip_factory.images.photo import Photo, read_squares
from clip_factory.labels import Labels
from clip_factory.run_folder import HELD_OUT, LABELS
from clip_factory.students.cross_fitting import SCHEMA, MemberLogits, member_logits, rescale, write_held_out
from clip_factory.students.lightning_module import Distillation
from clip_factory.students.network import Student
from clip_factory.students.recipe import Recipe
from clip_factory.students.training_data import load_photos
from support.shapes_run import make_shapes_run


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
    sums = [int(read_squares([Photo.of(shapes / of[sha]["path"])], 60).astype(int).sum()) for sha in asked]
    members = list(seen.values())
    assert len(asked) == len(set(asked)) == pytest.approx(0.4 * len(train), abs=2)
    assert {row["sha256"] for row in held if row["split"] == "val"} == {
        row["sha256"] for row in rows if row["split"] == "val"
    }
    assert [sum(total not in member for member in members) for total in sums] == [1] * len(sums)
    assert len(members[0] | members[1]) == len(
        {int(read_squares([Photo.of(shapes / r["path"])], 60).astype(int).sum()) for r in train}
    )


def test_each_member_answers_for_its_fold_and_for_val(shapes: Path, tmp_path: Path) -> None:
    _, run, store = make_shapes_run(tmp_path, shapes)
    photos = load_photos(shapes, run, store, Recipe(folds=3), 24, seed=2)
    torch.manual_seed(0)
    networks = [Student("resnet-mini", 24) for _ in range(2)]
    networks[1].train()
    members = member_logits(networks, photos, shapes, run, 24)
    train, val = (Labels.of_run(run).of_split(name) for name in ("train", "val"))

    assert len(members) == 2
    for number, (member, network) in enumerate(zip(members, networks, strict=True)):
        rows = train.select(photos.folds == number)
        assert member.sha256 == rows.sha256.tolist()
        for found, part in ((member.train, rows), (member.val, val)):
            with torch.inference_mode():
                wanted = network.eval()(torch.from_numpy(read_squares(part.photos(shapes, None), 24))).double().numpy()
            assert found == pytest.approx(wanted, abs=1e-5)
            assert found.dtype == np.float64


def test_logits_are_the_networks_in_batches_and_none_of_none() -> None:
    torch.manual_seed(0)
    network = Student("resnet-mini", 16).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (150, 16, 16, 3)).astype(np.uint8)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(pixels)).double().numpy()

    assert student.logits(network, pixels) == pytest.approx(wanted, abs=1e-5)
    assert student.logits(network, pixels[:0]).tolist() == []


def test_what_is_held_out_stands_in_one_scale(shapes: Path, tmp_path: Path) -> None:
    _, run, store = make_shapes_run(tmp_path, shapes)
    photos = load_photos(shapes, run, store, Recipe(), 24, seed=2)
    torch.manual_seed(0)
    network = Student("resnet-mini", 24)
    averaged = student.logits(network.eval(), photos.val.images.numpy())
    members = [
        MemberLogits(["a", "b"], np.array([0.0, 1.0]), 3 * averaged - 2),
        MemberLogits(["c"], np.array([5.0]), averaged / 2),
    ]
    write_held_out(network.train(), photos, members, run)
    table = pq.read_table(run.file(HELD_OUT))
    val = Labels.of_run(run).of_split("val").sha256.tolist()

    assert table.schema.equals(SCHEMA)
    assert table["sha256"].to_pylist() == [*val, "a", "b", "c"]
    assert table["split"].to_pylist() == ["val"] * len(val) + ["train"] * 3
    assert table["logit"].to_numpy() == pytest.approx([*averaged, 2 / 3, 1.0, 10.0], abs=1e-5)


def test_scales_are_compared_from_ten_photos_on_that_differ() -> None:
    def member(val: np.ndarray) -> MemberLogits:
        return MemberLogits(["a"], np.array([1.0]), val)

    nine, ten = np.linspace(-1, 1, 9), np.linspace(-1, 1, 10)
    assert rescale(member(nine), 2 * nine + 1) == pytest.approx([1.0])
    assert rescale(member(ten), 2 * ten + 1) == pytest.approx([3.0])
    assert rescale(member(np.ones(10)), ten) == pytest.approx([1.0]), "a member that says one thing has no scale"


def test_a_members_logits_are_brought_to_the_scale_of_the_average() -> None:
    random = np.random.default_rng(0)
    mixed = random.normal(1, 2, 200)
    member = MemberLogits(["a", "b"], np.array([0.0, 1.0]), (mixed - 3) / 4)
    assert rescale(member, mixed) == pytest.approx([3.0, 7.0])
    few = MemberLogits(["a"], np.array([0.5]), np.array([1.0]))
    assert rescale(few, np.array([9.0])) == pytest.approx([0.5])


def test_held_out_answers_are_of_the_shipped_network_on_val(shapes: Path, tmp_path: Path) -> None:
    scenario, run, store = make_shapes_run(tmp_path, shapes, epochs=2)
    student.train(scenario, run, store)
    held = {row["sha256"]: row for row in pq.read_table(run.file(HELD_OUT)).to_pylist()}
    val = [row for row in pq.read_table(run.file(LABELS)).to_pylist() if row["split"] == "val"]
    said = student.logits(student.load(run), read_squares([Photo.of(shapes / row["path"]) for row in val], 48))
    assert [held[row["sha256"]]["logit"] for row in val] == pytest.approx(said.tolist(), abs=1e-4)
