"""A folder of photos with their vectors: where every command of this room begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from clip_factory.encoders import (
    EmbeddingStore,
    Encoder,
    embed,
    for_region,
    load_encoder,
    resolve_with_warning,
    with_faster_engine,
)
from clip_factory.errors import ImagesError
from clip_factory.images import sources
from clip_factory.images.photo import Photo
from clip_factory.images.scan import scan
from clip_factory.progress import bar
from clip_factory.runtime.preprocessing import read_rgb
from clip_factory.runtime.region import Region
from clip_factory.scenario import Images, Teacher


@dataclass(frozen=True, eq=False)
class EmbeddedFolder:
    """The photos of a folder that can be read, one row a file, sorted by path; arrays have length N."""

    root: Path
    paths: list[str]
    """POSIX, below `root`."""
    sha256: list[str]
    groups: np.ndarray
    """int `(N,)`: near-duplicates share a number, exact copies too."""
    vectors: np.ndarray
    """float32 `(N, D)`, L2-normalized."""
    encoder: Encoder
    unused: list[tuple[str, str]]
    """Path and reason of each file that was seen and is not used."""
    region: Region | None = None
    """The part of each photo that was embedded; None: the whole."""

    @property
    def files(self) -> list[Path]:
        """The N files."""
        return [self.root / path for path in self.paths]

    @property
    def first_of_content(self) -> np.ndarray:
        """Rows of which no earlier one has the same bytes; int, ascending."""
        return np.sort(np.unique(self.sha256, return_index=True)[1])


def embed_folder(
    images: Path, teacher: Teacher, store: Path, encoder: Encoder | None = None, region: Region | None = None
) -> EmbeddedFolder:
    """Scan a folder or archive of photos and embed those that the store does not hold.

    Args:
        images: Folder, searched recursively; an archive; or a list of addresses.
        teacher: The encoder; `auto` is resolved here, with a warning where it is not the recommended one.
        store: Folder of the embedding store.
        encoder: The loaded encoder, where it is at hand.
        region: The part of each photo that is embedded; None: the whole.

    Raises:
        ImagesError: There are no photos.
        TeacherError: The encoder cannot be loaded.
    """
    root = sources.locate(Images(path=str(images)), store)
    with bar("checking photos") as progress:
        table = scan(root, store / "scan.sqlite", progress, region)
    rows = table.select(["path", "sha256", "group", "reason"]).to_pylist()
    used = [row for row in rows if row["reason"] is None]
    loaded = for_region(encoder or load_named(teacher, len(used)), region)
    kept, names = EmbeddingStore(store), [row["sha256"] for row in used]
    photos = {row["sha256"]: Photo(row["sha256"], root / row["path"], region) for row in used}
    with bar("embedding") as progress:
        embed(loaded, list(photos.values()), kept, teacher.batch_size, progress)
    return EmbeddedFolder(
        root=root,
        paths=[row["path"] for row in used],
        sha256=names,
        groups=np.array([row["group"] for row in used]),
        vectors=kept.get(loaded.key, names),
        encoder=loaded,
        unused=[(row["path"], row["reason"]) for row in rows if row["reason"] is not None],
        region=region,
    )


def embed_images(images: Sequence[Any], encoder: Encoder) -> EmbeddedFolder:
    """Embed images that a caller holds: PIL images, arrays of uint8 `(H, W, 3)`, or paths. Nothing is kept.

    Raises:
        ImagesError: There are none.
        ImageError: A file cannot be read.
    """
    if not len(images):
        raise ImagesError("there are no images", hint="give a folder, or a list of images")
    size = Teacher().batch_size
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    vectors = [encoder.embed_images([_upright(one, encoder) for one in batch]) for batch in batches]
    names = [str(one) if isinstance(one, str | PathLike) else f"image {i}" for i, one in enumerate(images)]
    return EmbeddedFolder(Path(), names, [], np.arange(len(images)), np.concatenate(vectors), encoder, [])


def _upright(one: Any, encoder: Encoder) -> Image.Image:
    if isinstance(one, str | PathLike):
        return read_rgb(Path(one), min_side=encoder.image_size)
    image = one if isinstance(one, Image.Image) else Image.fromarray(one)
    return ImageOps.exif_transpose(image).convert("RGB")


def load_named(teacher: Teacher, photos: int = 0) -> Encoder:
    """The encoder of a name, `auto` among them: with the engine that is faster for so many photos."""
    if teacher.model != "auto":
        return load_encoder(teacher)
    return load_encoder(with_faster_engine(resolve_with_warning(teacher), lambda: photos))


def class_folders(folder: EmbeddedFolder) -> np.ndarray:
    """The name of the top folder that each photo lies in, object `(N,)`; empty for a photo that lies in none."""
    return np.array([path.split("/", 1)[0] if "/" in path else "" for path in folder.paths], object)
