"""The peer recipe: what users of small CLIP-distilled classifiers have today, written fresh from its description.

A plain residual net on 64 x 64 RGB in [0, 1], hard labels, focal loss, Adam with steps, batches of 4, 200 epochs, last
weights kept. Photos are decoded once and kept in memory, tensors lie channels-last and Adam is fused, all of which
flatters its time.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

SIZE = 64
EPOCHS = 200
BATCH = 4


class Block(nn.Module):
    """Two 3x3 convolutions and a projected shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs))
        self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, inputs, h, w)` -> `(N, outputs, h / stride, w / stride)`."""
        return F.relu(self.two(self.one(x)) + self.short(x))


def network() -> nn.Sequential:
    """75,074 parameters: float32 `(N, 3, 64, 64)` in [0, 1] -> logits of no and yes `(N, 2)`."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        Block(16, 32, 1),
        Block(32, 64, 2),
        nn.AvgPool2d(7),
        nn.Flatten(),
        nn.Linear(64, 2),
    )


@dataclass(frozen=True)
class PeerResult:
    """What the peer recipe gave."""

    probability: np.ndarray
    """float32 `(N,)`, of yes, for the test images."""
    seconds: float
    """Of training; scaled to 200 epochs when fewer were run."""
    epochs: int
    bytes: int
    """Of the float32 ONNX file."""
    milliseconds: float
    """Median for one image on one core."""


def run(train: np.ndarray, answers: np.ndarray, test: np.ndarray, seed: int, epochs: int = EPOCHS) -> PeerResult:
    """Train and test.

    Args:
        train: uint8 `(N, 64, 64, 3)`.
        answers: bool `(N,)`.
        test: uint8 `(M, 64, 64, 3)`.
        seed: Of weights, order and augmentation.
        epochs: 200 for the recipe itself; fewer only measure the time.
    """
    torch.manual_seed(seed)
    net = network().to(memory_format=torch.channels_last)
    start = time.perf_counter()
    fit(net, torch.from_numpy(train).permute(0, 3, 1, 2), torch.from_numpy(answers).long(), epochs)
    seconds = (time.perf_counter() - start) * EPOCHS / epochs
    net.eval()
    with torch.inference_mode():
        pixels = torch.from_numpy(test).permute(0, 3, 1, 2).float() / 255
        probability = torch.cat([net(part).softmax(1)[:, 1] for part in pixels.split(256)]).numpy()
    size, milliseconds = export(net)
    return PeerResult(probability, seconds, epochs, size, milliseconds)


def fit(net: nn.Module, images: Tensor, answers: Tensor, epochs: int) -> None:
    """Adam 1e-3, weight decay 5e-4, times 0.6 every 30 epochs."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=5e-4, fused=True)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 30, 0.6)
    vary = v2.RandomChoice(
        [
            v2.RandomRotation(30),
            v2.GaussianBlur(3),
            v2.ColorJitter(0.2, 0.2, 0.2, 0.2),
            v2.RandomResizedCrop(SIZE, antialias=True),
        ]
    )
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(BATCH):
            batch = torch.stack([vary(images[row]) for row in rows]).float() / 255
            batch = batch.contiguous(memory_format=torch.channels_last)
            loss = focal(net(batch), answers[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()


def focal(logits: Tensor, answers: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017) of logits `(N, 2)` and answers int64 `(N,)`."""
    each = F.cross_entropy(logits, answers, reduction="none")
    return ((1 - torch.exp(-each)) ** gamma * each).mean()


def export(net: nn.Module) -> tuple[int, float]:
    """Bytes of the ONNX file, and milliseconds an image on one core."""
    import onnxruntime as ort

    file = io.BytesIO()
    torch.onnx.export(net, (torch.zeros(1, 3, SIZE, SIZE),), file, dynamo=False)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(file.getvalue(), options)
    one = {session.get_inputs()[0].name: np.zeros((1, 3, SIZE, SIZE), np.float32)}
    times = []
    for _ in range(200):
        start = time.perf_counter()
        session.run(None, one)
        times.append(time.perf_counter() - start)
    return len(file.getvalue()), float(np.median(times)) * 1000
