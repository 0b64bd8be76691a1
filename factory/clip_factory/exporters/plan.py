"""A trained student as a short list of plain operations, batch normalization folded in.

The list is the one description that the ONNX writer, the quantizer and the simulation of int8 all read. It knows what
the backbones are made of and nothing else (see `clip_factory.students.backbones`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from clip_factory.errors import ExportError
from clip_factory.students.network import Student

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
}


@dataclass(frozen=True)
class Op:
    """One operation. Tensors are numbered by the operation that makes them; -1 is the normalized image."""

    kind: str
    """`conv`, `add`, `mul` or `mean` (over height and width, both kept as 1)."""
    inputs: tuple[int, ...]
    activation: str = ""
    """What follows at once: a key of ACTIVATIONS."""
    weight: Tensor | None = None
    """conv: float32 `(outputs, inputs / groups, k, k)`."""
    bias: Tensor | None = None
    """conv: float32 `(outputs,)`."""
    stride: int = 1
    pad: int = 0
    groups: int = 1


Plan = list[Op]
"""Operations in order; the last one gives the logit, `(N, 1, 1, 1)`."""


def plan(student: Student) -> Plan:
    """Fold and flatten a student in eval mode.

    Raises:
        ExportError: The backbone holds an operation that this module does not know.
    """
    steps = _Steps(dict(student.backbone.named_modules()))
    graph = _Tracer().trace(student.backbone)
    for node in graph.nodes:
        steps.add_node(node)
    features = steps.output
    pooled = steps.add(Op("mean", (features,)))
    head = student.head
    steps.add(Op("conv", (pooled,), "", head.weight.detach()[:, :, None, None].clone(), head.bias.detach().clone()))
    return steps.ops


def compute(op: Op, *inputs: Tensor, activate: bool = True) -> Tensor:
    """Do one operation in float32."""
    if op.weight is not None:
        x = F.conv2d(inputs[0], op.weight, op.bias, op.stride, op.pad, groups=op.groups)
    elif op.kind == "mean":
        x = inputs[0].mean((2, 3), keepdim=True)
    else:
        x = inputs[0] + inputs[1] if op.kind == "add" else inputs[0] * inputs[1]
    return ACTIVATIONS[op.activation](x) if activate else x


def walk(ops: Plan, image: Tensor) -> Iterator[tuple[int, Op, list[Tensor], Tensor]]:
    """Run in float32, yielding number, operation, inputs and output of each step.

    Args:
        ops: The operations.
        image: float32 `(N, 3, S, S)`, normalized.
    """
    made = {-1: image}
    for number, op in enumerate(ops):
        inputs = [made[i] for i in op.inputs]
        made[number] = compute(op, *inputs)
        yield number, op, inputs, made[number]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        # torch's own layers are leaves by default; timm's normalization with an activation inside is one layer, too
        return type(module).__name__ == "BatchNormAct2d" or bool(super().is_leaf_module(module, name))


class _Steps:
    """Collects operations while a traced graph is read."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.modules = modules
        self.ops: Plan = []
        self.where: dict[str, int] = {}
        self.output = -1

    def add(self, op: Op) -> int:
        self.ops.append(op)
        return len(self.ops) - 1

    def add_node(self, node: fx.Node) -> None:
        inputs = tuple(self.where[a.name] for a in node.args if isinstance(a, fx.Node))
        if node.op == "placeholder":
            self.where[node.name] = -1
        elif node.op == "output":
            self.output = inputs[0]
        elif node.op == "call_module":
            self.where[node.name] = self._module(self.modules[str(node.target)], inputs)
        elif node.op == "call_method" and node.target == "mean":
            self.where[node.name] = self.add(Op("mean", inputs))
        elif node.target in (operator.add, torch.add):
            self.where[node.name] = self.add(Op("add", inputs))
        elif node.target in (operator.mul, torch.mul):
            self.where[node.name] = self.add(Op("mul", inputs))
        elif node.target is F.relu:
            self.where[node.name] = self._activate("relu", inputs[0])
        else:
            raise ExportError(f"backbone operation {node.op} {node.target} cannot be exported")

    def _module(self, module: nn.Module, inputs: tuple[int, ...]) -> int:
        kind = type(module).__name__
        if isinstance(module, nn.Conv2d):
            return self._conv(module, inputs)
        if isinstance(module, nn.BatchNorm2d):
            self._fold(module, inputs[0])
            return self._activate(type(getattr(module, "act", nn.Identity())).__name__, inputs[0])
        if kind in ("Identity", "ReLU", "ReLU6", "Hardswish", "Hardsigmoid"):
            return self._activate(kind, inputs[0])
        raise ExportError(f"backbone layer {kind} cannot be exported")

    def _conv(self, conv: nn.Conv2d, inputs: tuple[int, ...]) -> int:
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().clone()
        stride, pad = conv.stride[0], int(conv.padding[0])
        return self.add(Op("conv", inputs, "", conv.weight.detach().clone(), bias, stride, pad, conv.groups))

    def _fold(self, norm: nn.BatchNorm2d, at: int) -> None:
        """Scale and shift the convolution before a batch normalization instead (Jacob et al. 2018, section 3.2)."""
        op = self.ops[at]
        if op.weight is None or op.bias is None:
            raise ExportError(f"a batch normalization follows {op.kind}, not a convolution: it cannot be folded")
        if norm.running_mean is None or norm.running_var is None or not norm.affine:
            raise ExportError("a batch normalization without statistics or weights of its own cannot be folded")
        scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        bias = (op.bias - norm.running_mean) * scale + norm.bias.detach()
        self.ops[at] = replace(op, weight=op.weight * scale[:, None, None, None], bias=bias)

    def _activate(self, layer: str, at: int) -> int:
        """Attach an activation, by the name of its layer, to the operation before it."""
        if layer != "Identity":
            self.ops[at] = replace(self.ops[at], activation=layer.lower())
        return at
