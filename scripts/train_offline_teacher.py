"""Train the heads of the offline teacher on folders of captioned and named photos.

    python scripts/train_offline_teacher.py DATA --cache .cache/offline-teacher | tee docs/offline_teacher_run.log

DATA holds `imagenet_one_each/` (files `SYNSET_name.jpg`), `flickr8k_1000/` and `image_text/`: in any depth, a folder
with `captions.csv` or `captions.txt` (image,caption) beside `images/`, or with `classes.csv` (folder,name) beside
class folders.

First a quarter of the named classes is held out, to measure unseen names and to choose the logit scale; then the
heads are trained on everything and written. Prints the SHA-256 to be put into `factory/teacher/offline.py`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize

from factory.runtime.images import find_images, read_rgb
from factory.teacher.heads import CLASSES, ImageHead, TextHead
from factory.teacher.offline import HEADS, build_tokenizer, build_towers, preprocessing

TEMPLATES = ("{}", "a photo of a {}", "a close-up photo of a {}", "a good photo of a {}", "a picture of a {}")
FOLDERS = ("imagenet_one_each", "flickr8k_1000", "image_text")
CAPTION_WEIGHT, NAME_WEIGHT, CLASS_WEIGHT = 1.0, 0.5, 1.5
BATCH, LEARNING_RATE, TEXT_LEARNING_RATE, WEIGHT_DECAY = 256, 1e-3, 3e-4, 0.05
DEFINITIONS = 0.3
"""How often a class is taught by its WordNet definition: this is where "Siamese" learns that it is a cat."""
SEED = 0


@dataclass(frozen=True)
class Material:
    """Everything the heads learn from; photos are rows of `features`, texts are pooled tower features."""

    features: Tensor  # (N, 1280)
    captioned: Tensor  # (M,) rows
    captions: Tensor  # (M, 5, 384)
    named: Tensor  # (K,) rows
    labels: Tensor  # (K,) index into `names`
    names: list[str]  # C different names
    name_texts: Tensor  # (C, T, 384)
    class_texts: list[Tensor]  # each (1000, T, 384): first names, means over synonyms, definitions

    def without(self, held: Tensor) -> Material:
        """The same without the photos, not even unlabelled, of the names for which `held` (C,) is true."""
        away = held[self.labels]
        keep = torch.ones(len(self.features), dtype=torch.bool)
        keep[self.named[away]] = False
        row = keep.cumsum(0) - 1
        new_label = (~held).cumsum(0) - 1
        return Material(
            self.features[keep],
            row[self.captioned],
            self.captions,
            row[self.named[~away]],
            new_label[self.labels[~away]],
            [name for name, out in zip(self.names, held, strict=True) if not out],
            self.name_texts[~held],
            self.class_texts,
        )


# ------------------------------------------------------------------------------------------------ reading and features


def say(text: str) -> None:
    """One line of the log."""
    print(text, flush=True)


def read_rows(path: Path) -> list[list[str]]:
    """The two columns of a CSV file, without its header."""
    with path.open(newline="", encoding="utf-8") as file:
        return [row[:2] for row in list(csv.reader(file))[1:]]


def read_captions(data: Path) -> dict[Path, list[str]]:
    """Photo -> its captions, from every captions file under `data`."""
    captions: dict[Path, list[str]] = {}
    for table in sorted([*data.rglob("captions.csv"), *data.rglob("captions.txt")]):
        for image, caption in read_rows(table):
            captions.setdefault(table.parent / "images" / image, []).append(caption)
    return captions


def read_named(data: Path) -> dict[Path, str]:
    """Photo -> the name of its class folder, from every classes.csv under `data`."""
    return {
        photo: name
        for table in sorted(data.rglob("classes.csv"))
        for folder, name in read_rows(table)
        for photo in find_images(table.parent / folder)
    }


def class_names() -> tuple[list[list[str]], list[str]]:
    """The 1,000 ImageNet classes' synonyms, best known first, and their WordNet definitions (from timm)."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    names = [[part.strip() for part in info.index_to_description(i).split(",")] for i in range(CLASSES)]
    return names, [info.index_to_description(i, detailed=True) for i in range(CLASSES)]


