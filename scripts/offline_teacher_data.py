"""What the offline teacher learns from: captioned and named photos as features of the two locked towers, cached."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from clip_factory.encoders.offline import build_tokenizer, preprocessing
from clip_factory.encoders.offline_heads import CLASSES
from clip_factory.runtime.photo_files import find_images
from clip_factory.runtime.preprocessing import read_rgb

TEMPLATES = ("{}", "a photo of a {}", "a close-up photo of a {}", "a good photo of a {}", "a picture of a {}")
FOLDERS = ("imagenet_one_each", "flickr8k_1000", "image_text")


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
        """The same without the photos, not even unlabeled, of the names for which `held` (C,) is true."""
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


def image_features(model: nn.Module, paths: list[str], bfloat16: bool) -> Tensor:
    """Pooled features (N, 1280) of N photos, float32 whatever they were computed in; says how far it is."""
    preprocess, trunk, start = preprocessing(model), model.visual.trunk, time.monotonic()
    trunk = trunk.to(memory_format=torch.channels_last)
    rows = []
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16)
    with ThreadPoolExecutor() as pool, torch.inference_mode(), autocast:
        for i in range(0, len(paths), 64):
            batch = torch.stack(list(pool.map(lambda path: preprocess(read_rgb(path)), paths[i : i + 64])))
            rows.append(trunk(batch.to(memory_format=torch.channels_last)).float())
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


def gather(data: Path, cache: Path, model: nn.Module, bfloat16: bool) -> Material:
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
            cache / ("images_bfloat16.npz" if bfloat16 else "images.npz"),
            [str(photo.relative_to(data)) for photo in photos],
            lambda missing: image_features(model, [str(data / path) for path in missing], bfloat16),
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
