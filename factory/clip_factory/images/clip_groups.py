"""Frames of videos in groups that are split as one: by video where there are many, by blocks of time where not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from clip_factory.images.fixed_camera import BLOCKS, MIN_SHARE, split_into_blocks
from clip_factory.images.frame_names import clip_of, time_of

MIN_CLIPS = 10
"""Videos from which each is split as a whole, also where they are all there is."""
MIN_BLOCK = 5
"""Frames of a block at least: one of them is lost as a gap."""
MAX_SHARE = 2 / BLOCKS
"""Share of the photos up to which blocks that look alike stay together; more would leave too few groups to split."""
SCENE_BITS = 22
"""Two samples that follow one another show one scene where one of their 64-bit hashes differs in at most so many bits.
Of 100,000 pairs of unrelated photos 96 % differ in more; of photos that moved by 6 % of their width, 1 %."""
GAP = "a frame between two blocks of one video: left out, so that neighbors in time are not in two splits"


@dataclass(frozen=True)
class ClipGroups:
    """The groups of N photos, some of them frames of videos."""

    groups: list[int]
    """Numbered by first appearance; -1 of a frame that is left out as a gap."""
    camera: int
    """Photos, not frames of videos, that were cut into blocks; see `split_into_blocks`."""
    says: str
    """What was done with the frames, in a sentence; empty where there are none."""
    doubtful: bool = False
    """Whether test frames may look like training frames."""


def group_clips(
    paths: Sequence[str], sha256s: Sequence[str], hashes: Sequence[tuple[str, str]], near: Sequence[int]
) -> ClipGroups:
    """Groups that splits may not part: near-duplicates, and the frames of a video, or of a block of its time.

    Args:
        paths: N paths of photos, below the folder of the photos.
        sha256s: N hashes of their contents.
        hashes: N perceptual and difference hashes, hex.
        near: N near-duplicate groups.
    """
    clips = [clip_of(path) for path in paths]
    count, frames = len(set(clips) - {None}), sum(clip is not None for clip in clips)
    if not count:
        groups, camera = split_into_blocks(paths, sha256s, near)
        return ClipGroups(groups, camera, "")
    if count < MIN_CLIPS and frames > MIN_SHARE * len(paths):
        return _by_blocks(paths, clips, hashes, near)
    return _by_clip(paths, sha256s, clips, near)


def _by_clip(
    paths: Sequence[str], sha256s: Sequence[str], clips: Sequence[str | None], near: Sequence[int]
) -> ClipGroups:
    """Near-duplicates and whole videos, as long as that does not make one group of most photos."""
    units = [i if clip is None else clip for i, clip in enumerate(clips)]
    joined = _joined(near, units)
    largest, size = Counter(joined).most_common(1)[0]
    says = f"each of {len(set(clips) - {None}):,} videos is in one split, with all that looks like it"
    if size < MIN_SHARE * len(paths):
        return ClipGroups(joined, 0, says)
    photos = [i for i, clip in enumerate(clips) if clip is None]
    blocks, camera = split_into_blocks(
        [paths[i] for i in photos], [sha256s[i] for i in photos], [near[i] for i in photos]
    )
    parts = units.copy()
    for i, block in zip(photos, blocks, strict=True):
        parts[i] = block
    groups = _numbered([(group, part if group == largest else "") for group, part in zip(joined, parts, strict=True)])
    if len({clip for clip, group in zip(clips, joined, strict=True) if group == largest} - {None}) < 2:
        return ClipGroups(groups, camera, says)
    says = (
        f"warning: {size:,} of {len(paths):,} photos are of videos that look alike. Each video is in one split, but"
        " test frames look like training frames: the figures hold for these places, and for no other"
    )
    return ClipGroups(groups, camera, says, doubtful=True)


def _by_blocks(
    paths: Sequence[str], clips: Sequence[str | None], hashes: Sequence[tuple[str, str]], near: Sequence[int]
) -> ClipGroups:
    """Blocks of time of few videos, with a gap after each; blocks that look alike stay together while they are few."""
    frames = sorted((clip, time_of(paths[i]), i) for i, clip in enumerate(clips) if clip is not None)
    size = max(MIN_BLOCK, -(-len(frames) // BLOCKS))
    units: list[Hashable] = list(range(len(paths)))
    gaps = set()
    for clip, rows in groupby(frames, key=lambda frame: frame[0]):
        blocks = _blocks([i for _, _, i in rows], hashes, size)
        for number, block in enumerate(blocks):
            for i in block:
                units[i] = (clip, number)
        gaps |= {block[-1] for block in blocks[:-1]}
    joined = _joined(near, units)
    sizes = Counter(joined)
    apart = {group for group, count in sizes.items() if count > max(MAX_SHARE * len(paths), 2 * size)}
    keys = [
        (group, (units[i] if clips[i] is not None else near[i]) if group in apart else "")
        for i, group in enumerate(joined)
    ]
    kept = iter(_numbered([key for i, key in enumerate(keys) if i not in gaps]))
    groups = [-1 if i in gaps else next(kept) for i in range(len(keys))]
    count = len({units[i] for i, clip in enumerate(clips) if clip is not None})
    says = (
        f"warning: {len(frames):,} frames come from fewer than {MIN_CLIPS} videos: they are split by {count:,} blocks"
        f" of time, with {len(gaps):,} frames between them left out. Test frames show the same places as training"
        " frames: the figures hold for these videos, and for no other"
    )
    return ClipGroups(groups, 0, says, doubtful=True)


def _blocks(rows: Sequence[int], hashes: Sequence[tuple[str, str]], size: int) -> list[list[int]]:
    """A video's frames, in order, in blocks of about `size`, which end with scenes where they can."""
    blocks: list[list[int]] = [[]]
    for scene in _scenes(rows, hashes):
        parts = max(1, round(len(scene) / size))
        for part in np.array_split(np.array(scene), parts):
            if len(blocks[-1]) >= max(MIN_BLOCK, size // 2):
                blocks.append([])
            blocks[-1] += part.tolist()
    if len(blocks) > 1 and len(blocks[-1]) < MIN_BLOCK:
        last = blocks.pop()
        blocks[-1] += last
    return blocks


def _scenes(rows: Sequence[int], hashes: Sequence[tuple[str, str]]) -> list[list[int]]:
    """A video's frames, in order, by scene; a new one begins where the picture changes."""
    scenes: list[list[int]] = []
    for place, row in enumerate(rows):
        if place and _bits_between(hashes[rows[place - 1]], hashes[row]) <= SCENE_BITS:
            scenes[-1].append(row)
        else:
            scenes.append([row])
    return scenes


def _bits_between(one: tuple[str, str], other: tuple[str, str]) -> int:
    """Bits in which the more alike of two pairs of hashes differ."""
    return min((int(a, 16) ^ int(b, 16)).bit_count() for a, b in zip(one, other, strict=True))


def _joined(near: Sequence[int], units: Sequence[Hashable]) -> list[int]:
    """Groups of rows that share a near-duplicate group, or a unit, or are joined by others that do."""
    ends = np.array(near), np.array(_numbered(units)) + max(near) + 1
    nodes = int(ends[1].max()) + 1
    edges = coo_array((np.ones(len(near), np.int8), ends), shape=(nodes, nodes))
    _, labels = connected_components(edges, directed=False)
    return _numbered(labels[ends[0]].tolist())


def _numbered(keys: Sequence[Hashable]) -> list[int]:
    """Numbers in place of keys, by first appearance."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]
