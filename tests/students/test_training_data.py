"""Training data: targets, weights, folds and batches are what labels and recipe say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clip_factory.errors import TrainError
from clip_factory.students import training_data as data
from clip_factory.students.recipe import Recipe
from clip_factory.students.training_data import EpochBatches, balanced, brier_skill, cross_fit_folds, decode, targets


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


def test_many_photos_are_memory_mapped(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted((shapes / "photos").glob("*.png"))[:3]
    monkeypatch.setattr(data, "MEMORY_BYTES", 100)
    mapped = decode(files, 16, tmp_path / "tmp" / "x.npy")
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, decode(files, 16))
