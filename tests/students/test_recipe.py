"""Every number of the recipe does what its line says: each has a test that fails when it is passed over."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from clip_factory.students.augmentation import Augmentation
from clip_factory.students.recipe import Recipe

SHOWN_BY = {
    "image_size": "test_a_training_follows_the_numbers_of_its_recipe",
    "small_share": "test_a_training_follows_the_numbers_of_its_recipe",
    "oversize": "test_a_training_follows_the_numbers_of_its_recipe",
    "batch_size": "test_a_training_follows_the_numbers_of_its_recipe",
    "members": "test_a_training_follows_the_numbers_of_its_recipe",
    "folds": "test_a_training_follows_the_numbers_of_its_recipe",
    "steps": "test_epochs_are_what_the_steps_need_within_bounds",
    "min_epochs": "test_epochs_are_what_the_steps_need_within_bounds",
    "max_epochs": "test_epochs_are_what_the_steps_need_within_bounds",
    "rate": "test_rates_rise_for_a_fifth_of_the_steps_and_fall_to_nothing",
    "head_rate": "test_rates_rise_for_a_fifth_of_the_steps_and_fall_to_nothing",
    "weight_decay": "test_weights_decay_and_biases_and_norms_do_not",
    "temperature": "test_targets_are_softened_by_the_temperature",
    "smoothing": "test_gold_outranks_the_teacher_and_is_smoothed",
    "teacher_share": "test_a_skilled_teacher_has_a_share_in_the_targets_of_gold",
    "gold_weight": "test_weights_are_the_recipes_with_a_mean_of_one",
    "certainty": "test_weights_are_the_recipes_with_a_mean_of_one",
    "balance": "test_hard_labels_are_balanced_to_equal_totals",
    "vector_weight": "test_the_loss_is_cross_entropy_and_the_distance_of_the_vectors",
    "frozen": "test_frozen_modules_leave_training_as_they_came",
    "dropout": "test_dropout_takes_its_share_of_the_features_in_training_alone",
    "augmentation": "test_a_training_follows_the_numbers_of_its_recipe",
    "min_crop": "test_crops_keep_a_uniform_share_of_the_area",
    "aspect": "test_crops_are_wider_or_taller_by_the_aspect",
    "flip": "test_mirror_images_come_as_often_as_asked",
    "light": "test_light_and_color_vary_as_worked_out_by_hand",
    "color": "test_light_and_color_vary_as_worked_out_by_hand",
}


def functions() -> Iterator[str]:
    for path in Path(__file__).parent.glob("test_*.py"):
        yield from (node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef))


def test_every_number_has_a_test() -> None:
    assert set(SHOWN_BY) == {field.name for kind in (Recipe, Augmentation) for field in fields(kind)}
    assert set(SHOWN_BY.values()) <= set(functions())


@pytest.mark.parametrize(
    ("images", "epochs"), [(1, 50), (14, 50), (20, 50), (40, 25), (95, 10), (100, 10), (149, 7), (480, 3), (9000, 3)]
)
def test_epochs_are_what_the_steps_need_within_bounds(images: int, epochs: int) -> None:
    """A hundred steps of batches of ten: so many epochs as come nearest, from 3 to 50."""
    assert Recipe(batch_size=10, steps=100, min_epochs=3, max_epochs=50).epochs(images) == epochs


def test_the_defaults_are_the_measured_ones() -> None:
    """docs/student.md says what each is worth; one that moves by accident is worth something else."""
    assert Recipe() == Recipe(
        image_size=128,
        small_share=0.7,
        oversize=1.25,
        batch_size=32,
        members=2,
        folds=5,
        steps=220,
        min_epochs=6,
        max_epochs=40,
        rate=1.5e-3,
        head_rate=5e-3,
        weight_decay=0.02,
        temperature=1.0,
        smoothing=0.02,
        teacher_share=0.5,
        gold_weight=2.0,
        certainty=0.0,
        balance=1.0,
        vector_weight=0.5,
        frozen=1.0,
        dropout=0.1,
        augmentation=Augmentation(min_crop=0.4, aspect=4 / 3, flip=0.5, light=0.25, color=0.25),
    )
