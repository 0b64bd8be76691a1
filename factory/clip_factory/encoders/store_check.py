"""Whether the store tells the truth: photos are hashed and embedded anew, and held against what it keeps of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clip_factory.encoders.encoder import Encoder, load_encoder
from clip_factory.encoders.region_encoder import for_region
from clip_factory.errors import FactoryError, ImagesError
from clip_factory.images.photo import Photo, read_photo_rgb
from clip_factory.images.scan import forget_hashes, known_files
from clip_factory.progress import Report
from clip_factory.runtime.photo_files import find_images
from clip_factory.runtime.region import Region
from clip_factory.scenario import Teacher
from clip_factory.store import EmbeddingStore

MIN_COSINE = 0.98
"""Of a vector in the store and of the same photo's made now; devices and versions of torch stay above 0.999."""
BATCH = 64
SCAN_CACHE = "scan.sqlite"


@dataclass
class StoreCheck:
    """What a check has found."""

    photos: int = 0
    """Whose files were hashed."""
    vectors: int = 0
    """That were held against new ones."""
    wrong_hashes: list[Path] = field(default_factory=list)
    """Files that the scan's memory takes for other bytes than theirs."""
    wrong_vectors: list[tuple[str, Path]] = field(default_factory=list)
    """Name of the encoder and photo, where the vector is another picture's."""
    not_checked: list[str] = field(default_factory=list)
    """What could not be looked at, and why."""

    @property
    def clean(self) -> bool:
        """Whether nothing wrong was found."""
        return not (self.wrong_hashes or self.wrong_vectors)


def check_store(store: Path, folders: Sequence[Path], progress: Report, *, repair: bool = False) -> StoreCheck:
    """Hash the photos that the store knows, embed them anew, and compare.

    Args:
        store: The store.
        folders: Of photos to check beside those that earlier scans have seen and that are still there.
        progress: Called with (done, total) vectors of an encoder.
        repair: Take out what is wrong; it is computed anew when it is asked for.

    Raises:
        StoreError: A shard is damaged.
    """
    result = StoreCheck()
    remembered = dict(known_files(store / SCAN_CACHE))
    files = {*remembered, *(file.resolve() for folder in folders for file in find_images(folder))}
    photos: dict[str, Photo] = {}
    for file in sorted(files):
        try:
            photo = Photo.of(file)
        except OSError:
            continue  # gone since: whoever needs it will be told
        result.photos += 1
        photos[photo.sha256] = photo
        if remembered.get(file) not in (None, photo.sha256):
            result.wrong_hashes.append(file)
    embedded = EmbeddingStore(store)
    for encoder, region in _encoders(store, result):  # one at a time: each may take gigabytes
        known, wrong = [photo._replace(region=region) for photo in _known(embedded, encoder, photos)], []
        for start in range(0, len(known), BATCH):
            part = known[start : start + BATCH]
            wrong += _wrong(embedded, encoder, part, result)
            progress(start + len(part), len(known))
        result.wrong_vectors += [(encoder.name, photo.path) for photo in wrong]
        if repair and wrong:
            embedded.remove(encoder.key, {photo.sha256 for photo in wrong})
    if repair and result.wrong_hashes:
        forget_hashes(store / SCAN_CACHE, result.wrong_hashes)
    return result


def _encoders(store: Path, result: StoreCheck) -> Iterator[tuple[Encoder, Region | None]]:
    """The encoders whose vectors the store holds, as far as they can be had, and the region that each was shown."""
    for about in sorted((store / "vectors").glob("*/teacher.json")):
        try:
            tree = json.loads(about.read_bytes())
            name = str(tree["name"])
            region = Region.parse(tree["region"]) if "region" in tree else None
            encoder = for_region(load_encoder(Teacher.parse(name)), region)
        except (OSError, ValueError, KeyError, TypeError, FactoryError) as error:
            reason = str(error).splitlines()[0]
            result.not_checked.append(f"{about.parent}: its encoder cannot be loaded ({reason})")
            continue
        if encoder.key == about.parent.name:
            yield encoder, region
        else:
            result.not_checked.append(f"{about.parent}: made by another version of {name}, and not used any more")


def _known(store: EmbeddingStore, encoder: Encoder, photos: dict[str, Photo]) -> list[Photo]:
    return [photos[sha256] for sha256 in sorted(store.known(encoder.key) & photos.keys())]


def _wrong(store: EmbeddingStore, encoder: Encoder, photos: Sequence[Photo], result: StoreCheck) -> list[Photo]:
    """Those of some photos whose vector in the store is not theirs."""
    readable, images = [], []
    for photo in photos:
        try:
            images.append(read_photo_rgb(photo, min_side=encoder.image_size))
            readable.append(photo)
        except ImagesError as error:
            result.not_checked.append(error.what)
    if not readable:
        return []
    result.vectors += len(readable)
    cosines = np.einsum("nd,nd->n", store.get(encoder.key, [p.sha256 for p in readable]), encoder.embed_images(images))
    return [photo for photo, cosine in zip(readable, cosines, strict=True) if not cosine >= MIN_COSINE]
