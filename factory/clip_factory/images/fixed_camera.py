"""Frames of a camera that never moves: near-duplicates all, they cannot be split by groups, and are split by blocks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

MIN_FRAMES = 60
"""Photos that look alike, from which they are taken for the frames of a fixed camera."""
MIN_SHARE = 0.5
"""Share of all photos from which such a group leaves no room for a train, a val and a test split."""
BLOCKS = 20
"""Blocks that the frames are cut into."""


def split_into_blocks(paths: Sequence[str], sha256s: Sequence[str], groups: Sequence[int]) -> tuple[list[int], int]:
    """Groups in which the frames of a fixed camera are cut into blocks of neighbors, in the order of their names.

    Frames that were taken one after the other stay together, so that only those at the borders of blocks have their
    like in another split. All blocks show the same place all the same: figures on such a test split say nothing of
    other places.

    Args:
        paths: N paths of photos.
        sha256s: N hashes of their contents; exact copies stay together.
        groups: N near-duplicate groups.

    Returns:
        N groups, numbered by first appearance, and how many photos were cut into blocks: 0 where groups stay as they
        are.
    """
    if not groups:
        return [], 0
    largest, count = Counter(groups).most_common(1)[0]
    if count < MIN_FRAMES or count < MIN_SHARE * len(groups):
        return list(groups), 0
    frames = sorted(
        (_natural(path), i) for i, (path, group) in enumerate(zip(paths, groups, strict=True)) if group == largest
    )
    block_of: dict[str, int] = {}
    for place, (_, i) in enumerate(frames):
        block_of.setdefault(sha256s[i], place * BLOCKS // len(frames))
    keys = [
        (group, block_of[sha256] if group == largest else -1) for group, sha256 in zip(groups, sha256s, strict=True)
    ]
    numbers: dict[tuple[int, int], int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys], count


def warning(frames: int, photos: int) -> str:
    """What a person must know of figures that rest on blocks."""
    return (
        f"warning: {frames:,} of {photos:,} photos look alike, as frames of a fixed camera do: one near-duplicate"
        f" group, which is split by {BLOCKS} blocks in the order of names. Test photos show the same place as"
        " training photos: the figures hold for this camera, and for no other"
    )


def _natural(path: str) -> list[tuple[int, str]]:
    """A key by which `frame9` comes before `frame10`."""
    return [
        (int(part), "") if part.isdigit() and part.isascii() else (-1, part) for part in re.split(r"([0-9]+)", path)
    ]
