"""Training data: targets, weights, folds and batches are what labels and recipe say."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss

from clip_factory.errors import TrainError
from clip_factory.images.photo import read_squares
from clip_factory.labels import Labels
from clip_factory.run_folder import LABELS, RunFolder
from clip_factory.students import training_data as data
from clip_factory.students.recipe import Recipe
from clip_factory.students.training_data import (
    EpochBatches,
    PhotoDataModule,
    balanced,
    brier_skill,
    cross_fit_folds,
    load_photos,
    targets,
)
from support.shapes_run import make_shapes_run


def labels_of(**columns: object) -> Labels:
    """Labels of so many photos, all of them train and unlabeled where nothing else is said."""
    n = len(columns["p_teacher"])
    rest = {
        "sha256": np.array([f"{i:064x}" for i in range(n)], object),
        "path": np.array([f"{i}.png" for i in range(n)], object),
        "group": np.arange(n, dtype=np.int32),
        "scores": np.zeros((n, 0), np.float32),
        "gold": np.full(n, np.nan),
        "picked": np.zeros(n, bool),
        "split": np.full(n, "train"),
        "weight": np.ones(n, np.float32),
    }
    return Labels(**(rest | columns))


def test_gold_outranks_the_teacher_and_is_smoothed() -> None:
    gold = np.array([1, 0, np.nan])

    assert targets(np.array([0.1, 0.9, 0.9]), gold, Recipe(smoothing=0.02)) == pytest.approx([0.98, 0.02, 0.9])
    assert targets(np.array([0.1, 0.9, 0.9]), gold, Recipe(smoothing=0.1)) == pytest.approx([0.9, 0.1, 0.9])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_targets_are_softened_by_the_temperature(temperature: float) -> None:
    """Hinton et al. 2015: the logit is divided by it; certainty itself is taken as one in ten thousand."""
    p = np.array([0.0, 0.001, 0.3, 0.5, 0.9, 1.0], np.float32)
    found = targets(p, np.full(6, np.nan), Recipe(temperature=temperature))

    assert found == pytest.approx(expit(logit(np.clip(p.astype(float), 1e-4, 1 - 1e-4)) / temperature), rel=1e-9)
    assert found.dtype == np.float64


@pytest.mark.parametrize(("count", "skilled"), [(10, True), (9, False)])
def test_skill_is_that_of_the_brier_score_from_ten_answers_of_each_side_on(count: int, skilled: bool) -> None:
    random = np.random.default_rng(0)
    gold = np.repeat([1.0, 0.0], [count, 30])
    p = np.clip(0.3 + 0.4 * gold + random.normal(0, 0.1, len(gold)), 0, 1)
    wanted = 1 - brier_score_loss(gold, p) / brier_score_loss(gold, np.full(len(gold), gold.mean()))

    assert brier_skill(gold, p) == (pytest.approx(wanted) if skilled else 0.0)
    assert brier_skill(1 - gold, 1 - p) == (pytest.approx(wanted) if skilled else 0.0)
    assert brier_skill(gold[:0], p[:0]) == 0.0


def test_the_teachers_share_is_by_its_word_on_what_people_have_labeled() -> None:
    gold = np.repeat([1.0, 0.0, np.nan], [15, 15, 10])
    p = np.clip(np.where(gold == 1, 0.8, 0.3) + np.linspace(-0.1, 0.1, 40), 0, 1)
    recipe = Recipe(teacher_share=0.6, smoothing=0.05, temperature=2.0)
    known = ~np.isnan(gold)
    share = 0.6 * brier_skill(gold[known], p[known]) ** 2
    soft = expit(logit(p) / 2)
    wanted = np.where(known, (1 - share) * np.where(gold == 1, 0.95, 0.05) + share * soft, soft)

    assert targets(p, gold, recipe) == pytest.approx(wanted)
    assert 0.1 < share < 0.6


@pytest.mark.parametrize("certainty", [0.0, 0.5, 1.0])
def test_weights_are_the_recipes_with_a_mean_of_one(certainty: float) -> None:
    gold = np.array([1, 0, np.nan, np.nan, np.nan, np.nan])
    labels = labels_of(
        p_teacher=np.array([0.2, 0.9, 0.9, 0.1, 0.6, 0.4], np.float32),
        gold=gold,
        weight=np.array([1, 1, 0.8, 0.8, 0.2, 0.2], np.float32),
    )
    recipe = Recipe(gold_weight=3.0, certainty=certainty, balance=0.0)
    images, vectors = np.zeros((6, 4, 4, 3), np.uint8), np.eye(6, 2, dtype=np.float32)
    found = data.examples(labels, images, recipe, vectors)
    wanted = np.where(np.isnan(gold), labels.weight.astype(float) ** certainty, 3.0)

    assert found.weight.numpy() == pytest.approx(wanted / wanted.mean(), rel=1e-6)
    assert found.weight.mean().item() == pytest.approx(1)
    assert found.target.numpy() == pytest.approx(targets(labels.p_teacher, gold, recipe), rel=1e-6)
    assert (found.weight.dtype, found.target.dtype) == (torch.float32, torch.float32)
    assert torch.equal(found.images, torch.from_numpy(images)) and torch.equal(found.vectors, torch.from_numpy(vectors))
    assert len(found) == 6
    batch = found[torch.tensor([4, 1])]
    assert set(batch) == {"images", "target", "weight", "vectors"}
    assert batch["target"].tolist() == found.target[[4, 1]].tolist()


def test_balanced_weights_have_a_mean_of_one_and_no_vectors_are_none() -> None:
    labels = labels_of(p_teacher=np.array([0.9] * 2 + [0.1] * 18, np.float32))
    found = data.examples(labels, np.zeros((20, 4, 4, 3), np.uint8), Recipe(), None)

    assert found.weight.mean().item() == pytest.approx(1)
    assert found.weight[0] > 2 * found.weight[-1]
    assert found.vectors.shape == (20, 0)
    assert found.target[0] > 0.9, "a photo among few is more of a yes than its teacher says"


@pytest.mark.parametrize("balance", [0.0, 0.3, 1.0])
def test_each_side_is_weighed_by_a_power_of_what_makes_the_totals_equal(balance: float) -> None:
    random = np.random.default_rng(0)
    soft, weight = random.random(50) ** 3, random.uniform(0.5, 2, 50)
    share = np.average(soft, weights=weight)
    yes_factor, no_factor = (0.5 / share) ** balance, (0.5 / (1 - share)) ** balance
    target, found = balanced(soft, weight, balance)

    assert found == pytest.approx(weight * (yes_factor * soft + no_factor * (1 - soft)))
    assert target * found == pytest.approx(weight * yes_factor * soft)


def test_no_side_is_weighed_up_more_than_ten_times() -> None:
    target, weight = balanced(np.repeat([1.0, 0.0], [1, 99]), np.ones(100), 1.0)

    assert weight[0] == 10.0
    assert weight[1:] == pytest.approx(0.5 / 0.99)
    assert target.tolist() == [1.0] + [0.0] * 99


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


@pytest.mark.parametrize(
    ("target", "side"), [([0.0] * 4, "no"), ([0.3] * 4, "no"), ([0.5] * 4, "no"), ([0.7, 0.799], "yes"), ([], "no")]
)
def test_labels_without_contrast_are_refused(target: list[float], side: str) -> None:
    with pytest.raises(TrainError) as told:
        balanced(np.array(target), np.ones(len(target)), 1.0)
    assert str(told.value) == (
        f"every image is labeled {side}: nothing to learn\n"
        "  change the phrases or the photos so that both answers occur, then: factory label"
    )
    assert len(balanced(np.array([0.5, 0.7]), np.ones(2), 1.0)[0]) == 2


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


def test_batches_are_of_nearly_equal_size_and_there_is_always_one() -> None:
    sizes = [len(rows) for rows in EpochBatches(np.arange(50), 16, seed=3, epoch=lambda: 0)]

    assert sizes == [17, 17, 16]
    assert [len(rows) for rows in EpochBatches(np.arange(3), 16, seed=3, epoch=lambda: 0)] == [3]


def test_the_order_of_an_epoch_is_numpys_permutation_of_seed_and_epoch() -> None:
    rows = np.arange(100, 150)
    found = torch.cat(list(EpochBatches(rows, 16, seed=3, epoch=lambda: 5)))

    assert found.tolist() == rows[np.random.default_rng([3, 5]).permutation(50)].tolist()


def test_folds_are_dealt_from_the_last_on_by_groups_in_shuffled_order() -> None:
    groups, yes = np.array([7, 7, 3, 9, 9, 1, 5, 2]), np.array([False, True, False, True, False, False, False, False])
    found = cross_fit_folds(groups, yes, 3, seed=4)
    names = sorted(set(groups.tolist()))
    order = [names[i] for i in np.random.default_rng([4, 3]).permutation(len(names))]
    dealt = {}
    for side in ({7, 9}, {1, 2, 3, 5}):
        dealt |= {group: 2 - n % 3 for n, group in enumerate(group for group in order if group in side)}

    assert found.tolist() == [dealt[group] for group in groups.tolist()]
    assert cross_fit_folds(groups, yes, 0, seed=4).tolist() == [-1] * 8
    assert cross_fit_folds(groups, yes, 1, seed=4).tolist() == [0] * 8


@pytest.mark.parametrize(("excluded", "left"), [(None, 40), (0, 30), (3, 30)])
def test_the_fold_that_is_excluded_is_in_no_batch(excluded: int | None, left: int) -> None:
    labels = labels_of(p_teacher=np.linspace(0, 1, 40, dtype=np.float32))
    photos = data.examples(labels, np.zeros((40, 2, 2, 3), np.uint8), Recipe(), None)
    photos = replace(photos, target=torch.arange(40.0))
    module = PhotoDataModule(photos, photos, 8, seed=1, folds=np.arange(40) % 4)
    module.excluded_fold = excluded
    batches = list(module.train_dataloader())
    rows = torch.cat([batch["target"] for batch in batches]).long().tolist()

    assert sorted(rows) == [row for row in range(40) if row % 4 != excluded]
    assert len(batches) == round(left / 8)
    assert rows != sorted(rows)
    module.epoch = lambda: 1
    assert torch.cat([batch["target"] for batch in module.train_dataloader()]).long().tolist() != rows
    validation = [batch["target"] for batch in module.val_dataloader()]
    assert torch.cat(validation).tolist() == list(range(40))
    assert [len(part) for part in validation] == [32, 8]


def test_seeds_are_their_own_for_each_sequence_of_numbers() -> None:
    assert data.derive_seed(3, 1) == np.random.SeedSequence([3, 1]).generate_state(1)[0]
    assert len({data.derive_seed(*numbers) for numbers in itertools.product(range(4), repeat=3)}) == 64


def loaded(run: RunFolder, photos: Path, store: object, recipe: Recipe, size: int = 24) -> PhotoDataModule:
    return load_photos(photos, run, store, recipe, size, seed=5)


def test_photos_are_read_as_the_labels_name_them(shapes: Path, tmp_path: Path) -> None:
    _, run, store = make_shapes_run(tmp_path, shapes)
    labels = Labels.of_run(run)
    train, val = labels.of_split("train"), labels.of_split("val")
    found = loaded(run, shapes, store, Recipe(oversize=1.5, folds=4, batch_size=16))
    vectors = store.get("shapes-key", train.sha256.tolist())
    centered = vectors - vectors.mean(axis=0)

    assert np.array_equal(found.train.images.numpy(), read_squares(train.photos(shapes, None), 36))
    assert np.array_equal(found.val.images.numpy(), read_squares(val.photos(shapes, None), 24))
    assert found.train.vectors.numpy() == pytest.approx(
        centered / np.linalg.norm(centered, axis=1, keepdims=True), abs=1e-6
    )
    assert found.val.vectors.shape == (len(val), 0)
    assert found.train.target.numpy() == pytest.approx(
        balanced(targets(train.p_teacher, train.gold, Recipe()), np.ones(len(train)), 1.0)[0], rel=1e-6
    )
    assert found.folds.tolist() == cross_fit_folds(train.group, train.p_teacher > 0.5, 4, 5).tolist()
    assert (found.batch_size, found.seed) == (len(train) // 8, 5), "a small folder has small batches"
    assert loaded(run, shapes, store, Recipe(batch_size=8)).batch_size == 8
    small = loaded(run, shapes, store, Recipe(oversize=0.5, vector_weight=0.0))
    assert small.train.images.shape[1:] == (24, 24, 3), "never smaller than the student"
    assert small.train.vectors.shape == (len(train), 0)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_photos_is_named(shapes: Path, tmp_path: Path, split: str) -> None:
    _, run, store = make_shapes_run(tmp_path, shapes)
    labels = Labels.of_run(run)
    labels.select(labels.split != split).write(run.file(LABELS))
    with pytest.raises(TrainError) as told:
        loaded(run, shapes, store, Recipe())
    assert str(told.value) == (
        f"labels.parquet has no image in split {split!r}\n  give more photos, then: factory label"
    )
