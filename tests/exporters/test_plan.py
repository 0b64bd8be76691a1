"""Folding: the plan is the network, as torch folds it; what it does not know it refuses by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from clip_factory.errors import ExportError
from clip_factory.exporters.plan import Op, compute, plan, walk
from clip_factory.students.network import Student
from support.networks import image_of


def student_of(*layers: nn.Module) -> Student:
    return Student("resnet-mini", 16, nn.Sequential(*layers)).eval()


@torch.inference_mode()
def test_the_plan_computes_what_the_network_computes(network: Student, pixels: torch.Tensor) -> None:
    image = image_of(pixels)
    steps = list(walk(plan(network), image))

    assert torch.allclose(steps[-1][3].flatten(), network(pixels), atol=1e-4)
    assert [number for number, *_ in steps] == list(range(len(steps)))


@torch.inference_mode()
def test_each_step_is_the_folded_layer_of_torch(tiny: Student, small: torch.Tensor) -> None:
    block, image = tiny.backbone[0], image_of(small)
    ops = plan(tiny)
    kinds = [(op.kind, op.inputs, op.activation, op.stride, op.pad, op.groups) for op in ops]
    folded = [fuse_conv_bn_eval(*layers[:2]) for layers in (block.stem, block.depthwise, block.project, block.last)]

    assert kinds == [
        ("conv", (-1,), "relu6", 2, 1, 1),
        ("conv", (0,), "hardswish", 1, 2, 8),
        ("mean", (1,), "", 1, 0, 1),
        ("conv", (2,), "relu", 1, 0, 1),
        ("conv", (3,), "hardsigmoid", 1, 0, 1),
        ("mul", (1, 4), "", 1, 0, 1),
        ("conv", (5,), "", 1, 0, 1),
        ("add", (6, 0), "", 1, 0, 1),
        ("conv", (7,), "relu", 2, 0, 1),
        ("mean", (8,), "", 1, 0, 1),
        ("conv", (9,), "", 1, 0, 1),
    ]
    for op, conv in zip((ops[0], ops[1], ops[6], ops[8]), folded, strict=True):
        assert torch.allclose(op.weight, conv.weight, atol=1e-6)
        assert torch.allclose(op.bias, conv.bias, atol=1e-6)
    for op, conv in ((ops[3], block.squeeze), (ops[4], block.excite)):
        assert torch.equal(op.weight, conv.weight) and torch.equal(op.bias, conv.bias)
    assert torch.equal(ops[10].weight[:, :, 0, 0], tiny.head.weight) and torch.equal(ops[10].bias, tiny.head.bias)
    outputs = [output for *_, output in walk(ops, image)]
    assert torch.allclose(outputs[0], block.stem(image), atol=1e-5)
    assert torch.allclose(outputs[8], block(image), atol=1e-4)
    assert outputs[10].shape == (len(small), 1, 1, 1)
    assert torch.allclose(outputs[10].flatten(), tiny(small), atol=1e-4)


def test_the_plan_has_weights_of_its_own(tiny: Student) -> None:
    """Scaling a plan, as calibration does, leaves the network as it is."""
    before = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    for op in plan(tiny):
        if op.weight is not None:
            op.weight.mul_(0)
            op.bias.mul_(0)
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny.state_dict().items())


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("", lambda x: x),
        ("relu", functional.relu),
        ("relu6", functional.relu6),
        ("hardswish", functional.hardswish),
        ("hardsigmoid", functional.hardsigmoid),
    ],
)
def test_operations_are_torchs(activation: str, function: object) -> None:
    x, y = torch.randn(2, 4, 5, 5) * 5, torch.randn(2, 4, 5, 5) * 5
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    op = Op("conv", (0,), activation, conv.weight.detach(), conv.bias.detach(), stride=2, pad=1, groups=2)
    with torch.no_grad():
        assert torch.allclose(compute(op, x), function(conv(x)), atol=1e-6)
        assert torch.allclose(compute(op, x, activate=False), conv(x), atol=1e-6)
        assert torch.equal(compute(Op("add", (0, 1), activation), x, y), function(x + y))
        assert torch.equal(compute(Op("mul", (0, 1), activation), x, y), function(x * y))
        assert torch.equal(compute(Op("mean", (0,), activation), x), function(x.mean((2, 3), keepdim=True)))


class Written(nn.Module):
    """A block whose forward pass is a function."""

    def __init__(self, forward: object) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(3, 128, 1) for _ in range(2))
        self.norm = nn.BatchNorm2d(128)
        self.calculate = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.calculate(self, x)


def added_in_place(self: Written, x: torch.Tensor) -> torch.Tensor:
    y = self.one(x)
    y += self.two(x)
    return y


@torch.inference_mode()
@pytest.mark.parametrize(
    "calculate",
    [
        lambda self, x: self.one(x) + self.two(x),
        lambda self, x: torch.add(self.one(x), self.two(x)),
        added_in_place,
        lambda self, x: self.one(x) * self.two(x),
        lambda self, x: torch.mul(self.one(x), self.two(x)),
        lambda self, x: functional.relu(self.norm(self.one(x))),
    ],
)
def test_both_ways_of_writing_a_sum_and_a_product_are_known(calculate: object) -> None:
    student = student_of(Written(calculate))
    pixels = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    image = image_of(pixels)

    assert torch.allclose(list(walk(plan(student), image))[-1][3].flatten(), student(pixels), atol=1e-4)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Conv2d(3, 128, 1), nn.MaxPool2d(2)], "backbone layer MaxPool2d cannot be exported"),
        (
            [Written(lambda self, x: torch.cat([self.one(x), self.two(x)]))],
            "backbone operation call_function <built-in method cat of type object at 0x",
        ),
        (
            [Written(lambda self, x: self.one(x).abs())],
            "backbone operation call_method abs cannot be exported",
        ),
        (
            [Written(lambda self, x: self.norm(self.one(x) + self.two(x)))],
            "a batch normalization follows add, not a convolution: it cannot be folded",
        ),
        (
            [nn.Conv2d(3, 128, 1), nn.BatchNorm2d(128, track_running_stats=False)],
            "a batch normalization without statistics or weights of its own cannot be folded",
        ),
        (
            [nn.Conv2d(3, 128, 1), nn.BatchNorm2d(128, affine=False)],
            "a batch normalization without statistics or weights of its own cannot be folded",
        ),
    ],
)
def test_what_is_not_known_is_refused_by_name(layers: list[nn.Module], message: str) -> None:
    with pytest.raises(ExportError) as told:
        plan(student_of(*layers))
    assert str(told.value).startswith(message)
    assert str(told.value) == message or message.endswith("0x")
