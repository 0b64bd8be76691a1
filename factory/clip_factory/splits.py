"""Leak-proof train, val and test: a near-duplicate group goes one way, and stays there when photos are added."""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate

SHARES = (("train", 0.70), ("val", 0.15), ("test", 0.15))
NAMES = tuple(name for name, _ in SHARES)
ENDS = tuple(accumulate(share for _, share in SHARES))
"""Where each split's range of numbers ends; the last at 1."""


def assign(sha256s: Sequence[str], groups: Sequence[int], labels: Sequence[bool], seed: int) -> list[str]:
    """A split for each image.

    A group's place is a hash of the seed and of its smallest sha256, as a number in [0, 1): no other photo has a say,
    so photos that are added do not move the old ones. (A photo whose own near-duplicate is added can move with it:
    the two must not be parted.) As the hash knows nothing of labels, each class gets 70/15/15 in expectation, and
    the shares of few groups stray as a coin does. Where that leaves a split without one of the classes, the group of
    that class whose number lies nearest to the split's range moves in, as long as its old split keeps another.

    Args:
        sha256s: Hex sha256 of N images, all different.
        groups: N group ids.
        labels: N answers; a group counts as yes when any of its images does.
        seed: The scenario's seed.

    Returns:
        N names of `NAMES`.
    """
    keys: dict[int, str] = {}
    yes: dict[int, bool] = {}
    for sha256, group, label in zip(sha256s, groups, labels, strict=True):
        keys[group] = min(sha256, keys.get(group, sha256))
        yes[group] = label or yes.get(group, False)
    places = {group: _place(key, seed) for group, key in keys.items()}
    split = {group: _split_at(place) for group, place in places.items()}
    for side in (True, False):
        _fill_empty(split, {g: places[g] for g in places if yes[g] is side})
    return [split[group] for group in groups]


def _place(key: str, seed: int) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8]) / 2**64


def _split_at(place: float) -> str:
    return NAMES[bisect(ENDS[:-1], place)]


def _fill_empty(split: dict[int, str], places: dict[int, float]) -> None:
    """Give every split at least one of these groups, which are all of one class, where there are enough."""
    for (name, share), end in zip(SHARES, ENDS, strict=True):
        middle = end - share / 2
        if any(split[group] == name for group in places):
            continue
        counts = {other: sum(split[g] == other for g in places) for other in NAMES}
        spare = [group for group in places if counts[split[group]] > 1]
        if spare:
            split[min(spare, key=lambda g: (abs(places[g] - middle), g))] = name
