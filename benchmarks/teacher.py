"""Measure a teacher without any training: how well it tells the class folders of a folder apart by their names.

    python benchmarks/teacher.py PHOTOS [--teacher offline] [--templates photo] [--names "sea=sea coast"]

PHOTOS holds one folder a class; the folder's name is the phrase. Prints top-1, recall of each class, expected
calibration error (Guo et al. 2017, arXiv:1706.04599; 15 equal bins) and images a second.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from clip_factory.encoders import Encoder, load_encoder
from clip_factory.label_sources.zero_shot import phrase_probabilities, text_vectors
from clip_factory.runtime.photo_files import find_images
from clip_factory.runtime.preprocessing import read_rgb
from clip_factory.scenario import Teacher as TeacherSpec

BINS = 15


def embed_folder(teacher: Encoder, files: list[Path], batch: int) -> np.ndarray:
    """Unit vectors (N, D) of N photos, decoded by all cores while the network works."""
    with ThreadPoolExecutor() as pool:
        photos = pool.map(lambda path: read_rgb(path, min_side=teacher.image_size), files)
        vectors = [
            teacher.embed_images([next(photos) for _ in files[start : start + batch]])
            for start in range(0, len(files), batch)
        ]
    return np.concatenate(vectors)


def calibration_error(scores: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error in [0, 1] of softmax scores (N, C) against labels (N,); lower is better."""
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        (bins == b).mean() * abs(confidence[bins == b].mean() - right[bins == b].mean())
        for b in range(BINS)
        if (bins == b).any()
    ]
    return float(sum(gaps))


def main() -> None:
    """Embed, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of class folders")
    parser.add_argument("--teacher", default="offline", help="model name as in a scenario (default: %(default)s)")
    parser.add_argument("--pretrained", help="open_clip's tag of the weights, with an open_clip model name")
    parser.add_argument("--templates", default="photo", help="named template set (default: %(default)s)")
    parser.add_argument("--names", nargs="*", default=[], metavar="FOLDER=PHRASE", help="another phrase for a folder")
    parser.add_argument("--batch", type=int, default=64, help="images a forward pass (default: %(default)s)")
    args = parser.parse_args()

    phrases = dict(pair.split("=", 1) for pair in args.names)
    folders = sorted(folder for folder in args.photos.iterdir() if folder.is_dir())
    photos = {folder.name: find_images(folder) for folder in folders}
    files = [path for paths in photos.values() for path in paths]
    labels = np.repeat(np.arange(len(photos)), [len(paths) for paths in photos.values()])

    teacher = load_encoder(TeacherSpec(model=args.teacher, pretrained=args.pretrained))
    texts = text_vectors(teacher, [phrases.get(name, name) for name in photos], args.templates)
    start = time.perf_counter()
    vectors = embed_folder(teacher, files, args.batch)
    seconds = time.perf_counter() - start
    scores = phrase_probabilities(vectors, texts, teacher.logit_scale)
    right = scores.argmax(axis=1) == labels

    print(
        f"{teacher.name} ({teacher.dim}-d, scale {teacher.logit_scale:.1f}) on {args.photos.name}: {len(files)} photos"
    )
    print(
        f"top-1 {right.mean():.4f}   ECE {calibration_error(scores, labels):.4f}   {len(files) / seconds:.1f} images/s"
    )
    for index, name in enumerate(photos):
        print(f"  {phrases.get(name, name):24s} recall {right[labels == index].mean():.3f}")


if __name__ == "__main__":
    main()
