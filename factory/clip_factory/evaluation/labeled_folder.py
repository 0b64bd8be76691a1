"""A folder of photos and what people say of them, read together: which are labeled, look alike, are left out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clip_factory.errors import GoldError, ImagesError
from clip_factory.gold.gold_csv import read_gold
from clip_factory.images.scan import near_duplicate_groups
from clip_factory.run_folder import sha256_file
from clip_factory.runtime.photo_files import find_images
from clip_factory.runtime.processors import usable_cpus
from clip_factory.runtime.region import Region


@dataclass(frozen=True)
class LabeledFolder:
    """The labeled photos of a folder, one for each distinct content; arrays have length N."""

    root: Path
    path: list[str]
    """POSIX, relative to `root`."""
    sha256: list[str]
    """Hex; of a file that cannot be opened, a stand-in that no content has."""
    truth: np.ndarray
    """bool, whether people say yes."""
    group: np.ndarray
    """int, equal for near-duplicates."""
    unlabeled: int
    """Distinct contents without a label."""
    copies: int
    """Files beside these with the same bytes as another."""
    picked: int
    """Labels left out since people were asked because the photo looked doubtful: such photos are harder than most."""


def read_folder(gold: Path, root: Path, region: Region | None) -> LabeledFolder:
    """Read the photos below `root` and their labels.

    Args:
        gold: CSV with the columns path,label, or the gold.parquet of a review; as `gold_csv.read_gold` takes them.
        root: Folder of photos, searched recursively.
        region: The part of each photo by which near-duplicates are told; None: the whole.

    Raises:
        ImagesError: There are no photos.
        GoldError: The labels cannot be read, name no photo of the folder, contradict themselves, or are none.
    """
    files = find_images(root)
    if not files:
        what = "holds no photos" if root.is_dir() else "there is no such folder"
        raise ImagesError(f"{root}: {what}", hint="name the folder of the labeled photos: --images DIR")
    with ThreadPoolExecutor(usable_cpus()) as pool:
        names = list(pool.map(_content, files))
    paths = [file.relative_to(root).as_posix() for file in files]
    labels = read_gold(gold, pa.table({"path": paths, "sha256": names})).labels
    doubtful = _picked(gold) & set(labels)
    first: dict[str, str] = {}
    for path, name in zip(paths, names, strict=True):
        first.setdefault(name, path)
    chosen = [name for name in first if name in labels and name not in doubtful]
    if not chosen:
        reason = f"all {len(doubtful)} labels were asked for their doubt" if doubtful else "it holds no label"
        raise GoldError(f"{gold}: {reason}: nothing to measure by", hint="label photos drawn at random")
    return LabeledFolder(
        root=root,
        path=[first[name] for name in chosen],
        sha256=chosen,
        truth=np.array([labels[name] for name in chosen], bool),
        group=np.array(near_duplicate_groups(root, [first[name] for name in chosen], region)),
        unlabeled=len(first) - len(labels),
        copies=len(paths) - len(first),
        picked=len(doubtful),
    )


def _content(file: Path) -> str:
    try:
        return sha256_file(file)
    except OSError:
        return f"cannot be opened: {file}"


def _picked(gold: Path) -> set[str]:
    """The sha256 of photos that a review asked about because they looked doubtful."""
    if gold.suffix != ".parquet" or "random" not in pq.read_schema(gold).names:
        return set()
    table = pq.read_table(gold, columns=["sha256", "random"])
    rows = zip(table["sha256"].to_pylist(), table["random"].to_pylist(), strict=True)
    return {sha for sha, random in rows if not random}