def cached(path: Path, keys: Sequence[str], compute: Callable[[list[str]], Tensor]) -> Tensor:
    """Rows of `compute` for `keys`, those computed before read from `path` (.npz, no pickles)."""
    known: dict[str, np.ndarray] = {}
    if path.is_file():
        with np.load(path) as file:
            known = dict(zip(file["keys"].tolist(), file["rows"], strict=True))
    missing = [key for key in dict.fromkeys(keys) if key not in known]
    if missing:
        known.update(zip(missing, compute(missing).numpy(), strict=True))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, keys=np.array(list(known)), rows=np.stack(list(known.values())))
    return torch.from_numpy(np.stack([known[key] for key in keys]))


def image_features(model: nn.Module, paths: list[str]) -> Tensor:
    """Pooled features (N, 1280) of N photos; says how far it is."""
    preprocess, trunk, start = preprocessing(model), model.visual.trunk, time.monotonic()
    trunk = trunk.to(memory_format=torch.channels_last)
    rows = []
    with ThreadPoolExecutor() as pool, torch.inference_mode():
        for i in range(0, len(paths), 64):
            batch = torch.stack(list(pool.map(lambda path: preprocess(read_rgb(path)), paths[i : i + 64])))
            rows.append(trunk(batch.to(memory_format=torch.channels_last)))
            if i % 1280 == 0:
                say(f"  images {i + len(batch)}/{len(paths)}, {(i + 64) / (time.monotonic() - start):.0f}/s")
    return torch.cat(rows)


def text_features(model: nn.Module, texts: list[str]) -> Tensor:
    """Mean-pooled features (N, 384) of N texts, by length so that little is padding."""
    tokenize, order = build_tokenizer(), sorted(range(len(texts)), key=lambda i: len(texts[i]))
    model.text.proj, rows = nn.Identity(), []
    with torch.inference_mode():
        for i in range(0, len(texts), 256):
            rows.append(model.text(tokenize([texts[j] for j in order[i : i + 256]])))
            if i % 10240 == 0:
                say(f"  texts {i}/{len(texts)}")
    return torch.cat(rows)[torch.tensor(order).argsort()]


def gather(data: Path, cache: Path, model: nn.Module) -> Material:
    """Read the folders, run both towers over them (or their cache) and lay everything out for training."""
    captions, named = read_captions(data), read_named(data)
    photos = [photo for folder in FOLDERS if (data / folder).is_dir() for photo in find_images(data / folder)]
    row = {photo: i for i, photo in enumerate(photos)}
    synonyms, definitions = class_names()
    names = sorted(set(named.values()))
    say(f"{len(photos)} photos, {len(captions)} with captions, {len(named)} of {len(names)} named classes")

    phrases = [template.format(name) for name in [*chain.from_iterable(synonyms), *names] for template in TEMPLATES]
    texts = list(dict.fromkeys([*phrases, *definitions, *chain.from_iterable(captions.values())]))
    vectors = cached(cache / "texts.npz", texts, lambda missing: text_features(model, missing))
    place = {text: i for i, text in enumerate(texts)}

    def look_up(wanted: Sequence[str]) -> Tensor:
        return vectors[[place[text] for text in wanted]]

    def filled(name: str) -> Tensor:
        return look_up([template.format(name) for template in TEMPLATES])

    return Material(
        features=cached(
            cache / "images.npz",
            [str(photo.relative_to(data)) for photo in photos],
            lambda missing: image_features(model, [str(data / path) for path in missing]),
        ),
        captioned=torch.tensor([row[photo] for photo in captions]),
        captions=torch.stack([look_up((five * 5)[:5]) for five in captions.values()]),
        named=torch.tensor([row[photo] for photo in named]),
        labels=torch.tensor([names.index(name) for name in named.values()]),
        names=names,
        name_texts=torch.stack([filled(name) for name in names]),
        class_texts=[
            torch.stack([filled(group[0]) for group in synonyms]),
            torch.stack([torch.stack([filled(name) for name in group]).mean(0) for group in synonyms]),
            look_up(definitions)[:, None],
        ],
    )


