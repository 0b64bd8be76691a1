"""Encoders in onnxruntime against the bare forward pass in torch: speed, agreement, accuracy, memory, in one run.

    python benchmarks/onnx_encoders.py PHOTOS --encoders offline ViT-B-32 RN50 --precisions fp32 int8

PHOTOS holds class folders. Any name but `offline` is one of open_clip's architectures with random weights: they cost
what trained ones cost, and their labels show how far precision moves an answer, not how right it is.

Each round does all on the same photos, one after the other, so that a noisy machine slows them alike; ratios are of
photos a second, the pipeline's (reading, decoding, embedding, storing) over the bare forward pass's.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch

from clip_factory import encoders
from clip_factory.encoders.onnx_export import export_encoder
from clip_factory.encoders.open_clip import OpenClipEncoder, load_offline
from clip_factory.images.photo import Photo
from clip_factory.label_sources.zero_shot import text_vectors
from clip_factory.runtime import find_images, read_rgb
from clip_factory.runtime.onnx_encoder import OnnxEncoder

BATCH = 64
MEASURED = """
import sys
from clip_factory.runtime import ZeroShot
ZeroShot.load(sys.argv[1], low_memory=sys.argv[3] == "low").classify(sys.argv[2], sys.argv[4:])
line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(int(line.split()[1]) * 1024 / 1e6)
"""


def main() -> None:
    """Parse, export, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--encoders", nargs="+", default=["offline", "ViT-B-32"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--count", type=int, default=256, help="photos a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    files = find_images(options.photos)
    paths = [files[i] for i in np.random.default_rng(0).permutation(len(files))[: options.count]]
    classes = sorted({path.relative_to(options.photos).parts[0] for path in map(Path, files)})
    truth = np.array([classes.index(Path(path).relative_to(options.photos).parts[0]) for path in paths])
    for name in options.encoders:
        encoder = load_offline() if name == "offline" else untrained(name)
        with tempfile.TemporaryDirectory() as folder:
            for precision in options.precisions:
                export_encoder(encoder, Path(folder) / precision, precision)
            exported = {one: OnnxEncoder.load(Path(folder) / one) for one in options.precisions}
            compare(name, encoder, exported, [Photo.of(Path(path)) for path in paths], classes, truth, options.rounds)
            for precision in options.precisions:
                for mode in ("normal", "low"):
                    arguments = [sys.executable, "-c", MEASURED, f"{folder}/{precision}", str(options.photos), mode]
                    peak = subprocess.run([*arguments, *classes], capture_output=True, text=True, check=True).stdout
                    print(f"{name} {precision}: {float(peak):.0f} MB at most in a process of its own, {mode} memory")


def untrained(name: str) -> OpenClipEncoder:
    """An architecture of open_clip's with random weights."""
    torch.manual_seed(0)
    network, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=None)
    return OpenClipEncoder(network, preprocess, open_clip.get_tokenizer(name), name=name, license="none: random")


def compare(
    name: str,
    encoder: OpenClipEncoder,
    exported: dict[str, OnnxEncoder],
    photos: list[Photo],
    classes: list[str],
    truth: np.ndarray,
    rounds: int,
) -> None:
    """Print what each precision is in speed, agreement and accuracy."""
    images = [read_rgb(photo.path, min_side=encoder.image_size) for photo in photos[:BATCH]]
    batch = encoder.preprocess(images).to(encoder.device, memory_format=torch.channels_last)
    work: dict[str, Callable[[], object]] = {
        "bare torch": lambda: forward(encoder, batch, len(photos)),
        "torch": lambda: pipeline(encoder, photos),
        **{precision: (lambda one=one: pipeline(one, photos)) for precision, one in exported.items()},
    }
    seconds: dict[str, list[float]] = {label: [] for label in work}
    for function in work.values():
        function()  # warm up
    for _ in range(rounds):
        for label, function in work.items():
            start = time.perf_counter()
            function()
            seconds[label].append(time.perf_counter() - start)
    bare = statistics.median(seconds["bare torch"])
    vectors = {label: pipeline(one, photos) for label, one in {"torch": encoder, **exported}.items()}
    scores = {
        label: vectors[label] @ text_vectors(one, classes, "photo").T
        for label, one in {"torch": encoder, **exported}.items()
    }
    for label, one in vectors.items():
        cosine = (one * vectors["torch"]).sum(axis=1).min()
        same = np.mean(scores[label].argmax(axis=1) == scores["torch"].argmax(axis=1))
        right = np.mean(scores[label].argmax(axis=1) == truth)
        ratio = bare / statistics.median(seconds[label])
        print(
            f"{name} {label}: pipeline {ratio:.2f} times the bare forward pass in torch; least cosine {cosine:.5f}, "
            f"labels agree {same:.1%}, right {right:.1%}, of {len(photos)} photos and {len(classes)} classes"
        )


def forward(encoder: OpenClipEncoder, batch: torch.Tensor, count: int) -> None:
    """The bare forward pass over `count` photos that lie in memory, preprocessed."""
    with torch.inference_mode():
        for first in range(0, count, BATCH):
            encoder.network.encode_image(batch[: min(BATCH, count - first)], normalize=True)


def pipeline(encoder: encoders.Encoder, photos: list[Photo]) -> np.ndarray:
    """Vectors of photos, by reading, decoding, embedding and storing them."""
    with tempfile.TemporaryDirectory() as folder:
        store = encoders.EmbeddingStore(Path(folder))
        encoders.embed(encoder, photos, store, BATCH, lambda done, total: None)
        return store.get(encoder.key, [photo.sha256 for photo in photos])


if __name__ == "__main__":
    main()
