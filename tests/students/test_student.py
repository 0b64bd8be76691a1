"""Training: it learns, it repeats itself, it resumes, and its data are what the labels say."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from safetensors.torch import save_file

from clip_factory import students as student
from clip_factory.errors import TrainError
from clip_factory.run_folder import HELD_OUT, LABELS, STUDENT, TRAINING, RunFolder
from clip_factory.students import backbones
from clip_factory.students import training_data as data
from clip_factory.students.augmentation import Augmentation, augment, resize
from clip_factory.students.cross_fitting import MemberLogits, rescale
from clip_factory.students.lightning_module import Distillation, fused
from clip_factory.students.network import Student, soup
from clip_factory.students.recipe import Recipe
from clip_factory.students.training_data import EpochBatches, balanced, brier_skill, cross_fit_folds, decode, targets
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


def test_a_soup_is_the_mean_of_its_members() -> None:
    members = [Student("resnet-mini", 32) for _ in range(2)]
    weights = [member.backbone[0].weight.detach().clone() for member in members]

    mixed = soup(members)

    assert torch.allclose(mixed.backbone[0].weight, (weights[0] + weights[1]) / 2)
    assert not torch.allclose(*weights)


@pytest.mark.parametrize("name", list(backbones.BACKBONES))
def test_fused_modules_say_the_same_of_any_number_and_size(name: str) -> None:
    entry = backbones.get(name)
    modules = backbones.pretrained(entry)[: entry.freezable].eval()
    with torch.inference_mode():
        graph = fused(modules, torch.rand(1, 3, 64, 64))
        for count, side in ((1, 64), (3, 96), (2, 40)):
            pixels = torch.rand(count, 3, side, side)
            assert torch.allclose(graph(pixels), modules(pixels), atol=1e-4)


@pytest.mark.parametrize("name", list(backbones.BACKBONES))
def test_every_backbone_loads_its_weights_and_takes_any_size(name: str) -> None:
    entry = backbones.get(name)
    net = Student(name, 64, backbones.pretrained(entry)).eval()
    with torch.inference_mode():
        assert net(torch.zeros(2, 64, 64, 3, dtype=torch.uint8)).shape == (2,)
        assert net(torch.zeros(1, 40, 40, 3, dtype=torch.uint8)).isfinite().all()
    assert entry.asset.stat().st_size <= 1_500_000


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("name", ["efficientnet-lite", "mobilenetv3"])
def test_weights_of_the_hub_are_cut_to_the_backbone(name: str, hub_cache: Path) -> None:
    entry = backbones.get(name)
    torch.manual_seed(1)
    full = timm.create_model(entry.full.partition(".")[0])
    repository = hub_cache / f"models--timm--{entry.full}"
    (repository / "snapshots" / "c0ffee").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c0ffee")
    save_file(full.state_dict(), repository / "snapshots" / "c0ffee" / "model.safetensors")

    net = backbones.pretrained(entry, "hub")

    assert torch.equal(net[0].weight, full.conv_stem.weight)
    assert torch.equal(net[2].conv_dw.weight, full.blocks[0][0].conv_dw.weight)
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: v.shape for k, v in entry.build().state_dict().items()
    }


def test_pruning_keeps_the_strongest_hidden_channels() -> None:
    full = timm.create_model("efficientnet_lite0")
    block = full.blocks[3][1]
    weak = torch.arange(0, 480, 5)
    with torch.no_grad():
        block.conv_pwl.weight[:, weak] *= 1e-6
    whole = block.conv_pw.weight.clone()

    narrow = backbones.get("efficientnet-lite").truncate(full)[8]

    kept = torch.tensor([i for i in range(480) if i % 5])
    assert torch.equal(narrow.conv_pw.weight, whole[kept])


def test_no_weights_from_the_hub_say_what_to_do(hub_cache: Path) -> None:
    with pytest.raises(TrainError, match="of backbone efficientnet-lite cannot be had from the hub: ") as told:
        backbones.pretrained(backbones.get("efficientnet-lite"), "hub")
    assert told.value.hint == "connect to the network once, or set student.weights to package"
    with pytest.raises(TrainError, match="backbone resnet-mini has no weights on the hub"):
        backbones.pretrained(backbones.get("resnet-mini"), "hub")


def test_resnet_mini_is_mini() -> None:
    assert backbones.get("resnet-mini").parameters <= 75_000


def test_auto_takes_the_best_that_fits() -> None:
    assert backbones.choose("auto", 300).name == "efficientnet-lite"
    assert backbones.choose("auto", 100).name == "resnet-mini"
    assert backbones.choose("auto", 2000, "fp32").name == "efficientnet-lite"
    assert backbones.choose("auto", 400, "fp32").name == "resnet-mini"


def test_an_unknown_backbone_is_named_with_the_known_ones() -> None:
    with pytest.raises(
        TrainError, match="no backbone 'vgg'\n  known: auto, efficientnet-lite, mobilenetv3, resnet-mini"
    ):
        backbones.choose("vgg", 300)


def test_augmentation_repeats_and_keeps_range() -> None:
    images = torch.randint(0, 256, (5, 48, 48, 3), dtype=torch.uint8)

    def once(seed: int) -> torch.Tensor:
        return augment(images, 32, Augmentation(), torch.Generator().manual_seed(seed))

    assert once(1).shape == (5, 3, 32, 32)
    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))
    assert 0 <= once(1).min() <= once(1).max() <= 255


def test_no_augmentation_is_the_image_itself() -> None:
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    still = Augmentation(min_crop=1.0, aspect=1.0, flip=0.0, light=0.0, color=0.0)
    assert torch.allclose(augment(images, 32, still, torch.Generator()), resize(images, 32), atol=1e-2)


def test_gold_outranks_the_teacher_and_temperature_softens() -> None:
    gold = np.array([1, 0, np.nan])
    target = targets(np.array([0.1, 0.9, 0.9]), gold, Recipe(smoothing=0.02, temperature=2.0))
    assert target == pytest.approx([0.98, 0.02, 0.75])


def test_a_skilled_teacher_has_a_share_in_the_targets_of_gold() -> None:
    gold = np.array([1.0] * 20 + [0.0] * 20)
    skilled = np.array([0.9] * 19 + [0.2] + [0.1] * 20)
    target = targets(skilled, gold, Recipe(smoothing=0.0, teacher_share=0.5))
    share = 0.5 * brier_skill(gold, skilled) ** 2
    assert 0.3 < share < 0.5
    assert target[19] == pytest.approx(1 - 0.8 * share)
    assert (target[:20] > 0.5).all()
    guessing = np.array([0.1, 0.9] * 20)
    assert targets(guessing, gold, Recipe(smoothing=0.0)).tolist() == gold.tolist()


def test_skill_is_one_for_the_truth_and_none_for_the_base_rate_or_a_handful() -> None:
    gold = np.array([1.0] * 20 + [0.0] * 60)
    assert brier_skill(gold, gold) == 1.0
    assert brier_skill(gold, np.full(80, 0.25)) == pytest.approx(0.0)
    assert brier_skill(gold, 1 - gold) == 0.0
    assert brier_skill(gold[:24], gold[:24]) == 0.0


def test_hard_labels_are_balanced_to_equal_totals() -> None:
    yes, weight = np.array([1.0] * 2 + [0.0] * 8), np.ones(10)
    target, balance = balanced(yes, weight, 1.0)
    assert target.tolist() == yes.tolist()
    assert balance[:2].sum() == pytest.approx(balance[2:].sum())
    assert balanced(yes, weight, 0.0)[1].tolist() == [1.0] * 10
    assert balanced(np.array([1.0] + [0.0] * 999), np.ones(1000), 1.0)[1].max() == 10.0


def test_balancing_soft_labels_weighs_the_two_terms_of_their_loss() -> None:
    """The loss of the new targets and weights is the old one with its yes and its no term weighed apart."""
    soft, weight = np.array([0.4, 0.1, 0.1, 0.2]), np.array([1.0, 2.0, 1.0, 1.0])
    target, balance = balanced(soft, weight, 1.0)
    yes = (weight * soft).sum() / weight.sum()
    for p in (0.2, 0.5, 0.9):
        terms = -weight * (0.5 / yes * soft * np.log(p) + 0.5 / (1 - yes) * (1 - soft) * np.log(1 - p))
        whole = -balance * (target * np.log(p) + (1 - target) * np.log(1 - p))
        assert whole == pytest.approx(terms)
    assert target[0] > 0.5, "the likeliest of photos of which none is sure becomes a yes"


def test_labels_without_contrast_are_refused() -> None:
    for same in (0.0, 0.3):
        with pytest.raises(TrainError, match="every image is labeled no: nothing to learn"):
            balanced(np.full(4, same), np.ones(4), 1.0)


def test_batches_hold_every_row_once_and_follow_seed_and_epoch() -> None:
    rows = np.arange(100, 150)
    first = list(sampler := EpochBatches(rows, 16, seed=3, epoch=lambda: 0))
    assert sorted(torch.cat(first).tolist()) == rows.tolist()
    assert len(first) == len(sampler) == 3
    assert torch.equal(first[0], next(iter(sampler)))
    assert not torch.equal(first[0], next(iter(EpochBatches(rows, 16, seed=3, epoch=lambda: 1))))


def test_parts_keep_near_duplicates_together_and_deal_yes_evenly() -> None:
    random = np.random.default_rng(0)
    groups, yes = random.integers(0, 120, 300), random.random(300) < 0.1
    parts = cross_fit_folds(groups, yes, 5, seed=0)
    assert all(len(set(parts[groups == group])) == 1 for group in groups)
    assert set(parts) == set(range(5))
    held = [len({g for g in groups[(parts == part) & yes]}) for part in range(5)]
    assert max(held) - min(held) <= 1
    assert not np.array_equal(parts, cross_fit_folds(groups, yes, 5, seed=1))


def test_with_hardly_a_yes_no_member_goes_without() -> None:
    groups = np.arange(40)
    for count in (1, 2, 3):
        parts = cross_fit_folds(groups, groups < count, 5, seed=0)
        assert not set(parts[:count]) & {0, 1}


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


def test_many_photos_are_memory_mapped(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted((shapes / "photos").glob("*.png"))[:3]
    monkeypatch.setattr(data, "MEMORY_BYTES", 100)
    mapped = decode(files, 16, tmp_path / "tmp" / "x.npy")
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, decode(files, 16))


def test_a_damaged_student_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / STUDENT).write_bytes(b"")
    with pytest.raises(TrainError, match="not a student"):
        student.load(RunFolder(tmp_path))


def test_epochs_follow_the_number_of_images() -> None:
    recipe = Recipe()
    assert recipe.epochs(50) == recipe.max_epochs
    assert recipe.epochs(1_000_000) == recipe.min_epochs


def distillation(recipe: Recipe, dim: int = 4) -> tuple[Distillation, dict[str, torch.Tensor]]:
    """A module at the start of 10 epochs, and a batch."""
    torch.manual_seed(0)
    net = Student("resnet-mini", 64, backbones.pretrained(backbones.get("resnet-mini")))
    module = Distillation(net, recipe, dim, epochs=10, batches=3, seed=0)
    batch = {
        "images": torch.randint(0, 256, (6, 64, 64, 3), dtype=torch.uint8),
        "target": torch.tensor([1.0, 0.0] * 3),
        "weight": torch.ones(6),
        "vectors": torch.nn.functional.normalize(torch.randn(6, dim)),
    }
    return module, batch


def first_loss(**changes: float) -> float:
    module, batch = distillation(replace(Recipe(), **{"dropout": 0.0, "vector_weight": 0.0} | changes))
    return module.training_step(batch, 0).item()


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_vector_loss_and_dropout_are_part_of_the_loss() -> None:
    plain = first_loss()
    assert first_loss() == plain
    assert first_loss(vector_weight=1.0) - plain == pytest.approx(2 * (first_loss(vector_weight=0.5) - plain), abs=1e-5)
    assert first_loss(vector_weight=1.0) > plain + 0.1
    assert first_loss(dropout=0.5) != plain


def test_frozen_modules_learn_nothing_and_keep_their_statistics() -> None:
    module, _ = distillation(Recipe())
    module.train()
    module.on_train_epoch_start()
    count = backbones.get("resnet-mini").freezable
    frozen, free = module.student.backbone[:count], module.student.backbone[count:]
    assert not any(part.training for layer in frozen for part in layer.modules())
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(part.training for layer in free for part in layer.modules())
    assert all(p.requires_grad for p in free.parameters())


def test_heads_learn_faster_and_norms_do_not_decay() -> None:
    module, _ = distillation(Recipe(rate=0.001, head_rate=0.004, weight_decay=0.02))
    groups = module.configure_optimizers()["optimizer"].param_groups
    assert [group["max_lr"] for group in groups] == [0.001, 0.001, 0.004]
    assert [group["weight_decay"] for group in groups] == [0.02, 0.0, 0.02]
    heads = {id(p) for head in (module.student.head, module.vector_head) for p in head.parameters()}
    assert {id(p) for p in groups[2]["params"]} == heads


def test_batches_are_small_first_and_full_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = distillation(Recipe(small_share=0.7))
    sizes = []
    for epoch in range(10):
        monkeypatch.setattr(Distillation, "current_epoch", epoch)
        sizes.append(module._size())
    assert sizes == [48] * 7 + [64] * 3


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
