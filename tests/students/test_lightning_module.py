"""The training step: losses, optimizer, frozen modules, sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from clip_factory.students import backbones
from clip_factory.students.augmentation import augment, resize
from clip_factory.students.lightning_module import Distillation, fused
from clip_factory.students.network import Student
from clip_factory.students.recipe import Recipe
from clip_factory.students.training_data import derive_seed

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")  # there is no trainer


@pytest.mark.parametrize("name", list(backbones.BACKBONES))
def test_fused_modules_say_the_same_of_any_number_and_size(name: str) -> None:
    entry = backbones.get(name)
    modules = backbones.pretrained(entry)[: entry.freezable].eval()
    with torch.inference_mode():
        graph = fused(modules, torch.rand(1, 3, 64, 64))
        for count, side in ((1, 64), (3, 96), (2, 40)):
            pixels = torch.rand(count, 3, side, side)
            assert torch.allclose(graph(pixels), modules(pixels), atol=1e-4)


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


def step_by_hand(module: Distillation, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
    """The loss of one step as docs/student.md has it, written out without the shortcuts of the module."""
    recipe, student = module.recipe, module.student
    dice = torch.manual_seed(derive_seed(module.seed, module.current_epoch, index))
    pixels = augment(batch["images"], module._size(), recipe.augmentation, dice)
    features = student.features(pixels)
    logits = student.head(functional.dropout(features, recipe.dropout))[:, 0]
    p = logits.sigmoid()
    entropy = -(batch["target"] * p.log() + (1 - batch["target"]) * (1 - p).log())
    vectors = module.vector_head(features)
    cosines = (vectors * batch["vectors"]).sum(1) / vectors.norm(dim=1) / batch["vectors"].norm(dim=1)
    return (batch["weight"] * entropy).mean() + recipe.vector_weight * (1 - cosines).mean()


@pytest.mark.parametrize(
    "changes", [{}, {"dropout": 0.4}, {"vector_weight": 2.0}, {"small_share": 0.0}, {"frozen": 0.0}]
)
def test_the_loss_is_cross_entropy_and_the_distance_of_the_vectors(changes: dict[str, float]) -> None:
    module, batch = distillation(replace(Recipe(), **changes))
    batch["weight"] = torch.linspace(0.2, 1.8, 6)
    batch["target"] = torch.tensor([1.0, 0.0, 0.7, 0.2, 0.5, 0.9])
    module.eval()  # batch normalization by its running statistics, in both
    for index in (0, 1):
        assert module.training_step(batch, index).item() == pytest.approx(
            step_by_hand(module, batch, index).item(), abs=1e-4
        )


def test_steps_are_drawn_from_seed_epoch_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    module, batch = distillation(Recipe())
    module.eval()
    first = module.training_step(batch, 0).item()

    assert module.training_step(batch, 0).item() == first
    assert module.training_step(batch, 1).item() != first
    monkeypatch.setattr(Distillation, "current_epoch", 1)
    assert module.training_step(batch, 0).item() != first
    monkeypatch.undo()
    module.seed = 1
    assert module.training_step(batch, 0).item() != first


def test_the_loss_that_is_logged_is_that_of_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, tuple[float, dict[str, object]]] = {}
    monkeypatch.setattr(
        Distillation, "log", lambda self, name, value, **how: logged.update({name: (float(value), how)})
    )
    module, batch = distillation(replace(Recipe(), vector_weight=0.0))
    module.eval()
    loss = module.training_step(batch, 0)

    assert logged == {"train_loss": (pytest.approx(loss.item()), {"on_step": False, "on_epoch": True, "batch_size": 1})}
    assert loss.requires_grad


def test_dropout_takes_its_share_of_the_features_in_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[torch.Tensor] = []

    def seen(dropout: float, *, validate: bool = False) -> torch.Tensor:
        module, batch = distillation(replace(Recipe(), dropout=dropout))
        module.eval()
        module.student.head.register_forward_pre_hook(lambda _, inputs: heads.append(inputs[0].detach()))
        (module.validation_step if validate else module.training_step)(batch, 0)
        return heads.pop()

    plain, dropped = seen(0.0), seen(0.4)
    taken = (dropped == 0) & (plain != 0)
    assert taken[plain != 0].float().mean() == pytest.approx(0.4, abs=0.05)
    assert torch.allclose(dropped[~taken], plain[~taken] / 0.6, rtol=1e-4)
    assert torch.equal(seen(0.4, validate=True), seen(0.0, validate=True))


def test_validation_is_on_whole_images_at_the_size_of_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[dict[str, float], int]] = []
    monkeypatch.setattr(
        Distillation,
        "log_dict",
        lambda self, values, batch_size: logged.append(({k: float(v) for k, v in values.items()}, batch_size)),
    )
    module, batch = distillation(Recipe())
    module.eval()
    batch["weight"], batch["target"] = torch.linspace(0.2, 1.8, 6), torch.tensor([1.0, 0.0, 0.7, 0.2, 0.5, 0.9])
    module.student.head.bias.data += 0.02
    with torch.no_grad():
        module.validation_step(batch, 0)
        logits = module.student.one_view(resize(batch["images"], 48))
    wanted = functional.binary_cross_entropy(logits.sigmoid(), batch["target"], batch["weight"])
    agreeing = [(z > 0) == (t > 0.5) for z, t in zip(logits.tolist(), batch["target"].tolist(), strict=True)]

    ((values, size),) = logged
    assert size == 6
    assert values == {
        "val_loss": pytest.approx(wanted.item(), abs=1e-5),
        "val_agreement": pytest.approx(sum(agreeing) / 6),
    }
    assert 0 < sum(agreeing) < 6


def test_without_vectors_there_is_no_second_head() -> None:
    module, _ = distillation(Recipe(), dim=0)

    assert module.vector_head is None
    heads = module.configure_optimizers()["optimizer"].param_groups[2]["params"]
    assert {id(p) for p in heads} == {id(p) for p in module.student.head.parameters()}


@pytest.mark.parametrize(("share", "expected"), [(1.0, 3), (0.7, 2), (0.3, 1), (0.0, 0)])
def test_so_large_a_share_of_what_can_be_spared_is_frozen(share: float, expected: int) -> None:
    module, _ = distillation(Recipe(frozen=share))
    learning = [[p.requires_grad for p in layer.parameters()] for layer in module.student.backbone]

    assert backbones.get("resnet-mini").freezable == 3
    assert module.frozen_modules == expected
    assert not any(flag for layer in learning[:expected] for flag in layer)
    assert all(flag for layer in learning[expected:] for flag in layer)


def test_rates_rise_for_a_fifth_of_the_steps_and_fall_to_nothing() -> None:
    """One cycle, Smith and Topin 2018: peaks at the recipe's rates, the head's above the others'."""
    module, _ = distillation(Recipe(rate=0.001, head_rate=0.004))
    setting = module.configure_optimizers()
    optimizer, schedule = setting["optimizer"], setting["lr_scheduler"]
    rates = []
    for _ in range(30):  # 10 epochs of 3 batches
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule["scheduler"].step()
    peaks = np.array(rates)

    assert schedule["interval"] == "step"
    assert isinstance(optimizer, torch.optim.AdamW)
    assert peaks.max(axis=0) == pytest.approx([0.001, 0.001, 0.004], rel=0.02)
    assert peaks.argmax(axis=0).tolist() == [6, 6, 6]
    assert optimizer.param_groups[0]["lr"] < 1e-6, "nothing is left after the last step"


def test_weights_decay_and_biases_and_norms_do_not() -> None:
    module, _ = distillation(Recipe(weight_decay=0.02))
    decay = {
        id(p): g["weight_decay"] for g in module.configure_optimizers()["optimizer"].param_groups for p in g["params"]
    }
    learning = {name: p for name, p in module.named_parameters() if p.requires_grad}

    assert set(decay) == {id(p) for p in learning.values()}, "each is trained, and once"
    for name, parameter in learning.items():
        is_head = name.startswith(("student.head", "vector_head"))
        assert decay[id(parameter)] == (0.02 if is_head or parameter.ndim == 4 else 0.0), name
    assert {p.ndim for p in learning.values()} == {1, 2, 4}


def test_the_result_is_the_student_at_rest() -> None:
    module, _ = distillation(Recipe())
    module.train()

    assert module.result() is module.student
    assert not module.student.training


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