# ------------------------------------------------------------------------------------------------ training


def new_heads(material: Material, classifier: nn.Linear) -> tuple[ImageHead, TextHead]:
    """Heads that start as plain ConSE: the correction is zero and the projection turns the text space as a whole."""
    image, text = ImageHead(), TextHead()
    image.classifier = classifier.requires_grad_(requires_grad=False)
    prototypes = normalize((material.class_texts[0].mean(1) + material.class_texts[1].mean(1)) / 2, dim=-1)
    text.mean = prototypes.mean(0)
    image.prototypes = text.centred(prototypes)
    nn.init.orthogonal_(text.project.weight)
    image.anchor.weight = text.project.weight  # one matrix while training: names move, and their photos with them
    nn.init.zeros_(image.correction[-1].weight)
    nn.init.zeros_(image.correction[-1].bias)
    return image, text


def pick(texts: Tensor) -> Tensor:
    """One of T texts for each of C names: (C, T, 384) -> (C, 384)."""
    return texts[torch.arange(len(texts)), torch.randint(texts.shape[1], (len(texts),))]


def cosines(images: Tensor, texts: Tensor) -> Tensor:
    """(N, D), (C, D) -> (N, C) in [-1, 1]."""
    return normalize(images, dim=-1) @ normalize(texts, dim=-1).T


def train(material: Material, classifier: nn.Linear, steps: int) -> tuple[ImageHead, TextHead]:
    """Train both heads on three losses at once: captions, named folders, the image tower's own class probabilities."""
    torch.manual_seed(SEED)
    image, text = new_heads(material, classifier)
    scales = nn.Parameter(torch.full((3,), 20.0).log())
    groups = [
        {"params": image.correction.parameters(), "weight_decay": WEIGHT_DECAY},
        {"params": text.project.parameters(), "weight_decay": 0.0},
        {"params": [scales], "weight_decay": 0.0},
    ]
    rates = [LEARNING_RATE, TEXT_LEARNING_RATE, LEARNING_RATE]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.1)
    # between a draw by photo and a draw by class: a class of 800 photos is not 20 times one of 40
    chance = torch.bincount(material.labels).float()[material.labels].rsqrt()
    image.train()
    for step in range(1, steps + 1):
        losses = (
            caption_loss(material, image, text, scales[0].exp()),
            name_loss(material, image, text, scales[1].exp(), chance),
            class_loss(material, image, text, scales[2].exp()),
        )
        optimizer.zero_grad()
        (CAPTION_WEIGHT * losses[0] + NAME_WEIGHT * losses[1] + CLASS_WEIGHT * losses[2]).backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            say(f"  step {step}/{steps}: captions {losses[0]:.3f}, names {losses[1]:.3f}, classes {losses[2]:.3f}")
    return image.eval(), text.eval()


