"""Backbones: their weights, what they are cut from, and which is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from clip_factory.errors import TrainError
from clip_factory.students import backbones
from clip_factory.students.network import Student


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