def caption_loss(material: Material, image: ImageHead, text: TextHead, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE over a batch of photos and one caption each (Radford et al. 2021, arXiv:2103.00020)."""
    draw = torch.randperm(len(material.captioned))[:BATCH]
    logits = scale * cosines(image(material.features[material.captioned[draw]]), text(pick(material.captions[draw])))
    target = torch.arange(len(draw))
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def name_loss(material: Material, image: ImageHead, text: TextHead, scale: Tensor, chance: Tensor) -> Tensor:
    """Cross-entropy over all folder names, each in a template drawn anew."""
    draw = torch.multinomial(chance, BATCH, replacement=True)
    logits = scale * cosines(image(material.features[material.named[draw]]), text(pick(material.name_texts)))
    return cross_entropy(logits, material.labels[draw])


def class_loss(material: Material, image: ImageHead, text: TextHead, scale: Tensor) -> Tensor:
    """KL from the image tower's class probabilities to the heads' over the class texts (Hinton et al. 2015).

    It keeps what the tower knows of 1,000 classes while the other losses pull; any photo will do for it.
    """
    features = material.features[torch.randint(len(material.features), (BATCH,))]
    names, synonyms, definitions = material.class_texts
    chosen = definitions if torch.rand(()) < DEFINITIONS else (names, synonyms)[int(torch.randint(2, ()))]
    logits = scale * cosines(image(features), text(pick(chosen)))
    target = log_softmax(image.classifier(features), dim=-1)
    return kl_div(log_softmax(logits, dim=-1), target, reduction="batchmean", log_target=True)


# ------------------------------------------------------------------------------------------------ measuring, writing


def unseen_tasks(material: Material, held: Tensor, image: ImageHead, text: TextHead) -> list[tuple[Tensor, Tensor]]:
    """200 tasks of 2 to 10 unseen names: cosines (n, k) of 10 photos a name at most, and labels (n,)."""
    generator = torch.Generator().manual_seed(SEED)
    with torch.inference_mode():
        photos = normalize(image(material.features[material.named]), dim=-1)
        phrases = normalize(normalize(text(material.name_texts[:, 1:]), dim=-1).mean(1), dim=-1)
    tasks = []
    for _ in range(200):
        size = int(torch.randint(2, 11, (), generator=generator))
        pool = held.nonzero()[:, 0]
        names = pool[torch.randperm(len(pool), generator=generator)[:size]]
        rows = [(material.labels == name).nonzero()[:10, 0] for name in names]
        target = torch.cat([torch.full((len(row),), i) for i, row in enumerate(rows)])
        tasks.append((photos[torch.cat(rows)] @ phrases[names].T, target))
    return tasks


def best_scale(tasks: list[tuple[Tensor, Tensor]]) -> float:
    """The factor on cosines whose softmax is likeliest over the tasks (Guo et al. 2017, arXiv:1706.04599)."""
    grid = torch.arange(4.0, 60.0, 0.5)
    return float(min(grid, key=lambda scale: sum(float(cross_entropy(scale * s, y)) for s, y in tasks)))


def write(image: ImageHead, text: TextHead, scale: float, path: Path) -> str:
    """Write the trained tensors in half precision under the teacher's names; returns the SHA-256."""
    tensors = {f"visual.head.{name}": value for name, value in image.state_dict().items()}
    tensors |= {f"text.proj.{name}": value for name, value in text.state_dict().items()}
    tensors = {name: value.half().clone() for name, value in tensors.items() if ".classifier." not in name}
    tensors["logit_scale"] = torch.tensor(scale).log()
    content = save(tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    """Parse, gather, train twice, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the training sets")
    parser.add_argument("--cache", type=Path, default=Path(".cache/offline-teacher"), help="where features are kept")
    parser.add_argument("--out", type=Path, default=HEADS, help="file to write (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=300, help="optimiser steps of each training (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, help="CPU threads; 1 is fastest on a busy machine")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    say(f"python {sys.version.split()[0]}, torch {torch.__version__}, seed {SEED}, steps {args.steps}")
    model = build_towers()
    classifier = model.visual.head.classifier
    material = gather(args.data.resolve(), args.cache, model)

    held = torch.zeros(len(material.names), dtype=torch.bool)
    held[torch.randperm(len(held), generator=torch.Generator().manual_seed(SEED))[: len(held) // 4]] = True
    say(f"training with {int(held.sum())} names held out")
    tasks = unseen_tasks(material, held, *train(material.without(held), classifier, args.steps))
    accuracy = float(torch.stack([(s.argmax(1) == y).float().mean() for s, y in tasks]).mean())
    scale = best_scale(tasks)
    say(f"unseen names, tasks of 2 to 10: top-1 {accuracy:.3f}; logit scale {scale:.1f}")

    say("training on everything")
    digest = write(*train(material, classifier, args.steps), scale, args.out)
    say(f"wrote {args.out.name}: {args.out.stat().st_size} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
